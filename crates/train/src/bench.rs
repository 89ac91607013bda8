//! How fast a model encodes and trains on a device, on random input.

use std::sync::Arc;
use std::time::Instant;

use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::tensor::Device;
use burn::train::TrainStep;
use openclip_data::loader::Batch;
use openclip_eval::Encoder;
use openclip_eval::run::host;
use openclip_model::config::ModelConfig;
use openclip_model::factory::{self, CreateOptions};
use openclip_model::{params, text};
use serde::Serialize;

use crate::TrainError;
use crate::optim::AdamW;
use crate::precision::Precision;
use crate::task::{Setup, Step, Task};

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
    /// Measure a training step as well.
    pub train: bool,
    /// The training step computes blocks again in the backward pass.
    pub grad_checkpointing: bool,
    /// Changes to the model's configuration.
    pub create: CreateOptions,
}

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
    pub encode_s: f64,
    /// Pictures encoded in a second.
    pub encode_images_per_s: f64,
    /// Seconds of an optimizer step: both towers, loss, backward, AdamW.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_step_s: Option<f64>,
    /// Samples trained on in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_samples_per_s: Option<f64>,
}

/// Measures `options` on `device`.
///
/// # Errors
/// When the model cannot be built or the device fails.
pub fn bench(options: &BenchOptions, device: &Device) -> Result<BenchReport, TrainError> {
    options.precision.check(device, options.train)?;
    let pretrained = options.pretrained.as_deref();
    let mut loaded = factory::create(&options.model, pretrained, device, &options.create)?;
    if let Some(dtype) = options.precision.parameters() {
        loaded.model = params::cast(loaded.model, dtype);
    }
    let count = options.batch_size;
    let batch = random_batch(&loaded.config, count)?;
    let (height, width) = loaded.config.vision_cfg.image_size.dims();
    let compute = options.precision.compute();
    let size = [height, width];
    let preprocess = loaded.preprocess.clone();
    let mut encoder = Encoder::new(&loaded.model, preprocess, size, device, compute);
    if options.precision == Precision::Int8 {
        encoder = encoder.in_8_bits();
    }
    let encode_s = median(options, || {
        Ok(host(encoder.images(batch.images.clone(), count)).map(|_| ())?)
    })?;
    let mut report = BenchReport {
        model: options.model.clone(),
        precision: options.precision,
        batch: count,
        encode_s,
        encode_images_per_s: count as f64 / encode_s,
        train_step_s: None,
        train_samples_per_s: None,
    };
    if options.train {
        if options.grad_checkpointing {
            loaded.model = loaded.model.with_grad_checkpointing()?;
        }
        let setup = Setup {
            device: device.clone().autodiff(),
            compute,
            preprocess: loaded.preprocess,
            image_size: size,
            context_length: loaded.config.text_cfg.context_length,
            grad_clip_norm: None,
            seed: 0,
        };
        let adamw = AdamW::for_model(&options.model);
        let mut optimizer: ModuleOptimizer = adamw.optimizer(&loaded.model);
        let mut task = Some(Task::new(loaded.model.train(), setup));
        let batch = Arc::new(batch);
        let seconds = median(options, || {
            let Some(model) = task.take() else {
                return Ok(());
            };
            let step = Step {
                batches: vec![batch.as_ref().clone()],
                index: 0,
            };
            let output = TrainStep::step(&model, step);
            // Reads the gradient norm, so the step is over when this returns, but for the update itself.
            let model = model.optimize(&mut optimizer, 5e-4.into(), output.grads);
            host(model.clip.logit_scale.val())?;
            task = Some(model);
            Ok(())
        })?;
        report.train_step_s = Some(seconds);
        report.train_samples_per_s = Some(count as f64 / seconds);
    }
    Ok(report)
}

/// Pictures of noise with captions of any ids, the last of which is the largest.
fn random_batch(config: &ModelConfig, size: usize) -> Result<Batch, TrainError> {
    let (height, width) = config.vision_cfg.image_size.dims();
    let (length, ids) = (config.text_cfg.context_length, text::vocabulary(config)?);
    let sample = 3 * height * width + size_of::<i32>() * length;
    let bytes = sample.checked_mul(size);
    let bytes = bytes.filter(|bytes| Vec::<u8>::new().try_reserve_exact(*bytes).is_ok());
    bytes.ok_or_else(|| {
        let reason = format!("{size} pictures of {height}×{width} do not fit into memory");
        TrainError::flag("--batch", reason)
    })?;
    let id = |i: usize| match (i + 1) % length {
        0 => ids - 1,
        _ => i % ids * 7919 % ids,
    };
    Ok(Batch {
        images: (0..3 * height * width * size)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect(),
        tokens: (0..size * length).map(|i| id(i) as i32).collect(),
        size,
        ..Batch::default()
    })
}

fn median(
    options: &BenchOptions,
    mut work: impl FnMut() -> Result<(), TrainError>,
) -> Result<f64, TrainError> {
    let mut seconds = Vec::with_capacity(options.steps);
    for repetition in 0..options.warmup + options.steps.max(1) {
        let start = Instant::now();
        work()?;
        if repetition >= options.warmup {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}
