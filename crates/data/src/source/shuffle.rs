//! A shuffle buffer over a stream of samples, as `webdataset.shuffle`, but seeded and bounded in bytes.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rand::Rng;
use rand::rngs::StdRng;

use super::keys::Draw;
use super::shard::{Shard, fetch};
use super::shard_index::Extent;
use super::{Item, Sample, Sink};
use crate::error::DataError;
use crate::storage::Watch;

/// Threads that read samples which wait.
const READERS: usize = 8;

/// How much a shuffle buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShuffleSize {
    /// Samples held once the buffer is full.
    pub capacity: usize,
    /// Samples held before the first is given out.
    pub initial: usize,
    /// Bytes of encoded samples at which the buffer counts as full, however few they are.
    pub bytes: usize,
}

impl ShuffleSize {
    /// Samples keep their order.
    pub const NONE: Self = Self {
        capacity: 0,
        initial: 0,
        bytes: 0,
    };
}

impl Default for ShuffleSize {
    /// OpenCLIP's 5000 and 1000 samples, within 2 GiB.
    fn default() -> Self {
        Self {
            capacity: 5000,
            initial: 1000,
            bytes: 2 << 30,
        }
    }
}

/// A sample that was passed over so far, and is read when it is given out.
pub(super) struct Waiting<'a> {
    pub shard: &'a dyn Shard,
    pub draw: Draw,
    pub version: Arc<str>,
    pub extent: Extent,
    pub bytes: usize,
}

enum Held<'a> {
    Sample(Sample),
    Waiting(Waiting<'a>),
}

impl Held<'_> {
    fn bytes(&self) -> usize {
        match self {
            // The caption may be another one in the next epoch.
            Self::Sample(sample) => sample.image_bytes(),
            Self::Waiting(waiting) => waiting.bytes,
        }
    }
}

/// Gives out samples in random order; problems pass straight through. Only the first problem of a shard lets a sample go
/// first, so that whoever counts bad shards knows that not all are barren.
///
/// After a resume samples are left out at its end, so that the buffer holds at every place what it held before. Those that were
/// never read are so once the first is wanted.
pub(super) struct Shuffle<'a, 's> {
    size: ShuffleSize,
    rng: StdRng,
    held: Vec<Held<'a>>,
    bytes: usize,
    /// While the buffer fills, two samples come in for each that goes out; this is set between the two.
    expects_second: bool,
    has_given: bool,
    sink: &'s mut dyn Sink,
    failed: Option<DataError>,
}

impl<'a, 's> Shuffle<'a, 's> {
    pub fn new(size: ShuffleSize, rng: StdRng, sink: &'s mut dyn Sink) -> Self {
        Self {
            size,
            rng,
            held: Vec::new(),
            bytes: 0,
            expects_second: false,
            has_given: false,
            sink,
            failed: None,
        }
    }

    fn full(&self) -> bool {
        self.held.len() >= self.size.capacity || self.bytes >= self.size.bytes
    }

    /// Takes a sample that is not read yet.
    pub fn wait(&mut self, waiting: Waiting<'a>) -> ControlFlow<()> {
        self.hold(Held::Waiting(waiting))
    }

    fn hold(&mut self, held: Held<'a>) -> ControlFlow<()> {
        self.bytes += held.bytes();
        self.held.push(held);
        self.expects_second = !self.expects_second && !self.full();
        if self.expects_second || (self.held.len() < self.size.initial && !self.full()) {
            return ControlFlow::Continue(());
        }
        self.give_one()
    }

    fn give_one(&mut self) -> ControlFlow<()> {
        let at = self.rng.random_range(0..self.held.len());
        self.has_given = true;
        if self.sink.jump(1) == 1 {
            self.bytes -= self.held.swap_remove(at).bytes();
            return ControlFlow::Continue(());
        }
        if matches!(self.held[at], Held::Waiting(_))
            && let Err(error) = self.read_all()
        {
            self.failed = Some(error);
            return ControlFlow::Break(());
        }
        let held = self.held.swap_remove(at);
        self.bytes -= held.bytes();
        match held {
            Held::Sample(sample) => self.sink.push(Item::Sample(sample)),
            Held::Waiting(_) => ControlFlow::Continue(()),
        }
    }

