//! Checkpoints that are whole or not there.
//!
//! A checkpoint is a folder with `model.safetensors` and `open_clip_config.json` (so that it is a `local-dir:` of its own),
//! `optimizer.bpk` and, written last, `state.json` with the counters and a checksum of each file. The folder is filled
//! under a name that starts with a dot and renamed once everything is on disk; a folder without `state.json`, or with
//! one that does not fit, is never resumed from.
//!
//! * [`folder`] – writing one folder, and giving its files a second name
//! * [`find`] – the newest one that is whole
//! * [`keep`] – which older ones may go
//! * [`saver`] – when one is due, and writing it while the run goes on

pub mod find;
pub mod folder;
pub mod keep;
pub mod saver;

use std::path::{Path, PathBuf};

use burn::optim::OptimizerRecord;
use serde::{Deserialize, Serialize};

use crate::{TrainError, guard};

pub use find::{Found, latest, open};
pub use folder::Snapshot;
pub use keep::{Retention, sweep};
pub use saver::{SavePlan, Saver, Saving};

/// Folder of a run that holds its checkpoints.
pub const CHECKPOINTS: &str = "checkpoints";
/// File that holds the weights.
pub const MODEL: &str = "model.safetensors";
/// File that holds the average of the weights, where there is one.
pub const EMA: &str = "ema.safetensors";
/// File that makes a folder a checkpoint; written last.
pub const STATE: &str = "state.json";
/// Name under which `--save-most-recent` keeps the newest checkpoint.
pub const LATEST: &str = "latest";
/// Name under which `--keep-best` keeps the best one.
pub const BEST: &str = "best";
const OPTIMIZER: &str = "optimizer.bpk";

/// Where a run stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Completed epochs.
    pub epoch: u64,
    /// Optimizer steps of the whole run.
    pub step: u64,
    /// Optimizer steps of the current epoch.
    pub step_in_epoch: u64,
    /// Items of the source used in the current epoch.
    pub cursor: u64,
    /// Samples trained on.
    pub samples_seen: u64,
    /// What `cursor` is on every rank, in their order; set when a checkpoint is saved.
    #[serde(default)]
    pub cursors: Vec<u64>,
    /// What the judge of the steps remembers.
    #[serde(default)]
    pub guard: guard::Memory,
}

impl Progress {
    /// The same where `rank` of `world_size` ranks goes on.
    ///
    /// Samples that are numbered go to the ranks in turns. Where another number of ranks shares what is left of an epoch, they
    /// go on behind the samples that all former ranks together have used.
    pub fn of_rank(&self, rank: usize, world_size: usize) -> Self {
        let used = match self.cursors.as_slice() {
            [] => self.cursor,
            cursors => cursors.iter().sum(),
        };
        let turns = used.saturating_sub(rank as u64).div_ceil(world_size as u64);
        let cursor = match self.cursors.len() == world_size {
            true => self.cursors.get(rank).copied().unwrap_or(turns),
            false => turns,
        };
        Self {
            cursor,
            ..self.clone()
        }
    }
}

/// What `state.json` says.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    #[serde(flatten)]
    progress: Progress,
    /// Of a checkpoint kept as the best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metric: Option<Metric>,
    files: Vec<FileEntry>,
}

/// What stands before the checksum of all that comes before it, at the end of `state.json`.
const SEAL: &str = ",\n  \"crc32\": ";
const END: &str = "\n}";

impl State {
    fn to_json(&self) -> serde_json::Result<String> {
        let text = serde_json::to_string_pretty(self)?;
        let body = text.strip_suffix(END).unwrap_or(&text);
        let checksum = crc32fast::hash(body.as_bytes());
        Ok(format!("{body}{SEAL}{checksum}{END}"))
    }

