//! Every item of a source in its order, worked on by several threads.
//!
//! ```text
//! reader ──samples──▶ threads ──results──▶ the caller's thread, in the source's order
//! ```

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};
use openclip_model::panics::caught;

use crate::error::{DataError, panic_message};
use crate::loader::budget::Budget;
use crate::source::{Item, Order, Problem, Sample, Sink, Source};
use crate::storage::Watch;

/// Bytes of samples under way at once.
const MAX_BYTES: usize = 1 << 28;
/// Samples under way at once, for each thread.
const AHEAD: usize = 8;

/// How a source is walked.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    /// Threads that work on samples, at least 1.
    pub threads: usize,
    /// Items at the beginning that are left out.
    pub skip: u64,
    /// Samples after which the walk ends.
    pub most: Option<u64>,
}

/// What became of an item.
#[derive(Debug)]
pub enum Found<T> {
    /// A sample, worked on.
    Sample(T),
    /// Something that the source has to tell.
    Problem(Problem),
}

impl Walk {
    /// Works on every sample of one sequential pass and gives what comes of it, and the source's problems, to `take` in order,
    /// each with the number of its item; `Break` ends the walk, of which the [`Watch`] tells whoever waits in `work`. The answer says
    /// whether the source came to its end.
    ///
    /// # Errors
    /// When the source cannot be read on, or a thread panics.
    pub fn run<T: Send>(
        &self,
        source: &dyn Source,
        work: impl Fn(u64, Sample, &Watch) -> T + Sync,
        mut take: impl FnMut(u64, Found<T>) -> ControlFlow<()>,
    ) -> Result<bool, DataError> {
        let threads = self.threads.max(1);
        let budget = Arc::new(Budget::new(AHEAD * threads, MAX_BYTES));
        let watched = Arc::clone(&budget);
        let watch = Watch::new(move || watched.is_closed());
        let (job_sender, jobs) = unbounded();
        let (message_sender, messages) = unbounded();
        std::thread::scope(|scope| {
            let reader = scope.spawn({
                let (watch, messages) = (watch.clone(), message_sender.clone());
                let mut reader = Reader {
                    budget: &budget,
                    watch,
                    jobs: job_sender,
                    messages,
                    skip: self.skip,
                    left: self.most,
                    item: 0,
                    seq: 0,
                };
                move || {
                    let walked = caught(|| source.pass(&Order::sequential(), 0, &mut reader));
                    walked.unwrap_or_else(|payload| Err(panicked(source.describe(), &*payload)))
                }
            });
            for _ in 0..threads {
                let (jobs, messages) = (jobs.clone(), message_sender.clone());
                let work = |item, sample| work(item, sample, &watch);
                scope.spawn(move || labour(&jobs, &messages, &work));
            }
            // The channel ends when reader and threads are done.
            drop(message_sender);
            let taken = in_order(&messages, &budget, &mut take);
            // Whoever still waits for room or sends is let go.
            budget.close();
            drop(messages);
            let walked = reader
                .join()
                .unwrap_or_else(|payload| Err(panicked(source.describe(), &*payload)));
            // What the threads say is the cause of what the reader says.
            taken?;
            Ok(walked?.is_continue())
        })
    }
}

fn panicked(place: String, payload: &(dyn std::any::Any + Send)) -> DataError {
    let message = panic_message(payload);
    DataError::WorkerPanicked { place, message }
}

struct Job {
    seq: u64,
    item: u64,
    room: usize,
    sample: Sample,
}

struct Message<T> {
    seq: u64,
    item: u64,
    room: usize,
    found: Result<Found<T>, DataError>,
}

/// The source's sink.
struct Reader<'a, T> {
    budget: &'a Budget,
    watch: Watch,
    jobs: Sender<Job>,
    messages: Sender<Message<T>>,
    skip: u64,
    left: Option<u64>,
    /// Items of the pass so far.
    item: u64,
    /// Those that were sent on.
    seq: u64,
}

impl<T> Sink for Reader<'_, T> {
    fn jump(&mut self, available: usize) -> usize {
        let left_out = self.skip.min(available as u64);
        self.skip -= left_out;
        self.item += left_out;
        left_out as usize
    }

    fn is_closed(&self) -> bool {
        self.budget.is_closed()
    }

    fn watch(&self) -> Watch {
        self.watch.clone()
    }

    fn push(&mut self, item: Item) -> ControlFlow<()> {
        if self.budget.is_closed() || self.left == Some(0) {
            return ControlFlow::Break(());
        }
        if self.jump(1) == 1 {
            return ControlFlow::Continue(());
        }
        let (number, seq) = (self.item, self.seq);
        self.item += 1;
        self.seq += 1;
        let room = match &item {
            Item::Sample(sample) => sample.bytes(),
            Item::Problem(_) => 0,
        };
        if !self.budget.enter(room) {
            return ControlFlow::Break(());
        }
        let sent = match item {
            Item::Sample(sample) => {
                self.left = self.left.map(|left| left - 1);
                let job = Job {
                    seq,
                    item: number,
                    room,
                    sample,
                };
                self.jobs.send(job).is_ok()
            }
            Item::Problem(problem) => {
                let message = Message {
                    seq,
                    item: number,
                    room,
                    found: Ok(Found::Problem(problem)),
                };
                self.messages.send(message).is_ok()
            }
        };
        match sent {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    }
}

