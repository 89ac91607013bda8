//! webdataset: samples in tar archives. `shard` reads one of them, `archive` the members in it.

mod archive;
mod block;
mod foreign;
mod pax;
mod shard;
mod sparse;

use std::sync::Arc;

use self::shard::TarShard;
use super::sharded::{Sampling, Shard, Sharded};
use super::shards::Shards;
use super::shuffle::ShuffleSize;
use crate::error::DataError;

/// The samples of tar archives. `resampled` (`--dataset-resampled`) draws archives with replacement in training, by weight if the
/// list has weights.
///
/// # Errors
/// When there is no archive, or there are weights without resampling.
pub fn source(
    mut shards: Shards,
    resampled: bool,
    shuffle: ShuffleSize,
) -> Result<Sharded, DataError> {
    let weights = shards.weights.take();
    let pattern = shards.pattern.clone();
    let list = Arc::new(shards);
    let archive = |at| Arc::new(TarShard::new(Arc::clone(&list), at)) as Arc<dyn Shard>;
    let sampling = Sampling {
        resampled,
        weights,
        sizes: Some(Arc::clone(&list)),
    };
    let archives = (0..list.places.len()).map(archive).collect();
    Sharded::new(archives, pattern, sampling, shuffle)
}

#[cfg(test)]
mod tests;
