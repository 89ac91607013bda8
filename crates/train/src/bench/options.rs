//! What is measured, and how long it takes.

use std::time::Instant;

use openclip_model::factory::CreateOptions;

use crate::TrainError;
use crate::precision::Precision;

/// What to measure.
#[derive(Debug, Clone)]
pub struct BenchOptions {
    /// A name, a `.json` file or `local-dir:DIR`.
    pub model: String,
    /// Weights, which change nothing about the time.
    pub pretrained: Option<String>,
    /// Dtypes of parameters and activations.
    pub precision: Precision,
    /// Samples that go through the towers together.
    pub batch_size: usize,
    /// Measured repetitions.
    pub steps: usize,
    /// Repetitions before the measurement.
    pub warmup: usize,
    /// Measure encoding.
    pub encode: bool,
    /// Measure a training step.
    pub train: bool,
    /// The training step computes blocks again in the backward pass.
    pub grad_checkpointing: bool,
    /// Changes to the model's configuration.
    pub create: CreateOptions,
}

/// Seconds that `work` takes.
pub(super) fn timed(work: impl FnOnce() -> Result<(), TrainError>) -> Result<f64, TrainError> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}
