//! Writing checkpoints on a thread of its own while the run goes on.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::thread::JoinHandle;

use openclip_data::error::panic_message;

use super::folder::{Snapshot, duplicate};
use super::keep::Retention;
use super::metric::Metric;
use crate::TrainError;
use crate::journal::Journal;

/// A checkpoint to be written.
pub(super) struct Job {
    /// Its name.
    pub name: String,
    /// The run fails if this cannot be written.
    pub must: bool,
    /// The metric that it is kept for.
    pub metric: Option<Metric>,
    /// Where its content comes from.
    pub content: Content,
}

pub(super) enum Content {
    /// A step of the run. What may go then goes.
    Snapshot(Box<Snapshot>, Retention),
    /// Another checkpoint, which gets a second name.
    Copy(String),
    /// A disk that takes its time.
    #[cfg(test)]
    Slow(std::sync::mpsc::Receiver<()>),
}

impl Job {
    /// `step_7` → `step_`: what is told apart by its number alone.
    fn kind(&self) -> &str {
        self.name.trim_end_matches(|c: char| c.is_ascii_digit())
    }

    fn is_copy_of(&self, name: &str) -> bool {
        matches!(&self.content, Content::Copy(from) if from == name)
    }
}

/// The folder, and what went wrong when older ones were removed.
type Written = Result<(PathBuf, Option<TrainError>), TrainError>;

struct UnderWay {
    name: String,
    must: bool,
    is_copy: bool,
    thread: JoinHandle<Written>,
}

/// Writes one checkpoint after another. Of each kind one at most waits for its turn, the latest.
pub(super) struct Writer {
    dir: PathBuf,
    under_way: Option<UnderWay>,
    waiting: VecDeque<Job>,
    newest: Option<PathBuf>,
    /// Why one that must be written was not.
    failed: Option<TrainError>,
}