fn labour<T>(
    jobs: &Receiver<Job>,
    messages: &Sender<Message<T>>,
    work: &(impl Fn(u64, Sample) -> T + Sync),
) {
    for job in jobs {
        let Job {
            seq,
            item,
            room,
            sample,
        } = job;
        let place = sample.place();
        let found = match caught(|| work(item, sample)) {
            Ok(done) => Ok(Found::Sample(done)),
            Err(payload) => Err(panicked(place, &*payload)),
        };
        let message = Message {
            seq,
            item,
            room,
            found,
        };
        if messages.send(message).is_err() {
            return;
        }
    }
}

fn in_order<T>(
    messages: &Receiver<Message<T>>,
    budget: &Budget,
    take: &mut impl FnMut(u64, Found<T>) -> ControlFlow<()>,
) -> Result<(), DataError> {
    let (mut early, mut next) = (BTreeMap::new(), 0);
    for message in messages {
        early.insert(message.seq, message);
        while let Some(message) = early.remove(&next) {
            next += 1;
            let taken = take(message.item, message.found?);
            budget.leave(message.room);
            if taken.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;
    use std::time::{Duration, Instant};

    use crate::source::ProblemKind;
    use crate::source::shards::Shards;
    use crate::source::shuffle::ShuffleSize;
    use crate::source::testing::{tar, tar_bytes, write_shards};
    use crate::storage::{Patience, Place};

    fn names(walk: Walk, source: &dyn Source) -> (Vec<(u64, String)>, bool) {
        let mut names = Vec::new();
        let work = |item: u64, sample: Sample, _: &Watch| {
            // Later ones are done earlier.
            std::thread::sleep(std::time::Duration::from_micros(500 * (3 - item % 4)));
            sample.name
        };
        let ended = walk.run(source, work, |item, found| {
            names.push(match found {
                Found::Sample(name) => (item, name),
                Found::Problem(problem) => (item, problem.kind.to_string()),
            });
            ControlFlow::Continue(())
        });
        (names, ended.unwrap())
    }

    #[test]
    fn items_come_in_order_and_can_be_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let mut paths = write_shards(dir.path(), 2, 3);
        let bad = dir.path().join("bad.tar");
        std::fs::write(&bad, "no tar").unwrap();
        paths.insert(1, bad);
        let source = tar(paths);
        let walk = Walk {
            threads: 4,
            skip: 0,
            most: None,
        };
        let (all, ended) = names(walk, &source);
        assert!(ended);
        let kind = ProblemKind::UnreadableShard.to_string();
        let expected = [
            "000-000", "000-001", "000-002", &kind, "001-000", "001-001", "001-002",
        ];
        let expected: Vec<_> = (0..).zip(expected.map(str::to_owned)).collect();
        assert_eq!(all, expected);
        let some = Walk {
            skip: 2,
            most: Some(2),
            ..walk
        };
        let (few, ended) = names(some, &source);
        assert!(!ended);
        assert_eq!(few, expected[2..5]);
    }

    #[test]
    fn a_walk_that_is_broken_off_ends_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let source = tar(write_shards(dir.path(), 4, 500));
        let walk = Walk {
            threads: 2,
            skip: 0,
            most: None,
        };
        let mut taken = 0;
        let ended = walk.run(
            &source,
            |_, sample, _| sample.name,
            |_, _| {
                taken += 1;
                match taken {
                    10 => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            },
        );
        assert_eq!((taken, ended.unwrap()), (10, false));
    }

    /// A shard and a picture that nobody sends hold a walk no longer than it is wanted.
    #[test]
    fn a_walk_that_is_broken_off_waits_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let shard = write_shards(dir.path(), 1, 3).remove(0);
        let mut list = Shards::list(vec![shard]);
        list.places.push(Place::Pipe("sleep 90".into()));
        let source = crate::source::tar::source(list, false, ShuffleSize::NONE).unwrap();
        let walk = Walk {
            threads: 2,
            skip: 0,
            most: None,
        };
        let start = Instant::now();
        let work = |item, sample: Sample, watch: &Watch| match item {
            1 => Place::Pipe("sleep 90".into())
                .read(10, Patience::default(), watch.clone())
                .is_ok(),
            _ => sample.caption.is_some(),
        };
        let ended = walk.run(&source, work, |_, _| {
            // By now the others wait.
            std::thread::sleep(Duration::from_millis(300));
            ControlFlow::Break(())
        });
        assert!(!ended.unwrap());
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn panics_and_faults_of_the_source_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar");
        std::fs::write(&path, tar_bytes(&[("a.jpg", b"1"), ("b.jpg", b"2")])).unwrap();
        let source = tar(vec![path]);
        let walk = Walk {
            threads: 2,
            skip: 0,
            most: None,
        };
        let work = |_, sample: Sample, _: &Watch| assert_ne!(sample.name, "b", "not b");
        let error = walk.run(&source, work, |_, _| ControlFlow::Continue(()));
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("a.tar: b") && error.contains("not b"),
            "{error}"
        );
        let torn = [("a.jpg", &b"1"[..]), ("b.jpg", b"2"), ("a.txt", b"3")];
        let path = dir.path().join("torn.tar");
        std::fs::write(&path, tar_bytes(&torn)).unwrap();
        let error = walk.run(
            &tar(vec![path]),
            |_, _, _| (),
            |_, _| ControlFlow::Continue(()),
        );
        assert!(
            matches!(error, Err(DataError::ScatteredSample { .. })),
            "{error:?}"
        );
    }
}
