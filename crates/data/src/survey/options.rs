//! How a set is looked at.

use crate::image::Limits;

/// How a set is looked at.
#[derive(Clone, Copy, Debug)]
pub struct SurveyOptions {
    /// Threads that read files and decode, at least 1.
    pub threads: usize,
    /// What a picture may cost.
    pub limits: Limits,
    /// Samples to look at, from the first on; `None` for all of them.
    pub most: Option<u64>,
}
