//! Sources whose samples are numbered: the order is a permutation, and resuming is a jump.

use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Arc;

use rand::seq::SliceRandom;

use super::order::Stream;
use super::{Item, Order, Sink, Source};
use crate::error::DataError;

/// Samples that a fingerprint is taken of, at most.
const FINGERPRINTED: usize = 1024;

/// Numbered samples.
pub trait Table: Send + Sync {
    /// How many samples there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sample at `index < len()`.
    fn item(&self, index: usize) -> Item;

    /// Says in a few words what is read.
    fn describe(&self) -> String;
}

impl<T: Table + 'static> Source for T {
    fn describe(&self) -> String {
        Table::describe(self)
    }

    fn num_samples(&self, _: Option<u64>) -> Result<u64, DataError> {
        Ok(self.len() as u64)
    }

    /// Full batches in `ceil(samples / world)` samples, as a `DistributedSampler` with `drop_last` gives.
    fn batches(&self, samples: u64, world: usize, batch_size: usize) -> u64 {
        samples.div_ceil(world as u64) / batch_size as u64
    }

    /// Over number, names of files and captions of samples in even distances: all of them would take as long as reading them.
    fn fingerprint(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&(self.len() as u64).to_le_bytes());
        for index in (0..self.len()).step_by(self.len().div_ceil(FINGERPRINTED).max(1)) {
            let Item::Sample(sample) = self.item(index) else {
                continue;
            };
            let name = Path::new(&sample.name).file_name().unwrap_or_default();
            hasher.update(name.as_encoded_bytes());
            hasher.update(sample.caption.unwrap_or_default().as_bytes());
        }
        hasher.finalize()
    }

    fn partitions(self: Arc<Self>, size: u64) -> Result<Vec<Arc<dyn Source>>, DataError> {
        Ok(stretches(self, size))
    }

    fn pass(
        &self,
        order: &Order,
        pass: u64,
        sink: &mut dyn Sink,
    ) -> Result<ControlFlow<()>, DataError> {
        let indices = indices(self.len(), order, pass);
        let start = sink.jump(indices.len());
        for &index in indices.get(start..).unwrap_or_default() {
            if sink.push(self.item(index)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// The samples of one rank, in order: every `world`-th of the (shuffled) whole. In training the whole is first
/// lengthened from its own beginning to a multiple of `world`.
fn indices(len: usize, order: &Order, pass: u64) -> Vec<usize> {
    let mut all: Vec<usize> = (0..len).collect();
    if order.world <= 1 && !order.training {
        return all;
    }
    if order.training {
        all.shuffle(&mut order.rng(Stream::TableOrder, pass));
    }
    let world = order.world.max(1);
    let total = if order.training && len > 0 {
        len.next_multiple_of(world)
    } else {
        len
    };
    (order.rank..total)
        .step_by(world)
        .map(|place| all[place % len])
        .collect()
}

/// Some of the samples of a table, as they follow one another.
struct Stretch {
    table: Arc<dyn Table>,
    rows: Range<usize>,
}

impl Table for Stretch {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn item(&self, index: usize) -> Item {
        self.table.item(self.rows.start + index)
    }

    fn describe(&self) -> String {
        let Range { start, end } = self.rows;
        format!("{}, samples {start} to {end}", self.table.describe())
    }
}

/// A table in stretches of `size` samples, of which the last may be shorter.
fn stretches(table: Arc<dyn Table>, size: u64) -> Vec<Arc<dyn Source>> {
    let size = usize::try_from(size.max(1)).unwrap_or(usize::MAX);
    let len = table.len();
    let starts = (0..len).step_by(size);
    let stretch = |start: usize| -> Arc<dyn Source> {
        Arc::new(Stretch {
            table: Arc::clone(&table),
            rows: start..start.saturating_add(size).min(len),
        })
    };
    starts.map(stretch).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn ranks(len: usize, world: usize, training: bool) -> Vec<Vec<usize>> {
        let order = |rank| Order {
            rank,
            world,
            training,
            ..Order::training(3, 1)
        };
        (0..world)
            .map(|rank| indices(len, &order(rank), 0))
            .collect()
    }

    #[test]
    fn ranks_are_disjoint_and_cover() {
        let mut seen = ranks(12, 3, true).concat();
        seen.sort_unstable();
        assert_eq!(seen, (0..12).collect::<Vec<_>>());
        let mut seen = ranks(11, 3, false).concat();
        seen.sort_unstable();
        assert_eq!(seen, (0..11).collect::<Vec<_>>());
    }

    #[test]
    fn training_pads_to_equal_lengths_from_the_beginning() {
        let shares = ranks(10, 4, true);
        assert!(shares.iter().all(|share| share.len() == 3));
        assert_eq!(shares[2][2], shares[0][0]);
        assert_eq!(shares[3][2], shares[1][0]);
        // Fewer samples than ranks: the padding goes round more than once.
        assert_eq!(ranks(1, 3, true), vec![vec![0]; 3]);
        assert_eq!(ranks(0, 3, true), vec![Vec::<usize>::new(); 3]);
    }

    #[test]
    fn order_depends_on_seed_epoch_and_pass_alone() {
        let order = Order::training(7, 3);
        assert_eq!(indices(100, &order, 0), indices(100, &order, 0));
        assert_ne!(indices(100, &order, 0), indices(100, &order, 1));
        assert_ne!(
            indices(100, &order, 0),
            indices(100, &Order { epoch: 4, ..order }, 0)
        );
        assert_ne!(
            indices(100, &order, 0),
            indices(100, &Order { seed: 8, ..order }, 0)
        );
        assert_eq!(indices(4, &Order::sequential(), 9), vec![0, 1, 2, 3]);
    }
}
