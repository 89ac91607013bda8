//! What a run would need, before it is started: `openclip train --dry-run`.
//!
//! Sizes in bytes, of one rank. With P parameters, T of them trainable, b samples in a rank's micro-batch, k micro-batches in a
//! step, W ranks and D values in an embedding:
//!
//! * weights `4P` (`2P` in `pure_bf16`), their average `4P`, gradients `4T`, optimizer `4T` for every moment it keeps
//! * activations: for every block of a tower what its backward pass needs, see `Tower::activations`; with
//!   `--grad-checkpointing` that of one block, and the input of every other; an estimate, with which the whole
//!   was 10 to 16 % below the measured peak of two models on the CPU backend (docs/EXPERIMENTS.md)
//! * features of all ranks and their gradients `2·2·4·W·b·k·D`
//! * features are gathered, `2·4·b·k·D·(W−1)` bytes received; their gradients are summed over the ranks, twice as much; the
//!   parameters' gradients are summed, `4T·2(W−1)/W` (a ring)

use burn::tensor::{Device, FloatDType};
use openclip_model::config::ModelConfig;
use openclip_model::factory::CreateOptions;
use openclip_model::params::{self, ParamInfo};
use openclip_model::{Clip, registry};

use crate::optim::Algorithm;
use crate::run::setup;
use crate::{Precision, TrainConfig, TrainError};

/// What a run needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The model's name.
    pub model: String,
    /// All parameters.
    pub parameters: u64,
    /// Those that learn.
    pub trainable: u64,
    /// Memory whatever the batch is.
    pub fixed: Fixed,
    /// Memory for each sample of a micro-batch that its activations take; absent for towers that are no plain transformers.
    pub activations: Option<u64>,
    /// Memory for each sample of a step that its features and their gradients take, those of all ranks.
    pub features: u64,
    /// Samples of a micro-batch on one rank.
    pub batch: u64,
    /// Micro-batches of a step.
    pub accum_freq: u64,
    /// Ranks.
    pub world_size: u64,
    /// What one rank receives in a step.
    pub communication: Communication,
}

/// Memory that does not depend on the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed {
    /// Of the model and of a teacher.
    pub weights: u64,
    /// Of their average (`--ema-decay`).
    pub average: u64,
    /// Of the trainable parameters.
    pub gradients: u64,
    /// Moments.
    pub optimizer: u64,
}

/// Bytes that one rank receives in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Communication {
    /// Features of the other ranks.
    pub features: u64,
    /// Gradients of features.
    pub feature_gradients: u64,
    /// Gradients of parameters.
    pub parameter_gradients: u64,
}

impl Plan {
    /// Of the run that `config` describes, on `world_size` ranks. Nothing is allocated and no data is read.
    ///
    /// # Errors
    /// When flags or model cannot be.
    pub fn of(config: &TrainConfig, world_size: u64) -> Result<Self, TrainError> {
        let device = Device::default();
        let options = setup::create_options(config)?;
        let (model_config, model) = build(&config.model, config, &options, &device)?;
        let frozen = setup::lock(config).frozen(&model)?;
        let all = params::describe(&model).into_iter();
        let all: Vec<ParamInfo> = all.filter(ParamInfo::is_parameter).collect();
        let count = |part: &dyn Fn(&ParamInfo) -> bool| -> u64 {
            let counted = all.iter().filter(|param| part(param));
            counted.map(|param| param.numel() as u64).sum()
        };
        let parameters = count(&|_| true);
        let trainable = count(&|param| !frozen.contains(&param.id));
        let teacher = match &config.distill_model {
            Some(name) => {
                let (_, teacher) = build(name, config, &CreateOptions::default(), &device)?;
                let all = params::describe(&teacher);
                all.iter().map(|param| param.numel() as u64).sum()
            }
            None => 0,
        };
        let value = match config.precision {
            Precision::PureBf16 => 2,
            _ => 4,
        };
        let algorithm = setup::optim(config)?.algorithm;
        let compute = match config.precision.compute() {
            FloatDType::F32 => 4,
            _ => 2,
        };
        let (batch, accum_freq) = (config.batch_size as u64, config.accum_freq as u64);
        let embed = model_config.embed_dim as u64;
        let others = world_size - 1;
        let sent = 2 * 4 * batch * accum_freq * embed * others;
        Ok(Self {
            model: config.model.clone(),
            parameters,
            trainable,
            fixed: Fixed {
                weights: value * parameters + 4 * teacher,
                average: config.ema_decay.map_or(0, |_| 4 * parameters),
                gradients: value * trainable,
                optimizer: moments(&algorithm) * value * trainable,
            },
            activations: towers(&model_config).map(|towers| {
                let (height, width) = model_config.vision_cfg.image_size.dims();
                // The picture, and its patches side by side.
                let picture = 2 * 3 * (height * width) as u64;
                let towers = towers.iter();
                let values: u64 = match config.grad_checkpointing {
                    false => towers.map(Tower::activations).sum(),
                    true => towers.map(Tower::checkpointed).sum(),
                };
                compute * (values + picture)
            }),
            features: 2 * 2 * 4 * world_size * embed,
            batch,
            accum_freq,
            world_size,
            communication: Communication {
                features: sent,
                feature_gradients: 2 * sent,
                parameter_gradients: 4 * trainable * 2 * others / world_size,
            },
        })
    }

