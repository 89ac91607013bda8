//! What a run tells while it runs: stderr and `out.log`, TensorBoard, `train.jsonl`, `results.jsonl` and `loss.svg`.
//!
//! A file that cannot be written is told of once and never ends a run: what is missing from it comes later.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Map, json};

use crate::TrainError;
use crate::loading::{Loading, Watch};
use crate::memory::MemoryUse;
use crate::report::append::{AppendFile, News};
use crate::report::drawer::Drawer;
use crate::report::history::History;
use crate::report::results::{self, Damage};
use crate::report::tensorboard::EventWriter;
use crate::report::wandb::Offline;

/// Every line of console output.
pub const LOG: &str = "out.log";
/// One JSON object per evaluation.
pub const RESULTS: &str = "results.jsonl";
/// One JSON object per optimizer step.
pub const STEPS: &str = "train.jsonl";
const PLOT: &str = "loss.svg";
const PLOT_INTERVAL: Duration = Duration::from_secs(20);
/// Bytes of `train.jsonl` that wait for the next line of the log at most.
const STEPS_WAITING: usize = 64 << 10;

/// Figures of one optimizer step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct StepFigures {
    /// Optimizer steps of the run, this one included.
    pub step: u64,
    /// Epoch, from zero.
    pub epoch: u64,
    /// Loss before the step: what is minimised.
    pub loss: f64,
    /// Its contrastive part, where captions are learned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contrastive_loss: Option<f64>,
    /// The teacher's part, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distill_loss: Option<f64>,
    /// The captions' part, where the model writes any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caption_loss: Option<f64>,
    /// Learning rate.
    pub lr: f64,
    /// `exp` of the parameter, after the step.
    pub logit_scale: f64,
    /// Over all gradients, before clipping.
    pub grad_norm: f64,
    /// What the gradient was multiplied with in narrow floats, before the next step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<f64>,
    /// Seconds spent waiting for the batch.
    pub data_time: f64,
    /// Seconds from batch to batch.
    pub batch_time: f64,
    /// What the loader did for it.
    #[serde(flatten)]
    pub loading: Loading,
    /// Samples in the step.
    #[serde(skip)]
    pub samples: usize,
}

impl StepFigures {
    /// OpenCLIP's names of the losses, and those that there are.
    fn losses(&self) -> [(&'static str, Option<f64>); 4] {
        [
            ("Contrastive_loss", self.contrastive_loss),
            ("Distill_loss", self.distill_loss),
            ("Caption_loss", self.caption_loss),
            ("Loss", Some(self.loss)),
        ]
    }
}

/// How far a run has come, for a line of the log.
#[derive(Debug, Clone, Copy)]
pub struct RunStatus {
    /// Samples of this epoch seen.
    pub samples: u64,
    /// Samples of an epoch.
    pub epoch_samples: u64,
    /// Steps left in the whole run.
    pub steps_left: u64,
    /// Memory in use.
    pub memory: MemoryUse,
}

/// How a journal is kept.
#[derive(Debug, Clone, Default)]
pub struct JournalOptions {
    /// Name of the run, above its plot.
    pub title: String,
    /// What the loss is called there.
    pub loss: String,
    /// Whether scalars go to TensorBoard.
    pub tensorboard: bool,
    /// Whether lines go to stderr as well.
    pub echo: bool,
    /// The step at which the run is resumed.
    pub resumed_at: Option<u64>,
}

/// The run folder's log files.
pub struct Journal {
    /// Absent on all ranks but the first, which then writes nothing.
    log: Option<AppendFile>,
    /// Lines go to stderr as well.
    echo: bool,
    steps: AppendFile,
    results: AppendFile,
    tensorboard: Option<EventWriter>,
    wandb: Option<Offline>,
    drawer: Option<Drawer>,
    /// Of the steps since the last line of the log.
    window: Window,
    watch: Watch,
    epoch: u64,
    /// Sums over the epoch's steps of [`StepFigures::losses`].
    epoch_losses: [f64; 4],
    epoch_steps: u64,
    plotted: Option<Instant>,
}

/// Sums over some steps.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    steps: f64,
    data_time: f64,
    batch_time: f64,
    samples: f64,
    loading: Loading,
}

