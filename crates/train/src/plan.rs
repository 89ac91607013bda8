//! What a run would need, before it is started: `openclip train --dry-run`.
//!
//! Sizes in bytes, of one rank. With P parameters, T of them trainable, b samples in a rank's micro-batch, k micro-batches in a
//! step, W ranks and D values in an embedding:
//!
//! * weights `4P` (`2P` in `pure_bf16`), their average `4P`, gradients `4T`, optimizer `4T` for every moment it keeps
//! * activations of the towers that learn: see [`Activations`]; with `--grad-checkpointing` those of one block, and the input of every
//!   other; an estimate, which docs/EXPERIMENTS.md compares with measured peaks
//! * features of all ranks and their gradients `2·2·4·W·b·k·D`
//! * features are gathered, `2·4·b·k·D·(W−1)` bytes received; their gradients are summed over the ranks, twice as much; the
//!   parameters' gradients are summed, `4T·2(W−1)/W` (a ring)

use burn::tensor::{Device, FloatDType};
use openclip_model::config::ModelConfig;
use openclip_model::depth::Layers;
use openclip_model::factory::CreateOptions;
use openclip_model::params::{self, ParamInfo};
use openclip_model::profile::flops::Activations;
use openclip_model::{Clip, device, registry};

use crate::optim::Algorithm;
use crate::run::{learning, setup};
use crate::{Precision, TrainConfig, TrainError};

/// What a run needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The model's name.
    pub model: String,
    /// Width of the numbers.
    pub precision: Precision,
    /// All parameters.
    pub parameters: u64,
    /// Those that learn.
    pub trainable: u64,
    /// Memory whatever the batch is.
    pub fixed: Fixed,
    /// Memory for each sample of a micro-batch that its activations take; absent for a family whose layers are not counted.
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
        let frozen = learning::lock(config).frozen(&model);
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
        let precision = precision(config);
        let value = match precision {
            Precision::PureBf16 => 2,
            _ => 4,
        };
        let algorithm = setup::optim(config)?.algorithm;
        let compute = match precision.compute() {
            FloatDType::F32 => 4,
            _ => 2,
        };
        let activations = Activations::of(&model, &model_config, &all, config.grad_checkpointing);
        let activations = activations.map(|kept| {
            let (height, width) = model_config.vision_cfg.image_size.dims();
            // The picture, and its patches side by side.
            let picture = 2 * 3 * (height * width) as u64;
            let learns = |param: &ParamInfo| !frozen.contains(&param.id);
            // A head that learns behind a locked tower needs nothing of its inside.
            let image = Layers::of_image(&model, &all).params().any(learns);
            let decoder = all
                .iter()
                .filter(|param| param.key.starts_with("text_decoder."));
            let text = Layers::of_text(&model, &all);
            let text = text.params().chain(decoder).any(learns);
            u64::from(image) * kept.image + u64::from(text) * kept.text + picture
        });
        let (batch, accum_freq) = (config.batch_size as u64, config.accum_freq as u64);
        let embed = model_config.embed_dim as u64;
        let others = world_size - 1;
        let sent = 2 * 4 * batch * accum_freq * embed * others;
        Ok(Self {
            model: config.model.clone(),
            precision,
            parameters,
            trainable,
            fixed: Fixed {
                weights: value * parameters + 4 * teacher,
                average: config.ema_decay.map_or(0, |_| 4 * parameters),
                gradients: value * trainable,
                optimizer: moments(&algorithm) * value * trainable,
            },
            activations: activations.map(|values| compute * values),
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

/// What the run would compute in: as given, or what suits `--device`; one that this machine does not have is taken for an accelerator
/// with bfloat16.
fn precision(config: &TrainConfig) -> Precision {
    let suitable = || Precision::of_devices(&device::list(&config.device));
    let assumed = |_| Precision::AmpBf16;
    let given = config.precision;
    given.unwrap_or_else(|| suitable().unwrap_or_else(assumed))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
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

    fn activations(model: &str, change: impl FnOnce(&mut TrainConfig)) -> u64 {
        let of_model = |config: &mut TrainConfig| {
            config.model = model.into();
            change(config);
        };
        let found = plan(of_model, 1).activations;
        found.unwrap_or_else(|| panic!("{model}"))
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
        let plan = plan(|config| config.precision = Some(Precision::AmpBf16), 8);
        let memory = 80 << 30;
        let batch = plan.largest_batch(memory).unwrap();
        assert!(plan.memory(batch).unwrap() <= memory);
        assert!(plan.memory(batch + 1).unwrap() > memory);
        assert_eq!(plan.largest_batch(1 << 30), Some(0));
    }

    /// Each family has an estimate, which recomputation lowers; a tower that does not learn keeps nothing.
    #[test]
    fn every_family_is_estimated() {
        for model in [
            "RN50",
            "convnext_base",
            "ViT-B-16-SigLIP",
            "EVA02-B-16",
            "ViTamin-S",
            "MobileCLIP-S1",
            "swin_base_patch4_window7_224",
            "vit_relpos_medium_patch16_cls_224",
            "coca_ViT-B-32",
            "roberta-ViT-B-32",
            "mt5-base-ViT-B-32",
        ] {
            let of = |change: fn(&mut TrainConfig)| activations(model, change);
            let whole = of(|_| {});
            assert!(
                of(|config| config.grad_checkpointing = true) < whole / 2,
                "{model}"
            );
            assert!(of(|config| config.lock_image = true) < whole, "{model}");
        }
    }

    /// A projection that learns behind a locked tower needs nothing of its inside; a LayerNorm in it does.
    #[test]
    fn locked_texts_keep_nothing() {
        let lock = |config: &mut TrainConfig| config.lock_text = true;
        let lock_norms = |config: &mut TrainConfig| {
            config.lock_text = true;
            config.lock_text_freeze_layer_norm = true;
        };
        for model in ["ViT-B-32", "roberta-ViT-B-32"] {
            let whole = activations(model, |_| {});
            assert!(activations(model, lock_norms) < whole, "{model}");
        }
        let roberta = "roberta-ViT-B-32";
        assert_eq!(activations(roberta, lock), activations(roberta, |_| {}));
    }
}
