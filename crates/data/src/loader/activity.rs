//! What each thread of a loader is doing, so that a wait that takes too long can be explained.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A stage on the way to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The reader waits for the source's next item.
    Source,
    /// A worker reads an image file.
    File,
    /// A worker decodes and transforms an image.
    Decoding,
    /// A worker tokenizes a caption.
    Tokenizing,
    /// No thread is busy but the one that fills the batch.
    Assembling,
}

impl Stage {
    /// Every stage, in the order in which a sample passes them.
    pub const ALL: [Self; 5] = [
        Self::Source,
        Self::File,
        Self::Decoding,
        Self::Tokenizing,
        Self::Assembling,
    ];

    /// One word for it: `source`, `file`, `decode`, `tokenize`, `assemble`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::File => "file",
            Self::Decoding => "decode",
            Self::Tokenizing => "tokenize",
            Self::Assembling => "assemble",
        }
    }
}

/// What a caller waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stall {
    /// How long it has waited.
    pub waited: Duration,
    /// What takes longest.
    pub stage: Stage,
    /// Source or sample at hand.
    pub place: String,
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (waited, place) = (self.waited.as_secs_f64(), &self.place);
        write!(f, "no batch for {waited:.1} s: the loader is ")?;
        match self.stage {
            Stage::Source => write!(f, "reading {place}"),
            Stage::File => write!(f, "reading the file of {place}"),
            Stage::Decoding => write!(f, "decoding {place}"),
            Stage::Tokenizing => write!(f, "tokenizing the caption of {place}"),
            Stage::Assembling => write!(f, "assembling a batch of {place}"),
        }
    }
}

/// One entry for each thread: the reader's first, then the workers'.
#[derive(Debug)]
pub(crate) struct Activities {
    source: String,
    entries: Vec<Mutex<Option<Entry>>>,
}

#[derive(Debug)]
struct Entry {
    stage: Stage,
    since: Instant,
    /// None for the source.
    place: Option<String>,
}

impl Activities {
    pub fn new(source: String, workers: usize) -> Self {
        let entries = std::iter::repeat_with(Mutex::default).take(workers + 1);
        Self {
            source,
            entries: entries.collect(),
        }
    }

    /// The reader waits for the source, or is done with an item.
    pub fn source(&self, busy: bool) {
        let entry = busy.then(|| Entry {
            stage: Stage::Source,
            since: Instant::now(),
            place: None,
        });
        *lock(&self.entries[0]) = entry;
    }

    /// Worker `n` begins with a sample.
    pub fn begin(&self, n: usize, place: &str) {
        *lock(&self.entries[n + 1]) = Some(Entry {
            stage: Stage::File,
            since: Instant::now(),
            place: Some(place.to_owned()),
        });
    }

    /// Worker `n` goes over to the next stage of its sample.
    pub fn enter(&self, n: usize, stage: Stage) {
        if let Some(entry) = lock(&self.entries[n + 1]).as_mut() {
            (entry.stage, entry.since) = (stage, Instant::now());
        }
    }

    /// Worker `n` has nothing to do.
    pub fn idle(&self, n: usize) {
        *lock(&self.entries[n + 1]) = None;
    }

    /// Which stage a caller waits for that has no batch, while `waiting` samples are ready for a worker.
    ///
    /// The source, when workers have nothing to do for want of samples; else what most workers are busy with.
    pub fn limiting(&self, waiting: usize) -> Stage {
        let stage = |entry| lock(entry).as_ref().map(|entry: &Entry| entry.stage);
        let (reader, workers) = (&self.entries[0], &self.entries[1..]);
        let mut busy = [0; Stage::ALL.len()];
        let mut idle = 0;
        for worker in workers {
            match stage(worker) {
                Some(stage) => busy[stage as usize] += 1,
                None => idle += 1,
            }
        }
        if waiting == 0 && idle > 0 && stage(reader).is_some() {
            return Stage::Source;
        }
        let most = Stage::ALL
            .into_iter()
            .max_by_key(|stage| busy[*stage as usize]);
        most.filter(|stage| busy[*stage as usize] > 0)
            .unwrap_or(Stage::Assembling)
    }

    /// What has been going on longest, for a caller that has waited so long.
    pub fn stall(&self, waited: Duration) -> Stall {
        let busy = self.entries.iter().filter_map(|entry| {
            let entry = lock(entry);
            let Entry {
                stage,
                since,
                place,
            } = entry.as_ref()?;
            let place = place.as_ref().unwrap_or(&self.source);
            Some((*since, *stage, place.clone()))
        });
        let longest = busy.min_by_key(|(since, ..)| *since);
        let (stage, place) = match longest {
            Some((_, stage, place)) => (stage, place),
            None => (Stage::Assembling, self.source.clone()),
        };
        Stall {
            waited,
            stage,
            place,
        }
    }
}

/// An entry is whole at every unlock, so a panic elsewhere does not spoil it.
fn lock(entry: &Mutex<Option<Entry>>) -> MutexGuard<'_, Option<Entry>> {
    entry.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_waits_for_the_source_or_for_what_most_workers_do() {
        let threads = Activities::new("a source".into(), 3);
        assert_eq!(threads.limiting(0), Stage::Assembling);
        threads.source(true);
        assert_eq!(threads.limiting(0), Stage::Source);
        for (n, stage) in [(0, Stage::Decoding), (1, Stage::Decoding), (2, Stage::File)] {
            threads.begin(n, "a");
            threads.enter(n, stage);
        }
        // Nobody is idle: more samples would change nothing.
        assert_eq!(threads.limiting(0), Stage::Decoding);
        threads.idle(0);
        assert_eq!(threads.limiting(0), Stage::Source);
        // Samples are there, and the first worker is about to take one.
        assert_eq!(threads.limiting(4), Stage::Decoding);
        threads.source(false);
        threads.idle(2);
        assert_eq!(threads.limiting(0), Stage::Decoding);
    }
}
