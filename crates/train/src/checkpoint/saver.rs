//! When a checkpoint is due, and which of those that are due are worth it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::folder::Snapshot;
use super::keep::Retention;
use super::layout::{BEST, LATEST};
use super::metric::Metric;
use super::state::State;
use super::writer::{Content, Job, Writer};
use crate::journal::Journal;
use crate::{TrainConfig, TrainError};

/// What the flags say about saving.
#[derive(Debug, Clone, Default)]
pub struct Saving {
    /// Nothing is saved.
    pub nothing: bool,
    /// Epochs between checkpoints; 0 saves the last alone.
    pub every_epochs: u64,
    /// Steps between checkpoints within epochs.
    pub every_steps: Option<u64>,
    /// Time between checkpoints within epochs.
    pub every: Option<Duration>,
    /// Keep the newest end of an epoch as [`LATEST`].
    pub most_recent: bool,
    /// The metric whose best checkpoint is kept as [`BEST`].
    pub best: Option<String>,
    /// What may go.
    pub retention: Retention,
}

impl From<&TrainConfig> for Saving {
    fn from(config: &TrainConfig) -> Self {
        let minutes = |minutes| Duration::from_secs_f64(60.0 * minutes);
        Self {
            nothing: config.run_dir().is_none(),
            every_epochs: config.save_frequency,
            every_steps: config.save_every_n_steps,
            every: config.save_every_minutes.map(minutes),
            most_recent: config.save_most_recent,
            best: config.keep_best.clone(),
            retention: Retention {
                steps: config.keep_last,
                newest_only: config.delete_previous_checkpoint,
            },
        }
    }
}

/// What is to be done about a step once it is through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SavePlan {
    /// Write a checkpoint.
    Save {
        /// Its name.
        name: String,
        /// The run fails if this cannot be written.
        must: bool,
        /// Keep it as [`LATEST`] as well.
        recent: bool,
    },
    /// Keep a snapshot until the evaluation has shown whether it is the best.
    Hold,
}

impl SavePlan {
    /// Whether the run is to end or stop with it.
    pub fn is_last(&self) -> bool {
        matches!(self, Self::Save { must: true, .. })
    }

    /// What it is called in messages.
    pub fn name(&self) -> &str {
        match self {
            Self::Save { name, .. } => name,
            Self::Hold => BEST,
        }
    }
}

/// Hands checkpoints to a thread of their own and never waits for it before the end of the run.
///
/// Weights are those that a step leaves behind, and only the next step shows what they are worth. A checkpoint within an epoch is
/// therefore kept back until a step was taken from it; where none follows soon, the caller has looked at the weights.
pub struct Saver {
    saving: Saving,
    /// Start of the run, or when the last checkpoint was taken.
    saved: Instant,
    /// The best so far.
    best: Option<Metric>,
    /// The end of an epoch that has yet to be evaluated.
    epoch: Option<Epoch>,
    /// The last checkpoint within an epoch, until a step was taken from it.
    unproven: Option<Job>,
    /// Where the run went on from.
    start: Option<PathBuf>,
    /// Whether this run has taken a step.
    proven: bool,
    /// Whether the last step could not be taken.
    doubted: bool,
    writer: Writer,
}

enum Epoch {
    Saved(String),
    Held(Box<Snapshot>),
}

impl Saver {
    /// For the folder `dir`, from whose checkpoint `start` the run goes on.
    pub fn new(dir: PathBuf, saving: Saving, start: Option<PathBuf>) -> Self {
        let best = saving.best.as_ref();
        let best = best.and_then(|_| State::read(&dir.join(BEST)).ok());
        Self {
            best: best.and_then(|state| state.metric),
            saving,
            saved: Instant::now(),
            epoch: None,
            unproven: None,
            start,
            proven: false,
            doubted: false,
            writer: Writer::new(dir),
        }
    }

    /// The newest complete checkpoint.
    pub fn newest(&self) -> Option<&Path> {
        let newest = self.writer.newest().or(self.start.as_ref());
        newest.map(PathBuf::as_path)
    }

    /// The newest complete checkpoint that a step could be taken from.
    pub fn good(&self) -> Option<&Path> {
        self.newest()
            .filter(|_| self.proven || self.writer.newest().is_some())
    }

    /// Whether the time between checkpoints is over.
    pub fn is_overdue(&self) -> bool {
        let every = self.saving.every;
        every.is_some_and(|every| self.saved.elapsed() >= every)
    }

    /// What to do after `step`, which completes `epoch` epochs if it is an epoch's last, and is the `last` of the run, or
    /// the one at which it is stopped. Every rank has the same plan.
    pub fn plan(
        &self,
        step: u64,
        epoch: Option<u64>,
        overdue: bool,
        last: bool,
    ) -> Option<SavePlan> {
        let Saving {
            nothing,
            every_epochs,
            every_steps,
            most_recent,
            ..
        } = self.saving;
        if nothing {
            return None;
        }
        let is_step_due =
            last || overdue || every_steps.is_some_and(|steps| step.is_multiple_of(steps));
        let name = match epoch {
            Some(epoch) if last || (every_epochs > 0 && epoch.is_multiple_of(every_epochs)) => {
                format!("epoch_{epoch}")
            }
            _ if is_step_due => format!("step_{step}"),
            Some(_) if most_recent => LATEST.to_owned(),
            Some(_) if self.saving.best.is_some() => return Some(SavePlan::Hold),
            _ => return None,
        };
        Some(SavePlan::Save {
            recent: most_recent && epoch.is_some() && name != LATEST,
            must: last,
            name,
        })
    }