    /// Reads all samples that wait: many at a time, each shard's in their order.
    fn read_all(&mut self) -> Result<(), DataError> {
        // A shard that was drawn twice is two: its samples may have other captions.
        let mut by_shard: BTreeMap<u64, Vec<(usize, &Waiting<'a>)>> = BTreeMap::new();
        for (place, held) in self.held.iter().enumerate() {
            if let Held::Waiting(waiting) = held {
                let of_shard = by_shard.entry(waiting.draw.shard).or_default();
                of_shard.push((place, waiting));
            }
        }
        let mut parts = Vec::new();
        for wanted in by_shard.values_mut() {
            wanted.sort_unstable_by_key(|(_, waiting)| waiting.extent.start);
            let together = wanted.first().map(|(_, waiting)| waiting.shard.together());
            parts.extend(wanted.chunks(together.unwrap_or(1)));
        }
        let (next, watch) = (AtomicUsize::new(0), self.sink.watch());
        let read = Mutex::new(Vec::with_capacity(self.held.len()));
        let work = || {
            while let Some(part) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
                let [(_, first), ..] = part else { continue };
                let extents: Vec<Extent> = part.iter().map(|(_, waiting)| waiting.extent).collect();
                let fetched = fetch(
                    first.shard,
                    &extents,
                    &first.version,
                    &first.draw,
                    watch.clone(),
                );
                let has_failed = fetched.is_err();
                let places = part.iter().map(|(place, _)| *place);
                let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
                read.push(fetched.map(|items| places.zip(items).collect::<Vec<_>>()));
                if has_failed {
                    return;
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..READERS.min(parts.len()) {
                scope.spawn(work);
            }
            work();
        });
        let read = read.into_inner().unwrap_or_else(PoisonError::into_inner);
        for part in read {
            for (place, item) in part? {
                if let Item::Sample(sample) = item {
                    self.held[place] = Held::Sample(sample);
                }
            }
        }
        Ok(())
    }

    /// Gives out what is left.
    ///
    /// # Errors
    /// When a sample that was passed over cannot be read again.
    pub fn drain(mut self) -> Result<ControlFlow<()>, DataError> {
        while !self.held.is_empty() {
            if self.give_one().is_break() {
                return self.outcome();
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Why nothing more is given out.
    ///
    /// # Errors
    /// As for [`Self::drain`].
    pub fn outcome(self) -> Result<ControlFlow<()>, DataError> {
        match self.failed {
            Some(error) => Err(error),
            None => Ok(ControlFlow::Break(())),
        }
    }
}

impl Sink for Shuffle<'_, '_> {
    fn jump(&mut self, _: usize) -> usize {
        0
    }

    fn push(&mut self, item: Item) -> ControlFlow<()> {
        if self.sink.is_closed() {
            return ControlFlow::Break(());
        }
        let sample = match item {
            Item::Sample(sample) => sample,
            Item::Problem(problem) => {
                if problem.kind.is_of_shard() && !self.has_given && !self.held.is_empty() {
                    self.give_one()?;
                }
                return self.sink.push(Item::Problem(problem));
            }
        };
        self.hold(Held::Sample(sample))
    }

    fn is_closed(&self) -> bool {
        self.sink.is_closed()
    }

    fn watch(&self) -> Watch {
        self.sink.watch()
    }

    fn is_skipping(&self) -> bool {
        self.sink.is_skipping()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::super::order::Stream;
    use super::super::testing::Collect;
    use super::super::{ImageData, Order};
    use super::*;

    fn shuffled(n: usize, size: ShuffleSize, seed: u64) -> (Vec<usize>, usize) {
        let mut out = Collect::default();
        let mut shuffle = Shuffle::new(
            size,
            Order::training(seed, 0).rng(Stream::SampleOrder, 0),
            &mut out,
        );
        let mut most = 0;
        for i in 0..n {
            let image = ImageData::Encoded(vec![0; 10]);
            let sample = Sample {
                name: i.to_string(),
                shard: None,
                image,
                caption: None,
                label: None,
                fields: Default::default(),
            };
            assert!(shuffle.push(Item::Sample(sample)).is_continue());
            most = most.max(shuffle.held.len());
        }
        assert!(shuffle.drain().unwrap().is_continue());
        (
            out.names()
                .iter()
                .map(|name| name.parse().unwrap())
                .collect(),
            most,
        )
    }

    const SIZE: ShuffleSize = ShuffleSize {
        capacity: 50,
        initial: 10,
        bytes: usize::MAX,
    };

    #[test]
    fn is_a_seeded_permutation_within_the_capacity() {
        let (order, most) = shuffled(1000, SIZE, 1);
        assert_eq!(order, shuffled(1000, SIZE, 1).0);
        assert_ne!(order, shuffled(1000, SIZE, 2).0);
        assert_eq!(
            most, 49,
            "one of the capacity is given out as soon as it is reached"
        );
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
        assert!(
            order[0] < 11,
            "the first comes out after {} samples",
            SIZE.initial
        );
        let moved = order
            .iter()
            .enumerate()
            .filter(|(at, sample)| at.abs_diff(**sample) > 5)
            .count();
        assert!(
            moved > 700,
            "only {moved} of 1000 samples moved by more than 5 places"
        );
    }

    #[test]
    fn bytes_bound_the_buffer() {
        let (order, most) = shuffled(100, ShuffleSize { bytes: 70, ..SIZE }, 1);
        assert_eq!(order.len(), 100);
        assert!(most <= 7, "{most}");
    }

    #[test]
    fn short_streams_come_out_whole() {
        for n in 0..5 {
            assert_eq!(shuffled(n, SIZE, 3).0.len(), n);
        }
    }

    #[test]
    fn a_sample_goes_before_the_first_problem_of_a_shard() {
        use super::super::{Problem, ProblemKind};
        let mut out = Collect::default();
        let rng = Order::training(1, 0).rng(Stream::SampleOrder, 0);
        let mut shuffle = Shuffle::new(SIZE, rng, &mut out);
        let problem = || {
            Item::Problem(Problem {
                kind: ProblemKind::TruncatedShard,
                place: "x.tar".into(),
                reason: "cut".into(),
            })
        };
        for name in ["a", "b"] {
            let sample = Sample {
                name: name.into(),
                shard: None,
                image: ImageData::Black,
                caption: None,
                label: None,
                fields: Default::default(),
            };
            assert!(shuffle.push(Item::Sample(sample)).is_continue());
            assert!(shuffle.push(problem()).is_continue());
        }
        assert!(shuffle.drain().unwrap().is_continue());
        let is_sample: Vec<_> = out
            .0
            .iter()
            .map(|item| matches!(item, Item::Sample(_)))
            .collect();
        assert_eq!(is_sample, [true, false, false, true]);
    }
}
