//! What a loader hands out.

use super::stats::Timing;
use crate::image::Erasure;
use crate::source::Fields;

/// Samples side by side.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Pixels `[size, 3, height, width]`.
    pub images: Vec<u8>,
    /// What is to be written over normalised pixels, and in which sample.
    pub erased: Vec<(usize, Erasure)>,
    /// Token ids `[size, context_length]`; empty without a tokenizer.
    pub tokens: Vec<i32>,
    /// Image paths or keys, `size` of them.
    pub names: Vec<String>,
    /// Captions, `size` of them, where the source has one.
    pub captions: Vec<Option<String>>,
    /// What else is said of each, where the source carries it along.
    pub fields: Vec<Fields>,
    /// Class indices, `size` of them; empty for sources without classes.
    pub labels: Vec<usize>,
    /// How many samples there are.
    pub size: usize,
    /// Items of the source used up to and with this batch, counted from the start of the epoch.
    pub cursor: u64,
    /// What this batch took.
    pub timing: Timing,
}
