//! What the loader has done and how long each stage took.

use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::activity::{Stage, Stall};
use crate::source::ProblemKind;

/// Time by stage, and how full the queues between stages were. Stages run side by side in several threads, so that their sum may
/// exceed the time on the clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// The reader waiting for the source's next sample.
    pub source: Duration,
    /// Workers reading image files.
    pub file: Duration,
    /// Workers decoding and transforming images.
    pub transform: Duration,
    /// Workers tokenizing captions.
    pub tokenize: Duration,
    /// The caller waiting for a batch: the time that the loader costs the training.
    pub waits: Waits,
    /// What the caller found when it came for a batch.
    pub queues: Queues,
}

/// Time that a caller waited for batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// For the first one, while the pipeline was still empty.
    pub start: Duration,
    /// For later ones, by what was missing, in the order of [`Stage::ALL`].
    pub stages: [Duration; Stage::ALL.len()],
}

/// Sums over the times that a caller came for a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    /// How often it came.
    pub visits: u64,
    /// Batches that stood ready.
    pub batches: u64,
    /// Encoded samples that waited for a worker.
    pub samples: u64,
}

impl Waits {
    /// All of it.
    pub fn total(&self) -> Duration {
        self.start + self.behind_start()
    }

    /// All but the wait for the first batch.
    pub fn behind_start(&self) -> Duration {
        self.stages.iter().sum()
    }

    /// The stage that was waited for longest, and how long.
    pub fn longest(&self) -> (Stage, Duration) {
        let waits = Stage::ALL.into_iter().zip(self.stages);
        let longest = waits.max_by_key(|(_, wait)| *wait);
        longest.unwrap_or((Stage::Source, Duration::ZERO))
    }
}

impl AddAssign for Waits {
    fn add_assign(&mut self, other: Self) {
        self.start += other.start;
        for (sum, wait) in self.stages.iter_mut().zip(other.stages) {
            *sum += wait;
        }
    }
}

impl AddAssign for Queues {
    fn add_assign(&mut self, other: Self) {
        self.visits += other.visits;
        self.batches += other.batches;
        self.samples += other.samples;
    }
}

impl AddAssign for Timing {
    fn add_assign(&mut self, other: Self) {
        self.source += other.source;
        self.file += other.file;
        self.transform += other.transform;
        self.tokenize += other.tokenize;
        self.waits += other.waits;
        self.queues += other.queues;
    }
}

/// A snapshot of a loader's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Totals by stage.
    pub timing: Timing,
    /// Good samples put into batches.
    pub samples: u64,
    /// Encoded bytes of those samples.
    pub bytes: u64,
    /// How often each kind of problem occurred; kinds that did not occur are left out.
    pub problems: Vec<(ProblemKind, u64)>,
    /// Waits that took so long that they were told.
    pub stalls: Vec<Stall>,
}

impl Stats {
    /// How often a kind of problem occurred.
    pub fn count(&self, kind: ProblemKind) -> u64 {
        self.problems
            .iter()
            .find(|(found, _)| *found == kind)
            .map_or(0, |(_, count)| *count)
    }

    /// Samples that were dropped.
    pub fn dropped(&self) -> u64 {
        self.problems
            .iter()
            .filter(|(kind, _)| kind.drops_sample())
            .map(|(_, count)| count)
            .sum()
    }
}

/// The counters that all threads share.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    source: AtomicU64,
    file: AtomicU64,
    transform: AtomicU64,
    tokenize: AtomicU64,
    start: AtomicU64,
    waits: [AtomicU64; Stage::ALL.len()],
    visits: AtomicU64,
    batches_ready: AtomicU64,
    samples_waiting: AtomicU64,
    samples: AtomicU64,
    bytes: AtomicU64,
    problems: [AtomicU64; ProblemKind::ALL.len()],
    stalls: Mutex<Vec<Stall>>,
}

impl Counters {
    pub fn add_timing(&self, timing: &Timing) {
        let Timing { waits, queues, .. } = timing;
        let times = [
            (&self.source, timing.source),
            (&self.file, timing.file),
            (&self.transform, timing.transform),
            (&self.tokenize, timing.tokenize),
            (&self.start, waits.start),
        ];
        for (total, part) in times.into_iter().chain(self.waits.iter().zip(waits.stages)) {
            total.fetch_add(part.as_nanos() as u64, Relaxed);
        }
        for (total, part) in [
            (&self.visits, queues.visits),
            (&self.batches_ready, queues.batches),
            (&self.samples_waiting, queues.samples),
        ] {
            total.fetch_add(part, Relaxed);
        }
    }

    pub fn add_sample(&self, bytes: u64) {
        self.samples.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    /// Counts a problem and gives the count of its kind.
    pub fn add_problem(&self, kind: ProblemKind) -> u64 {
        self.problems[kind as usize].fetch_add(1, Relaxed) + 1
    }

    pub fn add_stall(&self, stall: Stall) {
        self.stalls().push(stall);
    }

    fn stalls(&self) -> MutexGuard<'_, Vec<Stall>> {
        self.stalls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn snapshot(&self) -> Stats {
        let time = |total: &AtomicU64| Duration::from_nanos(total.load(Relaxed));
        let problems = ProblemKind::ALL
            .iter()
            .zip(&self.problems)
            .map(|(kind, count)| (*kind, count.load(Relaxed)));
        Stats {
            timing: Timing {
                source: time(&self.source),
                file: time(&self.file),
                transform: time(&self.transform),
                tokenize: time(&self.tokenize),
                waits: Waits {
                    start: time(&self.start),
                    stages: self.waits.each_ref().map(time),
                },
                queues: Queues {
                    visits: self.visits.load(Relaxed),
                    batches: self.batches_ready.load(Relaxed),
                    samples: self.samples_waiting.load(Relaxed),
                },
            },
            samples: self.samples.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            problems: problems.filter(|(_, count)| *count > 0).collect(),
            stalls: self.stalls().clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_counted_by_kind() {
        let counters = Counters::default();
        for kind in ProblemKind::ALL {
            assert_eq!(counters.add_problem(kind), 1);
        }
        assert_eq!(counters.add_problem(ProblemKind::MissingCaption), 2);
        let stats = counters.snapshot();
        assert_eq!(stats.count(ProblemKind::MissingCaption), 2);
        assert_eq!(stats.count(ProblemKind::InvalidCaption), 1);
        // Shards and repeated keys lose no sample by themselves.
        assert_eq!(stats.dropped(), 7);
    }
}