    /// All of the memory at a micro-batch of `batch` samples.
    pub fn memory(&self, batch: u64) -> Option<u64> {
        let Fixed {
            weights,
            average,
            gradients,
            optimizer,
        } = self.fixed;
        Some(weights + average + gradients + optimizer + batch * self.of_sample()?)
    }

    /// The largest micro-batch for `memory` bytes on one rank; zero where not even one sample fits.
    pub fn largest_batch(&self, memory: u64) -> Option<u64> {
        let left = memory.saturating_sub(self.memory(0)?);
        Some(left / self.of_sample()?)
    }

    fn of_sample(&self) -> Option<u64> {
        Some(self.activations? + self.accum_freq * self.features)
    }
}

/// A model whose weights are not there.
fn build(
    name: &str,
    config: &TrainConfig,
    options: &CreateOptions,
    device: &Device,
) -> Result<(ModelConfig, Clip), TrainError> {
    let source = registry::resolve(name, config.cache_dir.as_deref())?;
    let config = options.apply(source.config);
    let model = Clip::new(&config, device)?;
    Ok((config, model))
}

/// Values that an optimizer keeps for each parameter.
fn moments(algorithm: &Algorithm) -> u64 {
    match algorithm {
        Algorithm::AdamW { amsgrad, .. } => 2 + u64::from(*amsgrad),
        Algorithm::NAdamW { .. } | Algorithm::Lamb { .. } => 2,
        Algorithm::Lion { .. } => 1,
        // Rows and columns, which are few.
        Algorithm::Adafactor { .. } => 0,
        Algorithm::Sgd { momentum, .. } => u64::from(*momentum != 0.0),
    }
}

/// A stack of transformer blocks.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tower {
    layers: u64,
    tokens: u64,
    width: u64,
    hidden: u64,
    heads: u64,
    quick_gelu: bool,
}

impl Tower {
    /// Values that the backward pass of one sample needs: of each token ten vectors of the block's width (the stream twice, both
    /// norms, query, key, value, the heads' result before and after they are joined, the branch), two of the hidden width (four
    /// with QuickGELU, which is a product), and of each head three rows of the attention (scores, their scaling, weights).
    fn activations(&self) -> u64 {
        let hidden = if self.quick_gelu { 4 } else { 2 };
        let token = 10 * self.width + hidden * self.hidden + 3 * self.heads * self.tokens;
        self.layers * self.tokens * token
    }

    /// The same where a block keeps its input alone and is computed again when its turn comes.
    fn checkpointed(&self) -> u64 {
        self.layers * self.tokens * self.width + self.activations() / self.layers.max(1)
    }
}

