//! What the loader does for the steps: rates by stage, queues, and what the trainer waits for.

use std::ops::AddAssign;
use std::time::Duration;

use openclip_data::loader::{Batch, Stage, Timing, advice};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

/// Sums over the batches of some steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loading {
    timing: Timing,
    samples: u64,
}

impl Loading {
    /// Of the micro-batches of a step.
    pub fn of<'a>(batches: impl IntoIterator<Item = &'a Batch>) -> Self {
        let mut all = Self::default();
        for batch in batches {
            all.timing += batch.timing;
            all.samples += batch.size as u64;
        }
        all
    }

    /// Whether nothing was loaded.
    pub fn is_empty(&self) -> bool {
        self.samples == 0
    }

    /// Stages that take time, with the images that they do in a second of their thread's time. The source has one thread, the others
    /// share the workers.
    fn rates(&self) -> impl Iterator<Item = (Stage, f64)> {
        let Timing {
            source,
            file,
            transform,
            tokenize,
            ..
        } = self.timing;
        let samples = self.samples as f64;
        let stages = [
            (Stage::Source, source),
            (Stage::File, file),
            (Stage::Decoding, transform),
            (Stage::Tokenizing, tokenize),
        ];
        // What takes a microsecond is no stage of its own.
        let takes_time = move |(_, time): &(Stage, Duration)| time.as_secs_f64() > 2e-6 * samples;
        let stages = stages.into_iter().filter(takes_time);
        stages.map(move |(stage, time)| (stage, samples / time.as_secs_f64()))
    }

    /// Means over the visits of the trainer: batches ready, and samples waiting for a worker. `None` before the second visit.
    fn queues(&self) -> Option<[f64; 2]> {
        let queues = self.timing.queues;
        let mean = |sum: u64| sum as f64 / queues.visits as f64;
        (queues.visits > 0).then(|| [mean(queues.batches), mean(queues.samples)])
    }

    /// The time in which the trainer could wait, of `elapsed` seconds: all but the filling of an empty pipeline.
    fn time(&self, elapsed: f64) -> f64 {
        (elapsed - self.timing.waits.start.as_secs_f64()).max(1e-9)
    }

    /// Names in TensorBoard with their values, for steps that took `elapsed` seconds.
    pub fn scalars(&self, elapsed: f64) -> Vec<(&'static str, f64)> {
        let time = self.time(elapsed);
        let waits = self.timing.waits;
        let share = |wait: Duration| wait.as_secs_f64() / time;
        let mut scalars = vec![("train/loader/wait_share", share(waits.behind_start()))];
        for (stage, wait) in Stage::ALL.into_iter().zip(waits.stages) {
            let name = match stage {
                Stage::Source => "train/loader/wait_share_source",
                Stage::File => "train/loader/wait_share_file",
                Stage::Decoding => "train/loader/wait_share_decode",
                Stage::Tokenizing => "train/loader/wait_share_tokenize",
                Stage::Assembling => "train/loader/wait_share_assemble",
            };
            scalars.push((name, share(wait)));
        }
        scalars.extend(self.rates().filter_map(|(stage, rate)| {
            let name = match stage {
                Stage::Source => "train/loader/source_images_per_s",
                Stage::File => "train/loader/file_images_per_core_s",
                Stage::Decoding => "train/loader/decode_images_per_core_s",
                Stage::Tokenizing => "train/loader/tokenize_images_per_core_s",
                Stage::Assembling => return None,
            };
            Some((name, rate))
        }));
        if let Some([batches, samples]) = self.queues() {
            scalars.push(("train/loader/batches_ready", batches));
            scalars.push(("train/loader/samples_waiting", samples));
        }
        scalars
    }

    /// One line about steps that took `elapsed` seconds.
    pub fn summary(&self, elapsed: f64, workers: usize) -> String {
        let time = self.time(elapsed);
        let waits = self.timing.waits;
        let percent = |wait: Duration| 100.0 * wait.as_secs_f64() / time;
        let stages = Stage::ALL.into_iter().zip(waits.stages);
        let parts: Vec<String> = stages
            .filter(|(_, wait)| percent(*wait) >= 0.5)
            .map(|(stage, wait)| format!("{} {:.0} %", stage.name(), percent(wait)))
            .collect();
        let parts = match parts.is_empty() {
            true => String::new(),
            false => format!(" ({})", parts.join(", ")),
        };
        let rates: Vec<String> = self
            .rates()
            .map(|(stage, rate)| format!("{} {rate:.0}", stage.name()))
            .collect();
        let queues = self.queues().map(|[batches, samples]| {
            format!("; {batches:.1} batches ready and {samples:.0} samples waiting on average")
        });
        format!(
            "Loader: the trainer waited {:.0} % of the time{parts} and {:.1} s for the first batches of epochs; images/s of one \
             thread: {}, {workers} workers{}",
            percent(waits.behind_start()),
            waits.start.as_secs_f64(),
            rates.join(", "),
            queues.unwrap_or_default()
        )
    }

    /// What the trainer waits for in steps that took `elapsed` seconds, and what to do about it; `None` when it hardly waits.
    pub fn advice(&self, elapsed: f64, workers: usize) -> Option<(Stage, String)> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let time = Duration::from_secs_f64(self.time(elapsed));
        advice(&self.timing.waits, time, workers, cores)
    }
}

/// Steps whose waits are looked at take at least so many seconds: fewer say little.
const TELLING: f64 = 5.0;

