//! One model, one repetition at a time.

use std::time::Instant;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor};
use burn::train::TrainStep;
use openclip_data::loader::Batch;
use openclip_eval::Encoder;
use openclip_eval::run::host;
use openclip_model::config::ModelConfig;
use openclip_model::factory::{self, Loaded};
use openclip_model::{params, text};

use super::options::{BenchOptions, timed};
use crate::TrainError;
use crate::optim::AdamW;
use crate::precision::Precision;
use crate::step::{Step, Uploaded};
use crate::task::{Setup, Task};

/// A model that encodes and trains on random input; every method does so once and gives the seconds it took.
pub struct ModelBench {
    loaded: Loaded,
    device: Device,
    precision: Precision,
    encoder: Option<Encoder>,
    task: Option<(Task, ModuleOptimizer)>,
    optimizer: AdamW,
}

impl ModelBench {
    /// The model of `options` on `device`.
    ///
    /// # Errors
    /// When the model cannot be built, or the device does not have the precision.
    pub fn new(options: &BenchOptions, device: &Device) -> Result<Self, TrainError> {
        options.precision.check(device, options.train)?;
        let pretrained = options.pretrained.as_deref();
        let mut loaded = factory::create(&options.model, pretrained, device, &options.create)?;
        if let Some(dtype) = options.precision.parameters() {
            loaded.model = params::cast(loaded.model, dtype);
        }
        if options.train && options.grad_checkpointing {
            loaded.model = loaded.model.with_grad_checkpointing()?;
        }
        Ok(Self {
            loaded,
            device: device.clone(),
            precision: options.precision,
            encoder: None,
            task: None,
            optimizer: AdamW::for_model(&options.model),
        })
    }

    /// Encodes `count` pictures, normalisation and transfer included.
    ///
    /// # Errors
    /// When the pictures do not fit into memory or the device fails.
    pub fn images(&mut self, count: usize) -> Result<f64, TrainError> {
        let planes = pictures(&self.loaded.config, count)?;
        let encoder = self.encoder();
        timed(|| Ok(host(encoder.images(planes, count)).map(|_| ())?))
    }

    /// Encodes `count` captions that fill their context.
    ///
    /// # Errors
    /// As [`Self::images`].
    pub fn texts(&mut self, count: usize) -> Result<f64, TrainError> {
        let ids = captions(&self.loaded, count, usize::MAX)?;
        self.encode(ids, count)
    }

    /// Encodes `count` captions of `length` tokens with padding behind them.
    ///
    /// # Errors
    /// As [`Self::images`].
    pub fn short_texts(&mut self, count: usize, length: usize) -> Result<f64, TrainError> {
        let ids = captions(&self.loaded, count, length)?;
        self.encode(ids, count)
    }

    fn encode(&mut self, ids: Vec<i32>, count: usize) -> Result<f64, TrainError> {
        let encoder = self.encoder();
        timed(|| Ok(host(encoder.tokens(ids, count)).map(|_| ())?))
    }

    /// A whole training step of `count` pairs, whose captions have `length` tokens or fill their context: both towers, loss, backward,
    /// AdamW.
    ///
    /// # Errors
    /// As [`Self::images`].
    pub fn step(&mut self, count: usize, length: usize) -> Result<f64, TrainError> {
        let batch = Batch {
            images: pictures(&self.loaded.config, count)?,
            tokens: captions(&self.loaded, count, length)?,
            size: count,
            ..Batch::default()
        };
        let (height, width) = self.loaded.config.vision_cfg.image_size.dims();
        let device = self.device.clone().autodiff();
        let (task, mut optimizer) = self.take_task();
        let mut stepped = None;
        let seconds = timed(|| {
            let step = Step {
                batches: vec![Uploaded::new(batch, [height, width], &device)],
                index: 0,
            };
            let output = TrainStep::step(&task, step);
            // Reads the gradient norm, so the step is over when this returns, but for the update itself.
            let task = task.optimize(&mut optimizer, 5e-4.into(), output.grads);
            host(task.clip.logit_scale.val())?;
            stepped = Some(task);
            Ok(())
        })?;
        self.task = stepped.map(|task| (task, optimizer));
        Ok(seconds)
    }

    /// AdamW's update alone, with a share of every parameter as its gradient.
    ///
    /// # Errors
    /// When the device fails.
    pub fn update(&mut self) -> Result<f64, TrainError> {
        let (mut task, mut optimizer) = self.take_task();
        let mut own = Own([GradientsParams::new(), GradientsParams::new()]);
        task.clip.visit(&mut own);
        // Nobody else holds the parameters, as in training; gradients are given back behind the update.
        let Own([gradients, _kept]) = own;
        let start = Instant::now();
        task.clip = optimizer.step(5e-4, task.clip, gradients);
        host(task.clip.logit_scale.val())?;
        let seconds = start.elapsed().as_secs_f64();
        self.task = Some((task, optimizer));
        Ok(seconds)
    }

    fn encoder(&mut self) -> &Encoder {
        let Self {
            loaded,
            device,
            precision,
            ..
        } = self;
        self.encoder
            .get_or_insert_with(|| precision.encoder(loaded, device))
    }

    fn take_task(&mut self) -> (Task, ModuleOptimizer) {
        // What encodes alone need not stay in memory beside what learns.
        self.encoder = None;
        self.task.take().unwrap_or_else(|| {
            let setup = Setup {
                device: self.device.clone().autodiff(),
                compute: self.precision.compute(),
                preprocess: self.loaded.preprocess.clone(),
                grad_clip_norm: None,
                seed: 0,
            };
            let optimizer = self.optimizer.optimizer(&self.loaded.model);
            (
                Task::new(self.loaded.model.clone().train(), setup),
                optimizer,
            )
        })
    }
}

/// A share of every parameter as its gradient, twice.
struct Own([GradientsParams; 2]);

impl ModuleVisitor for Own {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = param.val().inner().mul_scalar(1e-3);
        for gradients in &mut self.0 {
            gradients.register(param.id, gradient.clone());
        }
    }
}

/// Noise, as planes `[count, 3, height, width]`.
fn pictures(config: &ModelConfig, count: usize) -> Result<Vec<u8>, TrainError> {
    let (height, width) = config.vision_cfg.image_size.dims();
    let picture = 3 * height * width;
    let bytes = picture.checked_mul(count);
    let bytes = bytes.filter(|bytes| Vec::<u8>::new().try_reserve_exact(*bytes).is_ok());
    let bytes = bytes.ok_or_else(|| {
        let reason = format!("{count} pictures of {height}×{width} do not fit into memory");
        TrainError::flag("--batch", reason)
    })?;
    let value = |i: usize| (i.wrapping_mul(2_654_435_761) >> 13) as u8;
    Ok((0..bytes).map(value).collect())
}

/// Any ids `[count, context]`, of which the largest ends a caption of `length` tokens, and padding behind it.
fn captions(loaded: &Loaded, count: usize, length: usize) -> Result<Vec<i32>, TrainError> {
    let Loaded { config, model, .. } = loaded;
    let (context, ids) = (config.text_cfg.context_length, text::vocabulary(config)?);
    let padding = model.text.pad_id();
    let last = length.clamp(1, context.max(1)) - 1;
    let id = |i: usize| match i % context {
        place if place == last => ids - 1,
        place if place > last => padding,
        _ => i % ids * 7919 % ids,
    };
    Ok((0..count * context).map(|i| id(i) as i32).collect())
}