    /// Does it, and returns at once. `rotates` says whether older checkpoints may go for it.
    pub fn save(
        &mut self,
        plan: SavePlan,
        snapshot: Snapshot,
        rotates: bool,
        journal: &mut Journal,
    ) {
        let ends_epoch = snapshot.progress.step_in_epoch == 0;
        let snapshot = Box::new(snapshot);
        let SavePlan::Save { name, must, recent } = plan else {
            self.epoch = Some(Epoch::Held(snapshot));
            return;
        };
        self.saved = Instant::now();
        let retention = match rotates {
            true => self.saving.retention,
            false => Retention::default(),
        };
        let job = Job {
            name: name.clone(),
            must,
            metric: None,
            content: Content::Snapshot(snapshot, retention),
        };
        if !ends_epoch && !must {
            self.unproven = Some(job);
            return;
        }
        // One that still waits for proof is of the same weights.
        self.unproven = None;
        self.writer.submit(job, journal);
        if recent {
            self.copy(&name, LATEST, None, journal);
        }
        self.epoch = ends_epoch.then_some(Epoch::Saved(name));
    }

    /// A step was taken: the weights before it were good.
    pub fn proved(&mut self, journal: &mut Journal) {
        (self.proven, self.doubted) = (true, false);
        if let Some(job) = self.unproven.take() {
            self.writer.submit(job, journal);
        }
    }

    /// No step could be taken from the last weights, so far.
    pub fn doubted(&mut self) {
        self.doubted = true;
    }

    /// Keeps the end of the epoch just evaluated if its metrics are the best.
    pub fn evaluated(&mut self, metrics: &[(String, f64)], journal: &mut Journal) {
        let epoch = self.epoch.take();
        let (Some(wanted), Some(epoch)) = (&self.saving.best, epoch) else {
            return;
        };
        let Some((name, value)) = metrics.iter().find(|(name, _)| name == wanted) else {
            return;
        };
        let metric = Metric {
            name: name.clone(),
            value: *value,
        };
        if !metric.beats(self.best.as_ref()) {
            return;
        }
        journal.info(format!("{name} {value:.4} is the best so far"));
        self.best = Some(metric.clone());
        match epoch {
            Epoch::Saved(from) => self.copy(&from, BEST, Some(metric), journal),
            Epoch::Held(snapshot) => {
                let job = Job {
                    name: BEST.into(),
                    must: false,
                    metric: Some(metric),
                    content: Content::Snapshot(snapshot, Retention::default()),
                };
                self.writer.submit(job, journal);
            }
        }
    }

    /// Takes note of a checkpoint that has been written meanwhile.
    pub fn poll(&mut self, journal: &mut Journal) {
        self.writer.poll(journal);
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    /// When the run's last checkpoint could not be written.
    pub fn finish(&mut self, journal: &mut Journal) -> Result<(), TrainError> {
        // A run that ends for another reason has nothing against its last weights.
        if let Some(job) = self.unproven.take().filter(|_| !self.doubted) {
            self.writer.submit(job, journal);
        }
        self.writer.finish(journal)
    }

    fn copy(&mut self, from: &str, to: &str, metric: Option<Metric>, journal: &mut Journal) {
        let job = Job {
            name: to.into(),
            must: false,
            metric,
            content: Content::Copy(from.into()),
        };
        self.writer.submit(job, journal);
    }
}

impl Drop for Saver {
    /// A run that fails leaves its checkpoints to their end.
    fn drop(&mut self) {
        let _ = self.finish(&mut Journal::silent());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(saving: Saving, step: u64, epoch: Option<u64>, last: bool) -> String {
        let saver = Saver::new("/nowhere".into(), saving, None);
        match saver.plan(step, epoch, saver.is_overdue(), last) {
            None => String::new(),
            Some(SavePlan::Hold) => "held".into(),
            Some(SavePlan::Save { name, must, recent }) => {
                let (must, recent) = (if must { "!" } else { "" }, if recent { "+" } else { "" });
                name + must + recent
            }
        }
    }

    #[test]
    fn what_is_saved_when() {
        let usual = || Saving {
            every_epochs: 2,
            every_steps: Some(10),
            ..Saving::default()
        };
        assert_eq!(plan(usual(), 9, None, false), "");
        assert_eq!(plan(usual(), 10, None, false), "step_10");
        assert_eq!(plan(usual(), 11, None, true), "step_11!");
        assert_eq!(plan(usual(), 11, Some(1), false), "");
        assert_eq!(plan(usual(), 20, Some(1), false), "step_20");
        assert_eq!(plan(usual(), 22, Some(2), false), "epoch_2");
        assert_eq!(plan(usual(), 33, Some(3), true), "epoch_3!");
        let recent = || Saving {
            most_recent: true,
            ..usual()
        };
        assert_eq!(plan(recent(), 11, Some(1), false), "latest");
        assert_eq!(plan(recent(), 22, Some(2), false), "epoch_2+");
        assert_eq!(plan(recent(), 10, None, false), "step_10");
        let best = || Saving {
            best: Some("clip_val_loss".into()),
            ..usual()
        };
        assert_eq!(plan(best(), 11, Some(1), false), "held");
        assert_eq!(plan(best(), 11, None, false), "");
        let often = Saving {
            every: Some(Duration::ZERO),
            ..Saving::default()
        };
        assert_eq!(plan(often, 7, None, false), "step_7");
    }
}
