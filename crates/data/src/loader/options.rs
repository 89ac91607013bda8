//! How batches are made.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::source::Order;

/// How a loader makes batches.
#[derive(Clone, Debug, PartialEq)]
pub struct LoaderOptions {
    /// Samples in a batch, at least 1.
    pub batch_size: usize,
    /// Height and width of a transformed image.
    pub image_size: [usize; 2],
    /// Worker threads, at least 1.
    pub workers: usize,
    /// Batches that wait ready for the caller, at least 1.
    pub prefetch: usize,
    /// Bytes of encoded and decoded samples under way before they are put into a batch.
    pub max_bytes: usize,
    /// Seed, epoch, rank and world.
    pub order: Order,
    /// How many full batches to make, beginning the source anew as often as it takes. `None` makes one pass and keeps
    /// the last, smaller batch.
    pub num_batches: Option<u64>,
    /// [Cursor](super::Batch::cursor) of the last batch that is done with; the next one is made first.
    pub start_cursor: u64,
    /// Share of dropped samples above which the data counts as broken.
    pub max_bad_share: f64,
    /// Samples to see before the share is judged; a pass that ends earlier is judged at its end.
    pub bad_share_after: u64,
    /// The SHA-256 of each sample's encoded picture goes along with it, as `sha256`.
    pub hashes: bool,
    /// How long a caller waits for a batch before it is told what for; after twice the time it is told again, and so on.
    pub stall_after: Duration,
}

/// How many workers a loader has where nobody says: as many as this process may use cores at a time.
pub fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

impl LoaderOptions {
    /// Options with [`default_workers`], 2 batches ahead within 1 GiB, and an error when more than half of 1000 samples are bad.
    pub fn new(batch_size: usize, image_size: [usize; 2], order: Order) -> Self {
        Self {
            batch_size,
            image_size,
            workers: default_workers(),
            prefetch: 2,
            max_bytes: 1 << 30,
            order,
            num_batches: None,
            start_cursor: 0,
            max_bad_share: 0.5,
            bad_share_after: 1000,
            hashes: false,
            stall_after: Duration::from_secs(30),
        }
    }
}
