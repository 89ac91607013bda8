//! timm's FastViT as OpenCLIP's timm adapter uses it: the image tower of MobileCLIP ("FastViT",
//! <https://arxiv.org/abs/2303.14189>; "MobileCLIP", <https://arxiv.org/abs/2311.17049>).
//!
//! Weights are those of training, with parallel branches; [`ImageFamily::fold`] joins the branches for inference.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

mod apple;
mod arch;
mod block;
mod mobile_one;
mod squeeze_excite;

pub use arch::{FastVitConfig, NormLayer, TokenMixer};
pub use block::{BlockConfig, FastVitBlock};
pub use mobile_one::{MobileOneBlock, MobileOneConfig, ReparamLargeKernelConv};
pub use squeeze_excite::SqueezeExcite;

use crate::family::cost::{Cost, blocks, find, sides};
use crate::family::keys::{Foreign, Marks};
use crate::family::{ImageFamily, Init, ParamInfo};
use crate::files::ModelError;
use crate::files::config::{ModelConfig, TimmProj, VisionConfig};
use crate::layers::batch_norm::PendingStatistics;
use crate::layers::drop_path::drop_path_shares;
use crate::layers::folded::{Folded, Tail};
use crate::layers::{Activation, Bits, Channels, Conv2d, Linear, Recompute};
use crate::vision::timm::{TimmHead, initial_head};

/// Side of the kernels that shrink the map between stages.
const DOWN_KERNEL: usize = 7;
/// Side of the kernels that tell positions apart.
const POSITION_KERNEL: usize = 7;
/// Channels of the last convolution relative to those of the last stage.
const LAST_RATIO: usize = 2;
/// Channels per reduced feature of the gate behind the last convolution.
const LAST_GATE: usize = 16;
/// The same of the gates at the beginnings of stages, whose features are a multiple of [`DOWN_GATE_STEP`].
const DOWN_GATE: usize = 4;
const DOWN_GATE_STEP: usize = 8;

/// Half the resolution and another number of channels.
#[derive(Module, Debug)]
pub struct Downsample {
    /// Depthwise convolution of stride 2, then one over channels.
    pub proj: (ReparamLargeKernelConv, MobileOneBlock),
}

impl Downsample {
    fn new(
        [input, output]: [usize; 2],
        gate: bool,
        activation: Option<Activation>,
        pending: &PendingStatistics,
        device: &Device,
    ) -> Self {
        let large = MobileOneConfig {
            input,
            output,
            stride: 2,
            gate: gate.then(|| gate_width(output, DOWN_GATE, DOWN_GATE_STEP)),
            activation,
            ..MobileOneConfig::mixing(output, DOWN_KERNEL)
        };
        let mix = MobileOneConfig {
            depthwise: false,
            activation: Some(Activation::Gelu),
            ..MobileOneConfig::mixing(output, 1)
        };
        Self {
            proj: (
                ReparamLargeKernelConv::new(&large, pending, device),
                MobileOneBlock::new(&mix, pending, device),
            ),
        }
    }
}

/// Adds what a depthwise convolution makes of a map to it, which tells the attention where a position lies
/// (timm's `RepConditionalPosEnc`).
#[derive(Module, Debug)]
pub struct PositionEncoding {
    /// 7×7, depthwise.
    pub pos_enc: Conv2d,
    #[module(skip)]
    folded: Option<Folded>,
}

impl PositionEncoding {
    fn new(width: usize, device: &Device) -> Self {
        Self {
            pos_enc: Conv2d::depthwise(width, width, POSITION_KERNEL, 1, device).biased(device),
            folded: None,
        }
    }

    fn forward(&self, x: Tensor<4>, training: bool) -> Tensor<4> {
        match &self.folded {
            Some(folded) if !training => folded.forward(x),
            _ => self.pos_enc.forward(x.clone()) + x,
        }
    }

    fn evaluate(&self, x: Tensor<4>) -> Option<Tensor<4>> {
        Some(
            self.folded
                .as_ref()?
                .with(Channels::Last, x, Tail::default()),
        )
    }

    fn fold(&mut self) {
        let [width, ..] = self.pos_enc.weight.dims();
        let skip = Folded::identity(width, width, &self.pos_enc.weight.device());
        self.folded = Some(Folded::conv(&self.pos_enc).plus(skip));
    }
}

/// Blocks of one resolution.
#[derive(Module, Debug)]
pub struct FastVitStage {
    /// From the stage before.
    pub downsample: Option<Downsample>,
    /// Before the blocks.
    pub pos_emb: Option<PositionEncoding>,
    /// Residual blocks.
    pub blocks: Vec<FastVitBlock>,
}

