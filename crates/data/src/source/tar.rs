//! webdataset: samples in tar shards, in an order that can be repeated. `shard` reads one of them, `archive` the members
//! in it.

mod archive;
mod block;
mod foreign;
mod pax;
mod shard;
mod sparse;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rand::Rng;
use rand::distr::Distribution;
use rand::distr::weighted::WeightedIndex;
use rand::seq::SliceRandom;

use super::keys::{Draw, Keys};
use super::order::Stream;
use super::shards::Shards;
use super::shuffle::{Shuffle, ShuffleSize};
use super::{Order, Sink, Source};
use crate::error::DataError;

/// Samples of tar shards.
///
/// In training, shards are shuffled, ranks take turns among them, and samples pass through a shuffle buffer; all of it
/// is seeded. (OpenCLIP seeds its sample buffer with the time, so its order cannot be repeated.)
#[derive(Clone, Debug)]
pub struct Tar {
    shards: Shards,
    resampled: bool,
    shuffle: ShuffleSize,
    keys: Keys,
}

impl Tar {
    /// A set of shards. `resampled` (`--dataset-resampled`) draws shards with replacement in training, by weight if the
    /// list has weights; then each rank draws for itself.
    ///
    /// # Errors
    /// When there is no shard, or there are weights without resampling.
    pub fn new(shards: Shards, resampled: bool, shuffle: ShuffleSize) -> Result<Self, DataError> {
        if shards.paths.is_empty() {
            return Err(DataError::NoShards {
                pattern: shards.pattern,
            });
        }
        if shards.weights.is_some() && !resampled {
            return Err(DataError::UpsamplingNeedsResampling);
        }
        Ok(Self {
            shards,
            resampled,
            shuffle,
            keys: Keys::default(),
        })
    }

    /// The same shards, of whose samples other members are used.
    pub(crate) fn with_keys(self, keys: Keys) -> Self {
        Self { keys, ..self }
    }

    /// Pushes the samples of the shards of one pass.
    fn read(
        &self,
        shards: &[&Path],
        order: &Order,
        pass: u64,
        sink: &mut dyn Sink,
    ) -> Result<ControlFlow<()>, DataError> {
        for (path, shard) in shards.iter().zip(0..) {
            let draw = Draw { order, pass, shard };
            if shard::read(path, &self.keys, &draw, sink)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The shards that a rank reads in one pass, in order.
    fn shards_of_pass(&self, order: &Order, pass: u64) -> Result<Vec<&Path>, DataError> {
        let paths = &self.shards.paths;
        if order.training && self.resampled {
            let rng = &mut order.rng(Stream::ShardDraws, pass);
            let weighted = self
                .shards
                .weights
                .as_ref()
                .map(WeightedIndex::new)
                .transpose();
            let weighted = weighted.map_err(|_| DataError::NoShards {
                pattern: self.shards.pattern.clone(),
            })?;
            let mut draw = || match &weighted {
                Some(weighted) => weighted.sample(rng),
                None => rng.random_range(0..paths.len()),
            };
            return Ok((0..paths.len()).map(|_| paths[draw()].as_path()).collect());
        }
        let world = order.world.max(1);
        if paths.len() < world {
            return Err(DataError::TooFewShards {
                pattern: self.shards.pattern.clone(),
                shards: paths.len(),
                world,
            });
        }
        let mut shuffled: Vec<&PathBuf> = paths.iter().collect();
        if order.training {
            // The same permutation in every pass of an epoch, so that a rank keeps its own shards.
            shuffled.shuffle(&mut order.rng(Stream::ShardOrder, 0));
        }
        Ok(shuffled
            .into_iter()
            .skip(order.rank)
            .step_by(world)
            .map(PathBuf::as_path)
            .collect())
    }
}

impl Source for Tar {
    fn describe(&self) -> String {
        format!(
            "{} shards ({})",
            self.shards.paths.len(),
            self.shards.pattern
        )
    }

    /// `train_num_samples`, or the size by [`Shards::num_samples`].
    fn num_samples(&self, train_num_samples: Option<u64>) -> Result<u64, DataError> {
        let unknown = || DataError::UnknownLength {
            source_name: self.describe(),
        };
        match train_num_samples {
            Some(samples) => Ok(samples),
            None => self.shards.num_samples()?.ok_or_else(unknown),
        }
    }

    /// As many batches as it takes to see every sample once; the last is filled up. (OpenCLIP rounds up further, to a
    /// multiple of `--workers`, since each of its workers makes whole batches of its own.)
    fn batches(&self, samples: u64, world: usize, batch_size: usize) -> u64 {
        samples.div_ceil((batch_size * world) as u64)
    }

    /// Over the names of the shards, how they are drawn and what of their samples is used.
    fn fingerprint(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&[u8::from(self.resampled)]);
        for path in &self.shards.paths {
            hasher.update(path.file_name().unwrap_or_default().as_encoded_bytes());
            hasher.update(b"/");
        }
        for weight in self.shards.weights.iter().flatten() {
            hasher.update(&weight.to_le_bytes());
        }
        hasher.update(self.keys.mark().unwrap_or_default().as_bytes());
        hasher.finalize()
    }

    fn pass(
        &self,
        order: &Order,
        pass: u64,
        sink: &mut dyn Sink,
    ) -> Result<ControlFlow<()>, DataError> {
        let shards = self.shards_of_pass(order, pass)?;
        if !order.training {
            return self.read(&shards, order, pass, sink);
        }
        let mut shuffle = Shuffle::new(self.shuffle, order.rng(Stream::SampleOrder, pass), sink);
        let read = self.read(&shards, order, pass, &mut shuffle)?;
        Ok(if read.is_break() {
            read
        } else {
            shuffle.drain()
        })
    }
}

#[cfg(test)]
mod tests;
