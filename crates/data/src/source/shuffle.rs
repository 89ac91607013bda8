//! A shuffle buffer over a stream of samples, as `webdataset.shuffle`, but seeded and bounded in bytes.

use std::ops::ControlFlow;

use rand::Rng;
use rand::rngs::StdRng;

use super::{Item, Sample, Sink};

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

/// Gives out samples in random order; problems pass straight through. Only the first problem of a shard lets a sample go
/// first, so that whoever counts bad shards knows that not all are barren.
pub(crate) struct Shuffle<'a> {
    size: ShuffleSize,
    rng: StdRng,
    held: Vec<Sample>,
    bytes: usize,
    /// While the buffer fills, two samples come in for each that goes out; this is set between the two.
    expects_second: bool,
    has_given: bool,
    sink: &'a mut dyn Sink,
}

impl<'a> Shuffle<'a> {
    pub fn new(size: ShuffleSize, rng: StdRng, sink: &'a mut dyn Sink) -> Self {
        Self {
            size,
            rng,
            held: Vec::new(),
            bytes: 0,
            expects_second: false,
            has_given: false,
            sink,
        }
    }

    fn full(&self) -> bool {
        self.held.len() >= self.size.capacity || self.bytes >= self.size.bytes
    }

    fn give_one(&mut self) -> ControlFlow<()> {
        let at = self.rng.random_range(0..self.held.len());
        let sample = self.held.swap_remove(at);
        self.bytes -= sample.bytes();
        self.has_given = true;
        self.sink.push(Item::Sample(sample))
    }

    /// Gives out what is left.
    pub fn drain(mut self) -> ControlFlow<()> {
        while !self.held.is_empty() {
            self.give_one()?;
        }
        ControlFlow::Continue(())
    }
}

impl Sink for Shuffle<'_> {
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
        self.bytes += sample.bytes();
        self.held.push(sample);
        self.expects_second = !self.expects_second && !self.full();
        if self.expects_second || (self.held.len() < self.size.initial && !self.full()) {
            return ControlFlow::Continue(());
        }
        self.give_one()
    }

    fn is_closed(&self) -> bool {
        self.sink.is_closed()
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
            };
            assert!(shuffle.push(Item::Sample(sample)).is_continue());
            most = most.max(shuffle.held.len());
        }
        assert!(shuffle.drain().is_continue());
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
            };
            assert!(shuffle.push(Item::Sample(sample)).is_continue());
            assert!(shuffle.push(problem()).is_continue());
        }
        assert!(shuffle.drain().is_continue());
        let is_sample: Vec<_> = out
            .0
            .iter()
            .map(|item| matches!(item, Item::Sample(_)))
            .collect();
        assert_eq!(is_sample, [true, false, false, true]);
    }
}