/// The towers of a plain CLIP: native ViT and native text transformer.
fn towers(config: &ModelConfig) -> Option<[Tower; 2]> {
    let (vision, text) = (&config.vision_cfg, &config.text_cfg);
    let is_plain = vision.timm_model_name().is_none()
        && !vision.is_resnet()
        && text.hf().ok()?.is_none()
        && !config.extra.contains_key("multimodal_cfg");
    let layers = vision.layers.as_u64().filter(|_| is_plain)?;
    let patch = vision.patch_size?;
    let (height, width) = vision.image_size.dims();
    let patches = (height / patch * (width / patch)) as f64;
    let kept = (patches * (1.0 - vision.patch_dropout)).max(1.0) as u64;
    let hidden = |width: usize, ratio: f64| (width as f64 * ratio) as u64;
    Some([
        Tower {
            layers,
            tokens: kept + 1,
            width: vision.width as u64,
            hidden: hidden(vision.width, vision.mlp_ratio),
            heads: (vision.width / vision.head_width) as u64,
            quick_gelu: config.quick_gelu,
        },
        Tower {
            layers: text.layers as u64,
            tokens: text.context_length as u64,
            width: text.width as u64,
            hidden: hidden(text.width, text.mlp_ratio),
            heads: text.heads as u64,
            quick_gelu: config.quick_gelu,
        },
    ])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn plan(change: impl FnOnce(&mut TrainConfig), world_size: u64) -> Plan {
        let mut config = TrainConfig {
            model: "ViT-B-32".into(),
            batch_size: 256,
            ..TrainConfig::default()
        };
        change(&mut config);
        Plan::of(&config, world_size).unwrap()
    }

    /// OpenCLIP's `model_profile.csv`: 151.28 M parameters, of which the image tower 87.85 M.
    #[test]
    fn parameters_and_fixed_memory() {
        let whole = plan(|_| {}, 1);
        assert_eq!(whole.parameters, 151_277_313);
        assert_eq!(whole.trainable, whole.parameters);
        assert_eq!(whole.fixed.weights, 4 * 151_277_313);
        assert_eq!(whole.fixed.optimizer, 8 * 151_277_313);
        let lit = plan(|config| config.lock_image = true, 1);
        assert_eq!(lit.trainable, 151_277_313 - 87_849_216);
        let average = plan(|config| config.ema_decay = Some(0.999), 1);
        assert_eq!(average.memory(0), Some(20 * 151_277_313));
        let lion = plan(|config| config.opt = "lion".into(), 1);
        assert_eq!(lion.fixed.optimizer, 4 * 151_277_313);
    }

    #[test]
    fn communication_of_a_ring() {
        assert_eq!(
            plan(|_| {}, 1).communication,
            Communication {
                features: 0,
                feature_gradients: 0,
                parameter_gradients: 0
            }
        );
        let found = plan(|config| config.accum_freq = 2, 1024).communication;
        // 512 samples, two embeddings of 512 values of 4 bytes, from 1,023 others.
        assert_eq!(found.features, 512 * 2 * 512 * 4 * 1023);
        assert_eq!(found.feature_gradients, 2 * found.features);
        assert_eq!(
            found.parameter_gradients,
            151_277_313_u64 * 4 * 2 * 1023 / 1024
        );
    }

    #[test]
    fn recomputed_blocks_leave_room() {
        let kept = plan(|_| {}, 1).activations.unwrap();
        let computed = plan(|config| config.grad_checkpointing = true, 1).activations;
        assert!(computed.unwrap() * 5 < kept, "{computed:?} of {kept}");
    }

    #[test]
    fn the_largest_batch_fills_the_memory() {
        let plan = plan(|config| config.precision = Precision::AmpBf16, 8);
        let memory = 80 << 30;
        let batch = plan.largest_batch(memory).unwrap();
        assert!(plan.memory(batch).unwrap() <= memory);
        assert!(plan.memory(batch + 1).unwrap() > memory);
        assert_eq!(plan.largest_batch(1 << 30), Some(0));
        let other = Plan::of(&TrainConfig::default(), 1).unwrap();
        assert_eq!(
            other.largest_batch(memory),
            None,
            "a ResNet is not estimated"
        );
    }
}
