//! webdataset: samples in tar archives. `shard` reads one of them, `archive` the members in it.

mod archive;
mod block;
mod foreign;
mod pax;
mod shard;
mod sparse;

use std::sync::Arc;

use self::shard::TarShard;
use super::keys::Keys;
use super::shard::Shard;
use super::sharded::{Sampling, Sharded};
use super::shards::Shards;
use super::shuffle::ShuffleSize;
use crate::error::DataError;

/// The samples of tar archives, with the usual members. `resampled` (`--dataset-resampled`) draws archives with replacement in training, by weight if the
/// list has weights.
///
/// # Errors
/// When there is no archive, or there are weights without resampling.
pub fn source(shards: Shards, resampled: bool, shuffle: ShuffleSize) -> Result<Sharded, DataError> {
    with_keys(shards, Keys::default(), resampled, shuffle)
}

/// The same with other members.
pub(super) fn with_keys(
    mut shards: Shards,
    keys: Keys,
    resampled: bool,
    shuffle: ShuffleSize,
) -> Result<Sharded, DataError> {
    let weights = shards.weights.take();
    let pattern = shards.pattern.clone();
    let (list, keys) = (Arc::new(shards), Arc::new(keys));
    let archive = |at| -> Arc<dyn Shard> {
        let (list, keys) = (Arc::clone(&list), Arc::clone(&keys));
        Arc::new(TarShard { list, at, keys })
    };
    let sampling = Sampling {
        resampled,
        weights,
        sizes: Some(Arc::clone(&list)),
        mark: keys.mark(),
    };
    let archives = (0..list.places.len()).map(archive).collect();
    Sharded::new(archives, pattern, sampling, shuffle)
}

#[cfg(test)]
mod tests;
