//! What the threads of a loader tell each other.

use std::time::Duration;

use super::batch::Batch;
use super::stats::Timing;
use crate::error::DataError;
use crate::image::Erasure;
use crate::source::{Fields, Problem, Sample};

/// A sample on its way to a worker.
pub(super) struct Job {
    pub seq: u64,
    /// Number of the item within the epoch.
    pub index: u64,
    pub sample: Sample,
    /// Bytes held of the budget.
    pub room: usize,
    pub read: Duration,
}

/// A message on its way to the assembler; `seq` numbers them without a gap.
pub(super) struct Message {
    pub seq: u64,
    pub body: Body,
}

pub(super) enum Body {
    /// The item that moves the cursor to `cursor`, and the bytes of the budget it held.
    Item {
        cursor: u64,
        room: usize,
        outcome: Outcome,
    },
    /// A pass is over; `whole` when it was walked from its first item.
    PassEnd { whole: bool },
    /// Nothing more will come.
    End,
    /// Nothing more can come.
    Failed(DataError),
}

pub(super) enum Outcome {
    Ready(Box<Ready>),
    Bad(Problem),
    Panicked { place: String, message: String },
}

/// A sample ready for a batch.
pub(super) struct Ready {
    pub image: Vec<u8>,
    pub erased: Vec<Erasure>,
    pub tokens: Vec<i32>,
    pub name: String,
    pub caption: Option<String>,
    pub label: Option<usize>,
    pub fields: Fields,
    pub bytes: u64,
    pub timing: Timing,
}

/// What the assembler hands to the caller.
pub(super) enum Event {
    Batch(Box<Batch>),
    Failed(DataError),
    End,
}