/// What is told of the loader in a run.
#[derive(Debug, Default)]
pub struct Watch {
    workers: usize,
    whole: Loading,
    seconds: f64,
    told: Vec<Stage>,
}

impl Watch {
    /// Of a loader with so many workers.
    pub fn new(workers: usize) -> Self {
        Self {
            workers,
            ..Self::default()
        }
    }

    /// Takes steps that took `elapsed` seconds, and gives what is to be said of their waits: once for each stage.
    pub fn look(&mut self, loading: Loading, elapsed: f64) -> Option<String> {
        self.whole += loading;
        self.seconds += elapsed;
        if elapsed < TELLING {
            return None;
        }
        let (stage, advice) = loading.advice(elapsed, self.workers)?;
        let is_news = !self.told.contains(&stage);
        is_news.then(|| {
            self.told.push(stage);
            advice
        })
    }

    /// Lines about all steps since the last call; none without any.
    pub fn sum_up(&mut self) -> Vec<String> {
        let (whole, seconds) = (std::mem::take(&mut self.whole), self.seconds);
        self.seconds = 0.0;
        if whole.is_empty() {
            return Vec::new();
        }
        let advice = whole.advice(seconds, self.workers);
        let lines = [
            Some(whole.summary(seconds, self.workers)),
            advice.map(|(_, text)| text),
        ];
        lines.into_iter().flatten().collect()
    }
}

impl AddAssign for Loading {
    fn add_assign(&mut self, other: Self) {
        self.timing += other.timing;
        self.samples += other.samples;
    }
}

/// The fields of a line of `train.jsonl`: seconds of the threads by stage, seconds that the trainer waited by stage, and what it found.
impl Serialize for Loading {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Timing {
            source,
            file,
            transform,
            tokenize,
            waits,
            queues,
        } = self.timing;
        let seconds = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e6;
        let named = Stage::ALL.into_iter().zip(waits.stages);
        let named = named.map(|(stage, wait)| (stage.name(), wait));
        let waited: Map<String, Value> = [("start", waits.start)]
            .into_iter()
            .chain(named)
            .filter(|(_, wait)| !wait.is_zero())
            .map(|(name, wait)| (name.to_owned(), json!(seconds(wait))))
            .collect();
        let fields = json!({
            "source_time": seconds(source),
            "file_time": seconds(file),
            "decode_time": seconds(transform),
            "tokenize_time": seconds(tokenize),
            "waits": waited,
            "batches_ready": queues.batches,
            "samples_waiting": queues.samples,
        });
        fields.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openclip_data::loader::{Queues, Waits};

    fn loading() -> Loading {
        let seconds = Duration::from_secs;
        let batch = |start, decode| Batch {
            size: 100,
            timing: Timing {
                source: Duration::from_millis(100),
                transform: seconds(2),
                tokenize: Duration::from_millis(20),
                waits: Waits {
                    start: seconds(start),
                    stages: [0, 0, decode, 0, 0].map(seconds),
                },
                queues: Queues {
                    visits: 1,
                    batches: 1,
                    samples: 30,
                },
                ..Timing::default()
            },
            ..Batch::default()
        };
        Loading::of(&[batch(5, 0), batch(0, 3)])
    }

    #[test]
    fn a_line_says_what_was_waited_for_and_how_fast_the_stages_are() {
        let loading = loading();
        assert_eq!(
            loading.summary(15.0, 4),
            "Loader: the trainer waited 30 % of the time (decode 30 %) and 5.0 s for the first batches of epochs; \
             images/s of one thread: source 1000, decode 50, tokenize 5000, 4 workers; 1.0 batches ready and 30 samples waiting on average"
        );
        let advice = loading.advice(15.0, 4).map(|(stage, _)| stage);
        assert_eq!(advice, Some(Stage::Decoding));
        assert_eq!(loading.advice(105.0, 4), None);
        let scalars = loading.scalars(15.0);
        let of = |name: &str| {
            scalars
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| *value)
        };
        assert_eq!(of("train/loader/wait_share"), Some(0.3));
        assert_eq!(of("train/loader/wait_share_decode"), Some(0.3));
        assert_eq!(of("train/loader/decode_images_per_core_s"), Some(50.0));
        assert_eq!(of("train/loader/file_images_per_core_s"), None);
        assert_eq!(of("train/loader/batches_ready"), Some(1.0));
        assert!(Loading::default().is_empty() && !loading.is_empty());
    }

    #[test]
    fn a_wait_is_told_of_once_and_at_the_end() {
        let mut watch = Watch::new(1);
        assert!(watch.sum_up().is_empty());
        assert_eq!(watch.look(loading(), 4.9), None, "too short to tell");
        let told = watch.look(loading(), 15.0).unwrap_or_default();
        assert!(
            told.starts_with("waiting for decode 30 % of the time: "),
            "{told}"
        );
        assert_eq!(watch.look(loading(), 15.0), None);
        let lines = watch.sum_up();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[1].starts_with("waiting for decode 45 %"), "{lines:?}");
        assert!(watch.sum_up().is_empty());
        assert_eq!(watch.look(loading(), 1000.0), None);
        assert_eq!(watch.sum_up().len(), 1);
    }

    #[test]
    fn a_step_has_the_same_in_seconds() {
        assert_eq!(
            json!(loading()),
            json!({
                "source_time": 0.2, "file_time": 0.0, "decode_time": 4.0, "tokenize_time": 0.04,
                "waits": {"start": 5.0, "decode": 3.0}, "batches_ready": 2, "samples_waiting": 60,
            })
        );
    }
}
