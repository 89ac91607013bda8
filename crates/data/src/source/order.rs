//! The numbers that fix the order of samples, and the random streams drawn from them.

use rand::SeedableRng;
use rand::rngs::StdRng;

/// Everything that the order of samples depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// `--seed`.
    pub seed: u64,
    /// Epoch, from zero.
    pub epoch: u64,
    /// This process among `world`, from zero.
    pub rank: usize,
    /// How many ranks share the samples.
    pub world: usize,
    /// Training shuffles, and repeats a few samples so that every rank gets equally many. Otherwise samples come in
    /// the order of the input and ranks share them without repetition.
    pub training: bool,
}

impl Order {
    /// The order of training for a single process.
    pub fn training(seed: u64, epoch: u64) -> Self {
        Self {
            seed,
            epoch,
            rank: 0,
            world: 1,
            training: true,
        }
    }

    /// The order of the input, for evaluation and embedding in a single process.
    pub fn sequential() -> Self {
        Self {
            seed: 0,
            epoch: 0,
            rank: 0,
            world: 1,
            training: false,
        }
    }

    /// A generator of its own for each (seed, epoch, rank, stream, index).
    ///
    /// The five numbers are the key of the generator itself, so no two of them can collide.
    pub(crate) fn rng(&self, stream: Stream, index: u64) -> StdRng {
        let world = self.world.max(1) as u64;
        let (rank, index) = match stream {
            Stream::TableOrder | Stream::ShardOrder => (0, index),
            Stream::ShardDraws | Stream::SampleOrder | Stream::PartDraws | Stream::Caption => {
                (self.rank as u64, index)
            }
            // Ranks take turns, so this numbers the samples of all of them.
            Stream::Augmentation => (0, index * world + self.rank as u64),
        };
        let mut key = [0; 32];
        for (place, part) in
            key.chunks_exact_mut(8)
                .zip([self.seed, self.epoch, (rank << 8) | stream as u64, index])
        {
            place.copy_from_slice(&part.to_le_bytes());
        }
        StdRng::from_seed(key)
    }
}

/// What random numbers are drawn for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stream {
    /// The permutation of a table; equal on all ranks, which then take turns.
    TableOrder,
    /// The permutation of shards; equal on all ranks, which then take turns.
    ShardOrder,
    /// Shards drawn with replacement.
    ShardDraws,
    /// The shuffle buffer over samples.
    SampleOrder,
    /// The random transform of one sample: the same one, however many ranks share the samples of a table.
    Augmentation,
    /// Which of several sources an item comes from.
    PartDraws,
    /// The caption of a sample that has several.
    Caption,
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn every_number_changes_the_stream() {
        let base = Order::training(1, 2);
        let draw = |order: Order, stream, index| order.rng(stream, index).random::<u64>();
        let first = draw(base, Stream::Augmentation, 3);
        assert_eq!(first, draw(base, Stream::Augmentation, 3));
        for other in [
            Order { seed: 2, ..base },
            Order { epoch: 1, ..base },
            Order { rank: 1, ..base },
        ] {
            assert_ne!(first, draw(other, Stream::Augmentation, 3));
        }
        assert_ne!(first, draw(base, Stream::SampleOrder, 3));
        assert_ne!(first, draw(base, Stream::Augmentation, 4));
    }

    #[test]
    fn ranks_agree_on_what_they_share() {
        let base = Order {
            world: 2,
            ..Order::training(1, 2)
        };
        let other = Order { rank: 1, ..base };
        assert_eq!(
            base.rng(Stream::ShardOrder, 0),
            other.rng(Stream::ShardOrder, 0)
        );
        assert_ne!(
            base.rng(Stream::SampleOrder, 0),
            other.rng(Stream::SampleOrder, 0)
        );
    }
}
