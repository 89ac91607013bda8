//! What a run tells while it runs: stderr and `out.log`, TensorBoard, `train.jsonl`, `results.jsonl` and `loss.svg`.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::TrainError;
use crate::memory::MemoryUse;
use crate::report::plot::Plot;
use crate::report::results;
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

/// Figures of one optimizer step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct StepFigures {
    /// Optimizer steps of the run, this one included.
    pub step: u64,
    /// Epoch, from zero.
    pub epoch: u64,
    /// Loss before the step: what is minimised.
    pub loss: f64,
    /// Its contrastive part.
    pub contrastive_loss: f64,
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
    /// Samples in the step.
    #[serde(skip)]
    pub samples: usize,
}

impl StepFigures {
    /// OpenCLIP's names of the losses, and those that there are.
    fn losses(&self) -> [(&'static str, Option<f64>); 4] {
        [
            ("Contrastive_loss", Some(self.contrastive_loss)),
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

/// The run folder's log files.
pub struct Journal {
    dir: PathBuf,
    title: String,
    /// Absent on all ranks but the first, which then writes nothing.
    log: Option<File>,
    /// Lines go to stderr as well.
    echo: bool,
    tensorboard: Option<EventWriter>,
    wandb: Option<Offline>,
    /// Steps since the last line of the log.
    window: Vec<StepFigures>,
    epoch: u64,
    /// Sums over the epoch's steps of [`StepFigures::losses`].
    epoch_losses: [f64; 4],
    epoch_steps: u64,
    plotted: Option<Instant>,
}

impl Journal {
    /// Opens the files of `dir`, which exist already when a run is resumed at step `resumed_at`.
    pub fn open(
        dir: &Path,
        title: &str,
        tensorboard: bool,
        echo: bool,
        resumed_at: Option<u64>,
    ) -> Result<Self, TrainError> {
        let path = dir.join(LOG);
        let log = OpenOptions::new().append(true).create(true).open(&path);
        let tensorboard =
            tensorboard.then(|| EventWriter::create(&dir.join("tensorboard"), resumed_at));
        Ok(Self {
            dir: dir.to_owned(),
            title: title.to_owned(),
            log: Some(log.map_err(|source| TrainError::Write { path, source })?),
            echo,
            tensorboard: tensorboard.transpose()?,
            ..Self::silent()
        })
    }

    /// One that writes nothing.
    pub fn silent() -> Self {
        Self {
            dir: PathBuf::new(),
            title: String::new(),
            log: None,
            echo: false,
            tensorboard: None,
            wandb: None,
            window: Vec::new(),
            epoch: 0,
            epoch_losses: [0.0; 4],
            epoch_steps: 0,
            plotted: None,
        }
    }

    /// One that writes to stderr alone.
    pub fn unkept() -> Self {
        Self {
            echo: true,
            ..Self::silent()
        }
    }

    /// Has the scalars written to an offline run of Weights & Biases as well.
    pub fn report_to(&mut self, run: Offline) {
        self.wandb = Some(run);
    }

    /// Nothing more will come.
    pub fn finish(&mut self) -> Result<(), TrainError> {
        self.wandb.take().map_or(Ok(()), Offline::finish)
    }

    /// Whether lines go to stderr as well.
    pub fn echoes(&self) -> bool {
        self.echo
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
        let now = jiff::Zoned::now().strftime("%Y-%m-%d,%H:%M:%S");
        let line = format!("{now} | {level} | {message}\n");
        // A log that cannot be written must not end the run, and there is nowhere to say so.
        let _ = self.log.as_mut().map(|log| log.write_all(line.as_bytes()));
        if self.echo {
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }

    /// Takes the figures of a step; `status` asks for a line with the means since the last one.
    pub fn step(
        &mut self,
        figures: StepFigures,
        status: Option<RunStatus>,
    ) -> Result<(), TrainError> {
        if self.log.is_none() && !self.echo {
            return Ok(());
        }
        if figures.epoch != self.epoch {
            (self.epoch, self.epoch_losses, self.epoch_steps) = (figures.epoch, [0.0; 4], 0);
        }
        for (sum, (_, loss)) in self.epoch_losses.iter_mut().zip(figures.losses()) {
            *sum += loss.unwrap_or(0.0);
        }
        self.epoch_steps += 1;
        self.window.push(figures);
        let Some(status) = status else { return Ok(()) };
        let window = std::mem::take(&mut self.window);
        if self.log.is_some() {
            results::append_all(&self.dir.join(STEPS), &window)?;
        }
        let mean = |pick: fn(&StepFigures) -> f64| {
            window.iter().map(pick).sum::<f64>() / window.len() as f64
        };
        let (data, batch) = (mean(|f| f.data_time), mean(|f| f.batch_time));
        let rate = mean(|f| f.samples as f64) / batch;
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
            ("train/contrastive_loss", figures.contrastive_loss),
            ("train/loss", figures.loss),
        ];
        for (name, value) in [
            ("train/distill_loss", figures.distill_loss),
            ("train/caption_loss", figures.caption_loss),
            ("train/loss_scale", figures.loss_scale),
        ] {
            scalars.extend(value.map(|value| (name, value)));
        }
        scalars.extend(status.memory.scalars());
        if let Some(writer) = &mut self.tensorboard {
            writer.scalars(figures.step, &scalars)?;
            writer.flush()?;
        }
        if let Some(run) = &mut self.wandb {
            scalars.push(("step", figures.step as f64));
            run.scalars(figures.step, &scalars)?;
        }
        if self
            .plotted
            .is_none_or(|last| last.elapsed() > PLOT_INTERVAL)
        {
            self.plot()?;
        }
        Ok(())
    }

    /// Takes the metrics of an evaluation after `epoch` epochs and `step` steps.
    pub fn evaluation(
        &mut self,
        epoch: u64,
        step: u64,
        metrics: &[(String, f64)],
    ) -> Result<(), TrainError> {
        if self.log.is_none() && !self.echo {
            return Ok(());
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
        if self.log.is_some() {
            results::append(&self.dir.join(RESULTS), &entry)?;
        }
        let mut named: Vec<_> = metrics
            .iter()
            .map(|(name, value)| (format!("val/{name}"), *value))
            .collect();
        if let Some(writer) = &mut self.tensorboard {
            writer.scalars(epoch, &named)?;
            writer.flush()?;
        }
        if let Some(run) = &mut self.wandb {
            named.push(("epoch".into(), epoch as f64));
            run.scalars(step, &named)?;
        }
        self.plot()
    }

    /// Draws `loss.svg` from the files, so that a resumed run shows its whole history.
    pub fn plot(&mut self) -> Result<(), TrainError> {
        if self.log.is_none() {
            return Ok(());
        }
        self.plotted = Some(Instant::now());
        let number = |entry: &Value, key: &str| entry[key].as_f64();
        let mut loss: Vec<(f64, f64)> = Vec::new();
        for entry in results::read(&self.dir.join(STEPS))? {
            if let (Some(step), Some(value)) = (number(&entry, "step"), number(&entry, "loss")) {
                // A resumed run repeats the steps after its checkpoint.
                while loss.last().is_some_and(|(last, _)| *last >= step) {
                    loss.pop();
                }
                loss.push((step, value));
            }
        }
        let mut metrics: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
        for entry in results::read(&self.dir.join(RESULTS))? {
            let Some(step) = number(&entry, "step") else {
                continue;
            };
            for (name, value) in entry.as_object().into_iter().flatten() {
                let shown = ["R@1", "-top1", "-top5", "clip_val_loss"];
                if let Some(value) = value.as_f64()
                    && shown.iter().any(|suffix| name.ends_with(suffix))
                {
                    match metrics.iter_mut().find(|(known, _)| known == name) {
                        Some((_, points)) => points.push((step, value)),
                        None => metrics.push((name.clone(), vec![(step, value)])),
                    }
                }
            }
        }
        Plot::of_training(&self.title, loss, metrics).write_svg(&self.dir.join(PLOT))
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