impl Journal {
    /// Opens the files of `dir`, which exist already when a run is resumed.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn open(dir: &Path, options: JournalOptions) -> Result<Self, TrainError> {
        let JournalOptions {
            title,
            loss,
            tensorboard,
            echo,
            resumed_at,
        } = options;
        let file = |name: &str| AppendFile::new(dir.join(name));
        let mut log = file(LOG);
        log.check()?;
        let mut journal = Self::silent();
        (journal.log, journal.echo) = (Some(log), echo);
        journal.steps = file(STEPS).repaired(results::repair);
        journal.results = file(RESULTS).repaired(results::repair).durable();
        journal.tensorboard =
            tensorboard.then(|| EventWriter::new(&dir.join("tensorboard"), resumed_at));
        let mut history = History::default();
        let read = [
            (STEPS, history.read_steps(&dir.join(STEPS))),
            (RESULTS, history.read_results(&dir.join(RESULTS))),
        ];
        for (name, damage) in read {
            match damage {
                Ok(None) => {}
                Ok(Some(Damage {
                    line,
                    reason,
                    lines,
                })) => journal.warn(format!(
                    "{}: {lines} damaged lines, the first is line {line} ({reason}): {PLOT} goes without them",
                    dir.join(name).display(),
                )),
                Err(error) => journal.warn(format!("{error}; {PLOT} begins without it")),
            }
        }
        match Drawer::start(dir.join(PLOT), history, title, loss) {
            Ok(drawer) => journal.drawer = Some(drawer),
            Err(error) => journal.tell(Some(News::Failed(error))),
        }
        Ok(journal)
    }

    /// One that writes nothing.
    pub fn silent() -> Self {
        Self {
            log: None,
            echo: false,
            steps: AppendFile::nowhere(),
            results: AppendFile::nowhere(),
            tensorboard: None,
            wandb: None,
            drawer: None,
            window: Window::default(),
            watch: Watch::default(),
            epoch: 0,
            epoch_losses: [0.0; 4],
            epoch_steps: 0,
            plotted: None,
        }
    }

    /// One that writes to stderr alone.
    pub fn unkept() -> Self {
        let mut journal = Self::silent();
        journal.echo = true;
        journal
    }

    /// Says how many threads load.
    pub fn loads_with(&mut self, workers: usize) {
        self.watch = Watch::new(workers);
    }

    /// Has the scalars written to an offline run of Weights & Biases as well.
    pub fn report_to(&mut self, run: Offline) {
        self.wandb = Some(run);
    }

    /// Nothing more will come.
    pub fn finish(&mut self) {
        let ended = self.wandb.take().and_then(Offline::finish);
        self.tell(ended);
        self.settle();
    }

    /// Brings to the disk what waits, and draws the last plot. Lines of the log may still come.
    pub fn settle(&mut self) {
        for line in self.watch.sum_up() {
            self.info(line);
        }
        self.flush();
        let drawn = self.drawer.take().and_then(|mut drawer| drawer.finish());
        self.tell(drawn);
    }

    /// A line for the reader.
    pub fn info(&mut self, message: impl AsRef<str>) {
        self.line("INFO", message.as_ref());
    }

    /// A line for the reader that should not be overlooked.
    pub fn warn(&mut self, message: impl AsRef<str>) {
        self.line("WARNING", message.as_ref());
    }

    fn line(&mut self, level: &str, message: &str) {
        let mut lines = dated(level, message);
        if let Some(log) = &mut self.log {
            log.append(lines.as_bytes());
            // A log that fails can only say so on the terminal, until it is written again.
            if let Some((level, message)) = log.flush().map(worded) {
                let line = dated(level, &message);
                log.append(line.as_bytes());
                lines += &line;
            }
        }
        if self.echo {
            let _ = std::io::stderr().write_all(lines.as_bytes());
        }
    }

    fn tell(&mut self, news: Option<News>) {
        if let Some((level, message)) = news.map(worded) {
            self.line(level, &message);
        }
    }

    /// Writes to the files what waits.
    fn flush(&mut self) {
        let news = [
            self.steps.flush(),
            self.results.flush(),
            self.tensorboard.as_mut().and_then(EventWriter::flush),
            self.wandb.as_mut().and_then(Offline::flush),
            self.drawer.as_ref().and_then(Drawer::news),
        ];
        news.into_iter().for_each(|news| self.tell(news));
    }

    /// Takes the figures of a step; `status` asks for a line with the means since the last one.
    pub fn step(&mut self, figures: StepFigures, status: Option<RunStatus>) {
        if self.log.is_none() && !self.echo {
            return;
        }
        if figures.epoch != self.epoch {
            (self.epoch, self.epoch_losses, self.epoch_steps) = (figures.epoch, [0.0; 4], 0);
        }
        for (sum, (_, loss)) in self.epoch_losses.iter_mut().zip(figures.losses()) {
            *sum += loss.unwrap_or(0.0);
        }
        self.epoch_steps += 1;
        self.window.steps += 1.0;
        self.window.data_time += figures.data_time;
        self.window.batch_time += figures.batch_time;
        self.window.samples += figures.samples as f64;
        self.window.loading += figures.loading;
        self.steps.append(&results::line(&figures));
        if let Some(drawer) = &self.drawer {
            drawer.add(|history| history.step(figures.step, figures.loss));
        }
        let Some(status) = status else {
            if self.steps.waiting() > STEPS_WAITING {
                let news = self.steps.flush();
                self.tell(news);
            }
            return;
        };
        let window = std::mem::take(&mut self.window);
        let (data, batch) = (
            window.data_time / window.steps,
            window.batch_time / window.steps,
        );
        let rate = window.samples / window.batch_time;
        let losses = figures.losses().into_iter().zip(self.epoch_losses);
        let losses = losses.filter_map(|((name, loss), sum)| {
            let (loss, mean) = (loss?, sum / self.epoch_steps as f64);
            Some(format!("{name}: {loss:.5} ({mean:.5})"))
        });
        let losses = losses.collect::<Vec<_>>().join(" ");
        let scale = figures.loss_scale;
        let scale = scale.map_or_else(String::new, |scale| format!(" Loss scale: {scale}"));
        let digits = status.epoch_samples.to_string().len();
        self.info(format!(
            "Train Epoch: {} [{:>digits$}/{} ({:.0}%)] Data (t): {data:.3} ({:.0}%) Batch (t): {batch:.3}, {rate:.1}/s \
             LR: {:.6} Logit Scale: {:.3} {losses} Grad norm: {:.3}{scale} Mem: {} Left: {}",
            figures.epoch,
            status.samples,
            status.epoch_samples,
            100.0 * status.samples as f64 / status.epoch_samples as f64,
            100.0 * data / batch,
            figures.lr,
            figures.logit_scale,
            figures.grad_norm,
            status.memory,
            duration(status.steps_left as f64 * batch),
        ));
        let mut scalars = vec![
            ("train/data_time", data),
            ("train/batch_time", batch),
            ("train/samples_per_second", rate),
            ("train/samples_per_second_per_gpu", rate),
            ("train/scale", figures.logit_scale),
            ("train/lr", figures.lr),
            ("train/grad_norm", figures.grad_norm),
            ("train/loss", figures.loss),
        ];
        for (name, value) in [
            ("train/contrastive_loss", figures.contrastive_loss),
            ("train/distill_loss", figures.distill_loss),
            ("train/caption_loss", figures.caption_loss),
            ("train/loss_scale", figures.loss_scale),
        ] {
            scalars.extend(value.map(|value| (name, value)));
        }
        scalars.extend(status.memory.scalars());
        scalars.extend(window.loading.scalars(window.batch_time));
        if let Some(advice) = self.watch.look(window.loading, window.batch_time) {
            self.warn(advice);
        }
        if let Some(writer) = &mut self.tensorboard {
            writer.scalars(figures.step, &scalars);
        }
        if let Some(run) = &mut self.wandb {
            scalars.push(("step", figures.step as f64));
            run.scalars(figures.step, &scalars);
        }
        let drawn = self.plotted;
        if drawn.is_none_or(|last| last.elapsed() > PLOT_INTERVAL) {
            self.plot();
        }
        self.flush();
    }

    /// Takes the metrics of an evaluation after `epoch` epochs and `step` steps.
    pub fn evaluation(&mut self, epoch: u64, step: u64, metrics: &[(String, f64)]) {
        if self.log.is_none() && !self.echo {
            return;
        }
        let shown = metrics
            .iter()
            .map(|(name, value)| format!("{name}: {value:.4}"));
        self.info(format!(
            "Eval Epoch: {epoch} {}",
            shown.collect::<Vec<_>>().join("\t")
        ));
        let mut entry = Map::new();
        entry.extend(
            metrics
                .iter()
                .map(|(name, value)| (name.clone(), json!(value))),
        );
        entry.insert("epoch".into(), json!(epoch));
        entry.insert("step".into(), json!(step));
        self.results.append(&results::line(&entry));
        let mut named: Vec<_> = metrics
            .iter()
            .map(|(name, value)| (format!("val/{name}"), *value))
            .collect();
        if let Some(writer) = &mut self.tensorboard {
            writer.scalars(epoch, &named);
        }
        if let Some(run) = &mut self.wandb {
            named.push(("epoch".into(), epoch as f64));
            run.scalars(step, &named);
        }
        if let Some(drawer) = &self.drawer {
            for (name, value) in metrics {
                drawer.add(|history| history.metric(step, name, *value));
            }
        }
        self.plot();
        self.flush();
    }

    /// Has `loss.svg` drawn.
    pub fn plot(&mut self) {
        self.plotted = Some(Instant::now());
        if let Some(drawer) = &self.drawer {
            drawer.draw();
        }
    }
}

impl Drop for Journal {
    /// A run that fails leaves the figures of its last steps.
    fn drop(&mut self) {
        self.flush();
    }
}

/// A line of the log.
fn dated(level: &str, message: &str) -> String {
    let now = jiff::Zoned::now().strftime("%Y-%m-%d,%H:%M:%S");
    format!("{now} | {level} | {message}\n")
}

/// Level and text of what a file has to tell.
fn worded(news: News) -> (&'static str, String) {
    match news {
        News::Failed(error) => (
            "WARNING",
            format!(
                "{error}; the run goes on, and what is missing there is written as soon as it can be"
            ),
        ),
        News::Mended { path, lost: 0 } => (
            "INFO",
            format!(
                "{} is written again, and nothing is missing",
                path.display()
            ),
        ),
        News::Mended { path, lost } => (
            "WARNING",
            format!(
                "{} is written again; {lost} entries are missing",
                path.display()
            ),
        ),
    }
}

/// `75` → `1m15s`.
fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s:02}s"),
        (h, m, _) => format!("{h}h{m:02}m"),
    }
}