impl Writer {
    /// For the folder `dir`.
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            under_way: None,
            waiting: VecDeque::new(),
            newest: None,
            failed: None,
        }
    }

    /// The newest checkpoint that was written.
    pub fn newest(&self) -> Option<&PathBuf> {
        self.newest.as_ref()
    }

    /// Takes a job and returns at once.
    pub fn submit(&mut self, job: Job, journal: &mut Journal) {
        let gives_way = |other: &Job| {
            let copied = self.waiting.iter().any(|copy| copy.is_copy_of(&other.name));
            !job.must && other.kind() == job.kind() && !copied
        };
        if let Some(at) = self.waiting.iter().position(gives_way)
            && let Some(Job { name, .. }) = self.waiting.remove(at)
            && name != job.name
        {
            let busy = self.under_way.as_ref().map_or("another", |job| &job.name);
            journal.warn(format!(
                "checkpoint {name} is left out: {busy} is still being written, and {} is due",
                job.name
            ));
        }
        self.waiting.push_back(job);
        self.poll(journal);
    }

    /// Takes note of a checkpoint that has been written meanwhile, and begins the next.
    pub fn poll(&mut self, journal: &mut Journal) {
        if let Some(job) = self.under_way.take_if(|job| job.thread.is_finished()) {
            self.settle(job, journal);
        }
        while self.under_way.is_none()
            && let Some(job) = self.waiting.pop_front()
        {
            self.start(job, journal);
        }
    }

    /// Waits until all are written.
    ///
    /// # Errors
    /// When one that must be written could not be.
    pub fn finish(&mut self, journal: &mut Journal) -> Result<(), TrainError> {
        self.poll(journal);
        while let Some(job) = self.under_way.take() {
            self.settle(job, journal);
            self.poll(journal);
        }
        self.failed.take().map_or(Ok(()), Err)
    }

    fn start(&mut self, job: Job, journal: &mut Journal) {
        let Job {
            name,
            must,
            metric,
            content,
        } = job;
        let is_copy = matches!(content, Content::Copy(_));
        let (dir, to) = (self.dir.clone(), name.clone());
        let write = move || match content {
            #[cfg(test)]
            Content::Slow(disk) => {
                let _ = disk.recv();
                Ok((dir.join(to), None))
            }
            Content::Copy(from) => Ok((duplicate(&dir, &from, &to, metric)?, None)),
            Content::Snapshot(snapshot, retention) => {
                let path = snapshot.write(&dir, &to, metric)?;
                let kept = retention.apply(&dir, &to);
                let path_of = |source| TrainError::Write { path: dir, source };
                Ok((path, kept.map_err(path_of).err()))
            }
        };
        let builder = std::thread::Builder::new().name("checkpoint".into());
        match builder.spawn(write) {
            Ok(thread) => {
                self.under_way = Some(UnderWay {
                    name,
                    must,
                    is_copy,
                    thread,
                })
            }
            Err(source) => {
                let path = self.dir.join(&name);
                self.fail(
                    &name,
                    must,
                    TrainError::Checkpoint { path, source },
                    journal,
                );
            }
        }
    }

    fn settle(&mut self, job: UnderWay, journal: &mut Journal) {
        let UnderWay {
            name,
            must,
            is_copy,
            thread,
        } = job;
        let written = thread.join().unwrap_or_else(|panic| {
            let text = panic_message(panic.as_ref());
            Err(TrainError::Learner(format!("writing a checkpoint: {text}")))
        });
        match written {
            Ok((path, problem)) => {
                journal.info(format!("Saved {}", path.display()));
                if let Some(problem) = problem {
                    journal.warn(format!("an older checkpoint stays: {problem}"));
                }
                if !is_copy {
                    self.newest = Some(path);
                }
            }
            Err(error) => self.fail(&name, must, error, journal),
        }
    }

    fn fail(&mut self, name: &str, must: bool, error: TrainError, journal: &mut Journal) {
        // There is nothing to give a second name to.
        self.waiting.retain(|job| !job.is_copy_of(name));
        match must {
            true => self.failed = Some(error),
            false => journal.warn(format!("{error}; the run goes on")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::mpsc::{Sender, channel};

    use super::*;
    use crate::journal::{JournalOptions, LOG};

    #[test]
    fn a_slow_disk_drops_checkpoints_and_holds_up_no_step() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path(), JournalOptions::default()).unwrap();
        let mut writer = Writer::new(dir.path().to_owned());
        let mut disks: Vec<Sender<()>> = Vec::new();
        // The disk holds on to the first one: whatever falls due meanwhile comes back at once.
        for (name, must) in [
            ("step_1", false),
            ("step_2", false),
            ("step_3", false),
            ("epoch_1", false),
            ("step_4", false),
            ("step_5", true),
        ] {
            let (disk, slow) = channel();
            disks.push(disk);
            let job = Job {
                name: name.into(),
                must,
                metric: None,
                content: Content::Slow(slow),
            };
            writer.submit(job, &mut journal);
        }
        assert_eq!(writer.newest(), None);
        drop(disks);
        writer.finish(&mut journal).unwrap();
        assert_eq!(writer.newest(), Some(&dir.path().join("step_5")));
        let log = std::fs::read_to_string(dir.path().join(LOG)).unwrap();
        let saved = log
            .lines()
            .filter_map(|line| line.split_once("| INFO | Saved "));
        let saved: Vec<_> = saved
            .map(|(_, path)| path.rsplit('/').next().unwrap())
            .collect();
        assert_eq!(saved, ["step_1", "epoch_1", "step_4", "step_5"]);
        let told: Vec<_> = log
            .lines()
            .filter(|line| line.contains("WARNING"))
            .collect();
        assert_eq!(told.len(), 2, "{log}");
        for (line, name) in told.iter().zip(["step_2", "step_3"]) {
            let words = format!("checkpoint {name} is left out: step_1 is still being written");
            assert!(line.contains(&words), "{line}");
        }
    }
}