    fn from_json(json: &[u8]) -> serde_json::Result<Self> {
        let fault = |reason: String| serde::de::Error::custom(reason);
        let text = std::str::from_utf8(json).map_err(|error| fault(error.to_string()))?;
        let sealed = text.rsplit_once(SEAL);
        let sealed = sealed.and_then(|(body, rest)| Some((body, rest.strip_suffix(END)?)));
        let body = sealed
            .filter(|(body, checksum)| *checksum == crc32fast::hash(body.as_bytes()).to_string());
        let Some((body, _)) = body else {
            return Err(fault("it does not have its checksum".into()));
        };
        let state: Self = serde_json::from_str(&format!("{body}{END}"))?;
        // It may come from elsewhere, and these files are written beside it.
        let is_plain = |name: &str| !name.starts_with('.') && !name.contains(['/', '\\']);
        match state.files.iter().find(|file| !is_plain(&file.name)) {
            Some(file) => Err(fault(format!("{:?} is no name of a file", file.name))),
            None => Ok(state),
        }
    }
}

/// Names of the files that the text of a `state.json` lists; none if it is damaged.
pub fn files(state: &[u8]) -> Vec<String> {
    let state = State::from_json(state);
    let files = state.map(|state| state.files).unwrap_or_default();
    files.into_iter().map(|file| file.name).collect()
}

/// The step that the text of a `state.json` speaks of; nothing if it is damaged.
pub fn step(state: &[u8]) -> Option<u64> {
    Some(State::from_json(state).ok()?.progress.step)
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct FileEntry {
    name: String,
    bytes: u64,
    crc32: u32,
}

/// A measured value by which checkpoints are compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// As in `results.jsonl`.
    pub name: String,
    /// The value.
    pub value: f64,
}

impl Metric {
    /// Whether this beats `other`, which may measure something else and then never wins.
    pub fn beats(&self, other: Option<&Metric>) -> bool {
        let Some(other) = other.filter(|other| other.name == self.name) else {
            return self.value.is_finite();
        };
        match lower_is_better(&self.name) {
            true => self.value < other.value,
            false => self.value > other.value,
        }
    }
}

/// Losses and ranks fall as a model learns; accuracies and recalls rise.
fn lower_is_better(metric: &str) -> bool {
    metric.contains("loss") || metric.contains("rank")
}

/// A complete checkpoint.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// The folder.
    pub path: PathBuf,
    /// Where the run stood.
    pub progress: Progress,
}

/// The optimizer's state, if the checkpoint folder `path` has one.
///
/// # Errors
/// [`TrainError::Incomplete`] when the file cannot be read.
pub fn optimizer(path: &Path) -> Result<Option<OptimizerRecord>, TrainError> {
    let path = path.join(OPTIMIZER);
    if !path.exists() {
        return Ok(None);
    }
    let record = OptimizerRecord::load(&path);
    record.map(Some).map_err(|error| TrainError::Incomplete {
        path,
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{Metric, Progress, State};

    fn metric(name: &str, value: f64) -> Metric {
        Metric {
            name: name.into(),
            value,
        }
    }

    /// Numbers of any length keep their checksum on the way through the file.
    #[test]
    fn a_state_is_read_as_it_was_written() {
        let mut seed = 1_u64;
        for _ in 0..2_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let state = State {
                progress: Progress {
                    step: seed >> 33,
                    ..Progress::default()
                },
                metric: Some(metric("loss", f64::from_bits(seed >> 2))),
                files: Vec::new(),
            };
            let text = state.to_json().unwrap();
            let read = State::from_json(text.as_bytes()).unwrap();
            assert_eq!(read.progress, state.progress);
            for at in 0..text.len() {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1;
                assert!(
                    !seed.is_multiple_of(100) || State::from_json(&bytes).is_err(),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn losses_and_ranks_are_better_when_lower() {
        for (name, better, worse) in [
            ("clip_val_loss", 1.0, 2.0),
            ("image_to_text_mean_rank", 3.0, 4.0),
            ("image_to_text_R@1", 0.5, 0.4),
            ("imagenet-zeroshot-val-top1", 0.7, 0.6),
        ] {
            let (better, worse) = (metric(name, better), metric(name, worse));
            assert!(better.beats(Some(&worse)) && !worse.beats(Some(&better)));
            assert!(!better.beats(Some(&better)));
            assert!(worse.beats(None) && worse.beats(Some(&metric("another", 9.0))));
        }
        assert!(!metric("clip_val_loss", f64::NAN).beats(None));
    }
}