/// What follows the mean over positions.
#[derive(Module, Debug)]
pub struct FastVitHead {
    /// Classifier, whose classes are the features of the embedding.
    pub fc: Option<Linear>,
}

/// timm's FastViT up to the pooled vector, or to the embedding where its classifier is the map there.
#[derive(Module, Debug)]
pub struct FastVit {
    /// Three convolutions: stride 2; depthwise, stride 2; one pixel.
    pub stem: Vec<MobileOneBlock>,
    /// Stages, each of half the resolution of the one before.
    pub stages: Vec<FastVitStage>,
    /// Depthwise convolution to twice the channels, with a gate.
    pub final_conv: MobileOneBlock,
    /// Pooled features.
    pub head: FastVitHead,
    #[module(skip)]
    pending: PendingStatistics,
    /// What becomes of the blocks' activations.
    #[module(skip)]
    pub recompute: Recompute,
}

/// timm's FastViT and the map behind it.
#[derive(Module, Debug)]
pub struct FastVitTower {
    /// The network.
    pub trunk: FastVit,
    /// The map to the shared embedding.
    pub head: TimmHead,
}

impl ImageFamily for FastVitTower {
    fn configures(vision: &VisionConfig) -> bool {
        let named = vision.timm_model_name().and_then(FastVitConfig::named);
        named.is_some()
    }

