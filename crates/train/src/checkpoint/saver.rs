//! When a checkpoint is due, and writing it while the run goes on.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use openclip_data::error::panic_message;

use super::folder::{Snapshot, duplicate};
use super::keep::Retention;
use super::layout::{BEST, LATEST};
use super::metric::Metric;
use super::state::State;
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
            best: config
                .keep_best
                .clone()
                .filter(|_| config.run_dir().is_some()),
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

/// Writes checkpoints on a thread of its own, one at a time; a second one waits for the first.
pub struct Saver {
    dir: PathBuf,
    saving: Saving,
    /// Start of the run, or when the last checkpoint was taken.
    saved: Instant,
    /// The best so far.
    best: Option<Metric>,
    /// The end of an epoch that has yet to be evaluated.
    epoch: Option<Epoch>,
    under_way: Option<(Role, JoinHandle<Written>)>,
    newest: Option<PathBuf>,
    /// Why the last checkpoint was not written.
    failed: Option<TrainError>,
}

enum Epoch {
    Saved(String),
    Held(Box<Snapshot>),
}

/// What a checkpoint under way is to the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// One of many.
    Usual,
    /// The one a run ends or stops with.
    Must,
    /// Another name of one that is there.
    Copy,
}

/// The folder, and what went wrong when older ones were removed.
type Written = Result<(PathBuf, Option<TrainError>), TrainError>;

impl Saver {
    /// For the folder `dir`, from whose checkpoint `newest` the run goes on.
    pub fn new(dir: PathBuf, saving: Saving, newest: Option<PathBuf>) -> Self {
        let best = State::read(&dir.join(BEST)).ok();
        Self {
            best: best.and_then(|state| state.metric),
            dir,
            saving,
            saved: Instant::now(),
            epoch: None,
            under_way: None,
            newest,
            failed: None,
        }
    }

    /// The newest complete checkpoint.
    pub fn newest(&self) -> Option<&Path> {
        self.newest.as_deref()
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

    /// Does it. Returns at once unless an earlier checkpoint is still being written.
    pub fn save(&mut self, plan: SavePlan, snapshot: Snapshot, journal: &mut Journal) {
        let ends_epoch = snapshot.progress.step_in_epoch == 0;
        let SavePlan::Save { name, must, recent } = plan else {
            self.epoch = Some(Epoch::Held(Box::new(snapshot)));
            return;
        };
        self.saved = Instant::now();
        let role = if must { Role::Must } else { Role::Usual };
        let (dir, retention) = (self.dir.clone(), self.saving.retention);
        let written = name.clone();
        let write = move || {
            let path = snapshot.write(&dir, &written, None)?;
            let kept = retention.apply(&dir, &written);
            let path_of = |source| TrainError::Write { path: dir, source };
            Ok((path, kept.map_err(path_of).err()))
        };
        self.start(role, write, journal);
        if recent {
            self.copy(&name, LATEST, None, journal);
        }
        self.epoch = ends_epoch.then_some(Epoch::Saved(name));
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
                let dir = self.dir.clone();
                let write = move || Ok((snapshot.write(&dir, BEST, Some(metric))?, None));
                self.start(Role::Usual, write, journal);
            }
        }
    }

    /// Takes note of a checkpoint that has been written meanwhile.
    pub fn poll(&mut self, journal: &mut Journal) {
        let is_done = |(_, thread): &(_, JoinHandle<_>)| thread.is_finished();
        if self.under_way.as_ref().is_some_and(is_done) {
            self.settle(journal);
        }
    }

    /// Waits for the checkpoint under way.
    ///
    /// # Errors
    /// When the run's last checkpoint could not be written.
    pub fn finish(&mut self, journal: &mut Journal) -> Result<(), TrainError> {
        self.settle(journal);
        self.failed.take().map_or(Ok(()), Err)
    }

    fn copy(
        &mut self,
        from: &str,
        to: &'static str,
        metric: Option<Metric>,
        journal: &mut Journal,
    ) {
        // What was not written has been reported.
        if self.settle(journal) {
            let (dir, from) = (self.dir.clone(), from.to_owned());
            let write = move || Ok((duplicate(&dir, &from, to, metric)?, None));
            self.start(Role::Copy, write, journal);
        }
    }

    fn start(
        &mut self,
        role: Role,
        write: impl FnOnce() -> Written + Send + 'static,
        journal: &mut Journal,
    ) {
        self.settle(journal);
        let builder = std::thread::Builder::new().name("checkpoint".into());
        match builder.spawn(write) {
            Ok(thread) => self.under_way = Some((role, thread)),
            Err(source) => {
                let path = self.dir.clone();
                self.report(role, Err(TrainError::Checkpoint { path, source }), journal);
            }
        }
    }

    /// Waits for the checkpoint under way; false if there was one and it was not written.
    fn settle(&mut self, journal: &mut Journal) -> bool {
        let Some((role, thread)) = self.under_way.take() else {
            return true;
        };
        let written = thread.join().unwrap_or_else(|panic| {
            let text = panic_message(panic.as_ref());
            Err(TrainError::Learner(format!("writing a checkpoint: {text}")))
        });
        self.report(role, written, journal)
    }

    fn report(&mut self, role: Role, written: Written, journal: &mut Journal) -> bool {
        match written {
            Ok((path, problem)) => {
                journal.info(format!("Saved {}", path.display()));
                if let Some(problem) = problem {
                    journal.warn(format!("an older checkpoint stays: {problem}"));
                }
                if role != Role::Copy {
                    self.newest = Some(path);
                }
                true
            }
            Err(error) => {
                match role {
                    Role::Must => self.failed = Some(error),
                    _ => journal.warn(format!("{error}; the run goes on")),
                }
                false
            }
        }
    }
}

impl Drop for Saver {
    /// A run that fails leaves the checkpoint under way to its end.
    fn drop(&mut self) {
        if let Some((_, thread)) = self.under_way.take() {
            let _ = thread.join();
        }
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
