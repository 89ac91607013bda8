//! What a shard is: a part of a data set that is read from its start to its end.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use twox_hash::XxHash3_128;

use super::keys::Draw;
use super::shard_index::{Extent, Recorder};
use super::{Item, Sink};
use crate::error::DataError;
use crate::storage::{Place, Watch};

/// A part of a data set that is read from its start to its end: a tar archive, a row group of a parquet file.
pub trait Shard: Send + Sync {
    /// For messages, without secrets.
    fn name(&self) -> Arc<str>;

    /// What tells it from other shards, wherever the files lie: the file's name, the number of a row group.
    fn key(&self) -> String;

    /// What tells it from all other shards of a run, without secrets.
    fn identity(&self) -> String;

    /// How many samples are best fetched in one call.
    fn together(&self) -> usize {
        16
    }

    /// How many samples it has, where that is known without reading it.
    fn samples(&self) -> Option<u64> {
        None
    }

    /// What tells its content from that of another day, where that is known without a question to somebody far away.
    fn version(&self) -> Option<String>;

    /// Begins to read it; it may be a while until somebody asks for the items. `draw` decides among several captions of a sample.
    fn begin(&self, draw: Draw) -> Box<dyn Begun + '_>;

    /// The samples at `extents`, in that order, which is ascending. The wait for them ends when `watch` says that they are not wanted.
    ///
    /// # Errors
    /// When they cannot be read, or the shard is no longer `version`.
    fn fetch(
        &self,
        extents: &[Extent],
        version: &str,
        draw: &Draw,
        watch: Watch,
    ) -> io::Result<Vec<Item>>;
}

/// A shard that is being read.
pub trait Begun {
    /// Pushes all its items, each of which is noted before it is pushed.
    ///
    /// # Errors
    /// Only for what no later shard can mend.
    fn read(
        self: Box<Self>,
        sink: &mut dyn Sink,
        recorder: &mut Recorder,
    ) -> Result<ControlFlow<()>, DataError>;
}

/// What tells a file from all others, without its secrets: these may be all that two addresses differ in.
pub(super) fn identity(place: &Place) -> String {
    let whole = format!("{place:?}");
    format!("{place} {:x}", XxHash3_128::oneshot(whole.as_bytes()))
}

/// Samples of a shard that was read before, again.
pub(super) fn fetch(
    shard: &dyn Shard,
    extents: &[Extent],
    version: &str,
    draw: &Draw,
    watch: Watch,
) -> Result<Vec<Item>, DataError> {
    let failed = |reason: String| DataError::ShardChanged {
        shard: shard.name().to_string(),
        reason,
    };
    let items = shard.fetch(extents, version, draw, watch);
    let items = items.map_err(|error| failed(error.to_string()))?;
    let problem = items.iter().find_map(|item| match item {
        Item::Sample(_) => None,
        Item::Problem(problem) => Some(problem.to_string()),
    });
    match problem {
        Some(problem) => Err(failed(problem)),
        None if items.len() != extents.len() => Err(failed("samples are missing".into())),
        None => Ok(items),
    }
}