    fn marks() -> &'static [Marks] {
        &[("a FastViT", &[".token_mixer."])]
    }

    fn foreign() -> &'static [Foreign] {
        &[apple::APPLE]
    }

    fn new(config: &ModelConfig, device: &Device) -> Result<Self, ModelError> {
        let vision = &config.vision_cfg;
        let options = vision.timm()?;
        let arch = FastVitConfig::of(&options)?;
        vision.image_size.at_least(1)?;
        if vision.patch_dropout != 0.0 {
            let reason = format!("{}: FastViT has no patch tokens", vision.patch_dropout);
            return Err(ModelError::invalid("vision_cfg.patch_dropout", reason));
        }
        let pending = PendingStatistics::default();
        let blocks = arch.layers.iter().sum();
        let shares = drop_path_shares(options.stochastic_depth(0.0)?, blocks);
        let mut shares = shares.into_iter().enumerate();
        let stages = (0..arch.layers.len())
            .map(|stage| {
                let shares = shares.by_ref().take(arch.layers[stage]).collect();
                FastVitStage::new(&arch, stage, shares, &pending, device)
            })
            .collect();
        let last = arch.embed_dims[arch.embed_dims.len() - 1];
        let features = LAST_RATIO * last;
        let final_conv = MobileOneConfig {
            input: last,
            gate: Some(gate_width(features, LAST_GATE, 1)),
            activation: Some(Activation::Gelu),
            ..MobileOneConfig::mixing(features, 3)
        };
        let classifier = options.projection()? == TimmProj::Classifier;
        Ok(Self {
            trunk: FastVit {
                stem: stem(&arch, &pending, device),
                stages,
                final_conv: MobileOneBlock::new(&final_conv, &pending, device),
                head: FastVitHead {
                    fc: classifier.then(|| Linear::new(features, config.embed_dim, true, device)),
                },
                pending,
                recompute: Recompute::default(),
            },
            head: TimmHead::new(&options, features, config.embed_dim, device)?,
        })
    }

    fn forward(&self, image: Tensor<4>, training: Option<u64>) -> Tensor<2> {
        self.head.forward(self.trunk.forward(image, training))
    }

    /// How a parameter of the tower starts: timm's `_init_weights`, and PyTorch's defaults for all other layers.
    fn initial(&self, key: &str, shape: &[usize], config: &ModelConfig) -> Option<Init> {
        let arch = FastVitConfig::of(&config.vision_cfg.timm().ok()?).ok()?;
        let last = LAST_RATIO * arch.embed_dims[arch.embed_dims.len() - 1];
        let Some(name) = key.strip_prefix("visual.trunk.") else {
            return Some(initial_head(key, shape, last, config));
        };
        let (module, leaf) = name.rsplit_once('.')?;
        Some(match (leaf, shape.len()) {
            ("gamma", _) => Init::Constant(arch.layer_scale_init_value),
            ("running_mean", _) => Init::Constant(0.0),
            ("running_var", _) => Init::Constant(1.0),
            // Norms; no other layer has a vector of that name.
            ("weight", 1) => Init::Constant(1.0),
            // Cut at ±2, a hundred standard deviations away.
            ("weight", 2) => Init::Normal(0.02),
            ("weight", _) if module.contains(".mlp.") => Init::Normal(0.02),
            ("weight", _) => Init::of_matrix(shape),
            ("bias", _) if module.ends_with(".pos_enc") => Init::of_inputs(POSITION_KERNEL.pow(2)),
            ("bias", _) if module.ends_with(".se.fc1") => Init::of_inputs(gated(&arch, name)?),
            ("bias", _) if module.ends_with(".se.fc2") => {
                Init::of_inputs(match name.contains("final") {
                    true => gate_width(last, LAST_GATE, 1),
                    false => gate_width(gated(&arch, name)?, DOWN_GATE, DOWN_GATE_STEP),
                })
            }
            _ => Init::Constant(0.0),
        })
    }

    /// Strides of two in the stem and where a stage begins, a pixel more where a side is odd; gates see the mean.
    fn cost(&self, config: &ModelConfig, params: &[&ParamInfo]) -> Option<Cost> {
        let size = sides(config.vision_cfg.image_size);
        let map = |halvings: u64| -> u64 {
            let [height, width] =
                size.map(|side| (0..halvings).fold(side, |side, _| side.div_ceil(2)));
            height * width
        };
        let shrinks = |stage: &u64| {
            let first =
                format!("visual.trunk.stages.{stage}.downsample.proj.0.large_conv.conv.weight");
            find(params, &first).is_some()
        };
        let halvings = |stage: u64| 2 + (0..=stage).filter(shrinks).count() as u64;
        let stages = blocks(params, "visual.trunk.stages.");
        let matrices = Cost::of_matrices(params, "visual.", |key| {
            if key.contains(".se.") || key.starts_with("trunk.head.") || key.starts_with("head.") {
                return Some(1);
            }
            if key.ends_with(".gamma") {
                return Some(0);
            }
            let stage = key.strip_prefix("trunk.stages.");
            if let Some((stage, _)) = stage.and_then(|rest| rest.split_once('.')) {
                return Some(map(halvings(stage.parse().ok()?)));
            }
            match key.strip_prefix("trunk.stem.") {
                Some(layer) => Some(map(if layer.starts_with("0.") { 1 } else { 2 })),
                None => {
                    let last = map(halvings(stages.saturating_sub(1)));
                    key.starts_with("trunk.final_conv.").then_some(last)
                }
            }
        })?;
        let attention = (0..stages).map(|stage| {
            let prefix = format!("visual.trunk.stages.{stage}.blocks.");
            let qkv = find(params, &format!("{prefix}0.token_mixer.qkv.weight"));
            let layers = blocks(params, &prefix);
            qkv.map_or_else(Cost::default, |qkv| {
                Cost::attention(layers, [map(halvings(stage)); 2], qkv.shape[1] as u64)
            })
        });
        Some(matrices + attention.sum())
    }

    fn recompute_blocks(&mut self) -> Result<(), ModelError> {
        let blocks = self.trunk.stages.iter().flat_map(|stage| &stage.blocks);
        self.trunk.recompute = Recompute::of(blocks, 1)?;
        Ok(())
    }

    fn pending_statistics(&self) -> Option<&PendingStatistics> {
        Some(&self.trunk.pending)
    }

    /// One convolution in place of parallel branches, skip connections and BatchNorm.
    fn fold(&mut self, _: Bits) -> bool {
        let trunk = &mut self.trunk;
        trunk.stem.iter_mut().for_each(MobileOneBlock::fold);
        for stage in &mut trunk.stages {
            if let Some(Downsample { proj: (large, mix) }) = &mut stage.downsample {
                large.fold();
                mix.fold();
            }
            if let Some(positions) = &mut stage.pos_emb {
                positions.fold();
            }
            stage.blocks.iter_mut().for_each(FastVitBlock::fold);
        }
        trunk.final_conv.fold();
        false
    }
}

fn stem(arch: &FastVitConfig, pending: &PendingStatistics, device: &Device) -> Vec<MobileOneBlock> {
    let width = arch.embed_dims[0];
    let like = MobileOneConfig {
        scale_branch: arch.stem_use_scale_branch,
        activation: Some(Activation::Gelu),
        ..MobileOneConfig::mixing(width, 3)
    };
    let first = MobileOneConfig {
        input: 3,
        stride: 2,
        depthwise: false,
        ..like
    };
    let second = MobileOneConfig { stride: 2, ..like };
    let third = MobileOneConfig {
        kernel: 1,
        depthwise: false,
        ..like
    };
    [first, second, third]
        .iter()
        .map(|config| MobileOneBlock::new(config, pending, device))
        .collect()
}

