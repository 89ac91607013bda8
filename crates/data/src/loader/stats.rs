//! What the loader has done and how long each stage took.

use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::activity::Stall;
use crate::source::ProblemKind;

/// Time by stage. Stages run side by side in several threads, so their sum may exceed the time on the clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// Reading from the source and from image files.
    pub read: Duration,
    /// Decoding and transforming images.
    pub transform: Duration,
    /// Tokenizing captions.
    pub tokenize: Duration,
    /// The caller waiting for a batch: the time that the loader costs the training.
    pub wait: Duration,
}

impl AddAssign for Timing {
    fn add_assign(&mut self, other: Self) {
        self.read += other.read;
        self.transform += other.transform;
        self.tokenize += other.tokenize;
        self.wait += other.wait;
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
    read: AtomicU64,
    transform: AtomicU64,
    tokenize: AtomicU64,
    wait: AtomicU64,
    samples: AtomicU64,
    bytes: AtomicU64,
    problems: [AtomicU64; ProblemKind::ALL.len()],
    stalls: Mutex<Vec<Stall>>,
}

impl Counters {
    pub fn add_timing(&self, timing: &Timing) {
        for (total, part) in [
            (&self.read, timing.read),
            (&self.transform, timing.transform),
            (&self.tokenize, timing.tokenize),
            (&self.wait, timing.wait),
        ] {
            total.fetch_add(part.as_nanos() as u64, Relaxed);
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
                read: time(&self.read),
                transform: time(&self.transform),
                tokenize: time(&self.tokenize),
                wait: time(&self.wait),
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
