//! How fast a model encodes and trains on a device, on random input.
//!
//! * [`fn@bench`] – medians of one model's encoding and training step
//! * [`ModelBench`] – one repetition of each at a time, for who takes turns with another program
//! * [`loss_seconds`] – a contrastive loss of many pairs, with its gradient

mod loss;
mod model;
mod options;

use burn::tensor::Device;
use serde::Serialize;

pub use loss::loss_seconds;
pub use model::ModelBench;
pub use options::BenchOptions;

use crate::TrainError;
use crate::memory::MemoryUse;
use crate::precision::Precision;

/// Medians over the repetitions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BenchReport {
    /// As given.
    pub model: String,
    /// As given.
    pub precision: Precision,
    /// As given.
    pub batch: usize,
    /// Seconds to encode a batch of pictures, normalisation and transfer included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encode_s: Option<f64>,
    /// Pictures encoded in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encode_images_per_s: Option<f64>,
    /// Seconds of an optimizer step: both towers, loss, backward, AdamW.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_step_s: Option<f64>,
    /// Samples trained on in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_samples_per_s: Option<f64>,
    /// The most memory that the process has had, where the system tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
}

/// Measures `options` on `device`.
///
/// # Errors
/// When the model cannot be built or the device fails.
pub fn bench(options: &BenchOptions, device: &Device) -> Result<BenchReport, TrainError> {
    let mut model = ModelBench::new(options, device)?;
    let count = options.batch_size;
    let mut report = BenchReport {
        model: options.model.clone(),
        precision: options.precision,
        batch: count,
        encode_s: None,
        encode_images_per_s: None,
        train_step_s: None,
        train_samples_per_s: None,
        peak_memory_bytes: None,
    };
    if options.encode {
        let seconds = median(options, || model.images(count))?;
        report.encode_s = Some(seconds);
        report.encode_images_per_s = Some(count as f64 / seconds);
    }
    if options.train {
        let seconds = median(options, || model.step(count, usize::MAX))?;
        report.train_step_s = Some(seconds);
        report.train_samples_per_s = Some(count as f64 / seconds);
    }
    report.peak_memory_bytes = MemoryUse::now(device).host_peak;
    Ok(report)
}

/// Of the seconds that `work` says it took.
fn median(
    options: &BenchOptions,
    mut work: impl FnMut() -> Result<f64, TrainError>,
) -> Result<f64, TrainError> {
    let mut seconds = Vec::with_capacity(options.steps);
    for repetition in 0..options.warmup + options.steps.max(1) {
        let took = work()?;
        if repetition >= options.warmup {
            seconds.push(took);
        }
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}