impl FastVitStage {
    /// `shares` are the blocks' numbers in the tower with their stochastic depth.
    fn new(
        arch: &FastVitConfig,
        stage: usize,
        shares: Vec<(usize, f64)>,
        pending: &PendingStatistics,
        device: &Device,
    ) -> Self {
        let width = arch.embed_dims[stage];
        let before = arch.embed_dims[stage.saturating_sub(1)];
        let activation = arch.lkc_use_act.then_some(Activation::Gelu);
        let block = |(index, drop)| {
            let config = BlockConfig {
                width,
                hidden: (width as f64 * arch.mlp_ratios[stage]) as usize,
                norm: arch.norm_layer,
                drop,
                index,
            };
            match arch.token_mixers[stage] {
                TokenMixer::RepMixer => FastVitBlock::convolutional(&config, pending, device),
                TokenMixer::Attention => FastVitBlock::attentive(&config, pending, device),
            }
        };
        Self {
            downsample: arch.shrinks(stage).then(|| {
                let gate = arch.se_downsamples[stage];
                Downsample::new([before, width], gate, activation, pending, device)
            }),
            pos_emb: arch.pos_embs[stage].then(|| PositionEncoding::new(width, device)),
            blocks: shares.into_iter().map(block).collect(),
        }
    }

    /// The same in evaluation with channels last, once it is folded.
    fn evaluate(&self, mut x: Tensor<4>) -> Option<Tensor<4>> {
        if let Some(Downsample { proj: (large, mix) }) = &self.downsample {
            x = mix.evaluate(large.evaluate(x)?)?;
        }
        if let Some(positions) = &self.pos_emb {
            x = positions.evaluate(x)?;
        }
        self.blocks.iter().try_fold(x, |x, block| block.evaluate(x))
    }

    fn forward(&self, mut x: Tensor<4>, training: Option<u64>, recompute: Recompute) -> Tensor<4> {
        let trains = training.is_some();
        if let Some(Downsample { proj: (large, mix) }) = &self.downsample {
            x = mix.forward(large.forward(x, trains), trains);
        }
        if let Some(positions) = &self.pos_emb {
            x = positions.forward(x, trains);
        }
        let blocks = self.blocks.iter();
        blocks.fold(x, |x, block| {
            recompute.block(block, [x], move |block, [x]| block.forward(x, training))
        })
    }
}

impl FastVit {
    /// Normalised pixels `[batch, 3, height, width]` → `[batch, channels]`, or `[batch, embed_dim]` with a classifier.
    pub fn forward(&self, image: Tensor<4>, training: Option<u64>) -> Tensor<2> {
        let trains = training.is_some();
        if !trains && let Some(pooled) = self.evaluate(&image) {
            return self.head.forward(pooled);
        }
        let stem = self.stem.iter();
        let x = stem.fold(image, |x, block| block.forward(x, trains));
        let stages = self.stages.iter();
        let x = stages.fold(x, |x, stage| stage.forward(x, training, self.recompute));
        let x = self.final_conv.forward(x, trains);
        let [batch, channels, height, width] = x.dims();
        let mean = x.reshape([batch, channels, height * width]).mean_dim(2);
        self.head.forward(mean.reshape([batch, channels]))
    }

    /// The mean of the last map, where channels last are faster and all is folded.
    fn evaluate(&self, image: &Tensor<4>) -> Option<Tensor<2>> {
        if Channels::fastest(image) == Channels::First {
            return None;
        }
        let x = image.clone().permute([0, 2, 3, 1]);
        let x = self.stem.iter().try_fold(x, |x, block| block.evaluate(x))?;
        let mut stages = self.stages.iter();
        let x = stages.try_fold(x, |x, stage| stage.evaluate(x))?;
        let x = self.final_conv.evaluate(x)?;
        let [batch, height, width, channels] = x.dims();
        let mean = x.reshape([batch, height * width, channels]).mean_dim(1);
        Some(mean.reshape([batch, channels]))
    }
}

impl FastVitHead {
    fn forward(&self, pooled: Tensor<2>) -> Tensor<2> {
        match &self.fc {
            Some(fc) => fc.forward(pooled),
            None => pooled,
        }
    }
}

/// `channels / share` to the nearest multiple of `step`, and at least one.
fn gate_width(channels: usize, share: usize, step: usize) -> usize {
    let width = channels as f64 / share as f64 + step as f64 / 2.0;
    (width as usize / step * step).max(step)
}

/// Channels that the gate of a key belongs to.
fn gated(arch: &FastVitConfig, name: &str) -> Option<usize> {
    if name.starts_with("final_conv.") {
        return Some(LAST_RATIO * arch.embed_dims.last()?);
    }
    let stage: usize = name.split('.').nth(1)?.parse().ok()?;
    arch.embed_dims.get(stage).copied()
}
