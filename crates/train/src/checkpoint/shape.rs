//! What an epoch of a run looks like.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The size of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochShape {
    /// Samples of the training data.
    pub samples: u64,
    /// Optimizer steps.
    pub steps: u64,
    /// Samples of a step, of all ranks together.
    pub step_samples: u64,
    /// Ranks that share them.
    pub ranks: u64,
    /// [`Source::fingerprint`](openclip_data::source::Source::fingerprint) of the training data.
    pub data: u32,
}

impl fmt::Display for EpochShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            samples,
            steps,
            step_samples,
            ranks,
            ..
        } = self;
        let ranks = match ranks {
            1 => String::new(),
            ranks => format!(" on {ranks} ranks"),
        };
        write!(
            f,
            "{steps} steps of {step_samples}{ranks} ({samples} samples)"
        )
    }
}
