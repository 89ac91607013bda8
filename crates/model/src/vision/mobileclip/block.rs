//! Blocks of a FastViT: a token mixer and an MLP, each on a residual branch.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::arch::{HEAD_WIDTH, NormLayer};
use super::mobile_one::{MobileOneBlock, MobileOneConfig};
use crate::layers::batch_norm::PendingStatistics;
use crate::layers::drop_path::DropPath;
use crate::layers::folded::{ConvNorm, Folded, Tail};
use crate::layers::{
    Activation, BatchNorm2d, Channels, Conv2d, LayerNorm, LayerScale2d, QkvAttention,
};

/// Side of the depthwise kernel that mixes positions.
const MIXER_KERNEL: usize = 3;
/// Side of the depthwise kernel before an MLP.
const MLP_KERNEL: usize = 7;
/// Added to the variance in LayerNorms.
const NORM_EPS: f64 = 1e-5;

/// Sizes of a block, and how often training leaves its branches out.
#[derive(Debug, Clone, Copy)]
pub struct BlockConfig {
    /// Channels.
    pub width: usize,
    /// Hidden channels of the MLP.
    pub hidden: usize,
    /// Norm before the attention.
    pub norm: NormLayer,
    /// Share of samples for which training leaves a branch out.
    pub drop: f64,
    /// Number of the block in the tower.
    pub index: usize,
}

/// A depthwise convolution minus a norm of the same input, on a residual branch.
#[derive(Module, Debug)]
pub struct RepMixer {
    /// BatchNorm of the input.
    pub norm: MobileOneBlock,
    /// Depthwise convolution.
    pub mixer: MobileOneBlock,
    /// On the difference.
    pub layer_scale: LayerScale2d,
    #[module(skip)]
    folded: Option<Folded>,
}

impl RepMixer {
    fn new(width: usize, pending: &PendingStatistics, device: &Device) -> Self {
        let mixer = MobileOneConfig::mixing(width, MIXER_KERNEL);
        let norm = MobileOneConfig {
            convolution: false,
            scale_branch: false,
            ..mixer
        };
        Self {
            norm: MobileOneBlock::new(&norm, pending, device),
            mixer: MobileOneBlock::new(&mixer, pending, device),
            layer_scale: LayerScale2d::new(width, device),
            folded: None,
        }
    }

    fn forward(&self, x: Tensor<4>, training: bool) -> Tensor<4> {
        match &self.folded {
            Some(folded) if !training => folded.forward(x),
            _ => {
                let mixed = self.mixer.forward(x.clone(), training);
                let branch = mixed - self.norm.forward(x.clone(), training);
                x + self.layer_scale.forward(branch)
            }
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
        let gamma = factors(&self.layer_scale);
        let [width] = gamma.dims();
        let skip = Folded::identity(width, width, &gamma.device());
        self.folded = match (self.mixer.folded(), self.norm.folded()) {
            (Some(mixer), Some(norm)) => Some(
                skip.plus(mixer.scaled(gamma.clone()))
                    .plus(norm.scaled(gamma.neg())),
            ),
            _ => None,
        };
    }
}

/// A depthwise convolution and two layers over channels.
#[derive(Module, Debug)]
pub struct ConvMlp {
    /// 7×7, depthwise.
    pub conv: ConvNorm,
    /// `width → hidden`.
    pub fc1: Conv2d,
    /// `hidden → width`.
    pub fc2: Conv2d,
    /// The layers over channels, the second with the block's factors on its output.
    #[module(skip)]
    folded: Option<[Folded; 2]>,
}

/// `[channels]`.
fn factors(scale: &LayerScale2d) -> Tensor<1> {
    scale.gamma.val().flatten(0, 2)
}

impl ConvMlp {
    fn new(config: &BlockConfig, pending: &PendingStatistics, device: &Device) -> Self {
        let BlockConfig { width, hidden, .. } = *config;
        let conv = Conv2d::depthwise(width, width, MLP_KERNEL, 1, device);
        Self {
            conv: ConvNorm::new(conv, BatchNorm2d::new(width, pending, device)),
            fc1: Conv2d::new(width, hidden, 1, 1, device).biased(device),
            fc2: Conv2d::new(hidden, width, 1, 1, device).biased(device),
            folded: None,
        }
    }

    fn fold(&mut self, scale: &LayerScale2d) {
        self.conv.fold();
        let last = Folded::conv(&self.fc2).scaled(factors(scale));
        self.folded = Some([Folded::conv(&self.fc1), last]);
    }

    /// Its input and, times the block's factors, its output, channels last.
    fn evaluate(&self, x: Tensor<4>) -> Option<Tensor<4>> {
        let [first, last] = self.folded.as_ref()?;
        let hidden = self
            .conv
            .evaluate(Channels::Last, x.clone(), Tail::default());
        let hidden = first.with(Channels::Last, hidden, Activation::Gelu.into());
        let tail = Tail {
            add: Some(x),
            activation: None,
        };
        Some(last.with(Channels::Last, hidden, tail))
    }

    fn forward(&self, x: Tensor<4>, training: bool) -> Tensor<4> {
        let hidden = self.fc1.forward(self.conv.forward(x, training));
        self.fc2.forward(Activation::Gelu.forward(hidden))
    }
}

/// A block whose positions see their neighbours.
#[derive(Module, Debug)]
pub struct RepMixerBlock {
    /// Mixes positions.
    pub token_mixer: RepMixer,
    /// Mixes channels.
    pub mlp: ConvMlp,
    /// On the MLP's output.
    pub layer_scale: LayerScale2d,
    #[module(skip)]
    drop: DropPath,
}

/// Norm before an attention, over channels.
#[derive(Module, Debug)]
pub enum MapNorm {
    /// BatchNorm.
    Batch(BatchNorm2d),
    /// LayerNorm.
    Layer(LayerNorm),
}

impl MapNorm {
    /// `[batch, channels, height, width]` → `[batch, height·width, channels]`.
    fn tokens(&self, x: Tensor<4>, training: bool) -> Tensor<3> {
        let [batch, channels, height, width] = x.dims();
        let tokens = |x: Tensor<4>| x.reshape([batch, channels, height * width]).swap_dims(1, 2);
        match self {
            Self::Batch(norm) => tokens(norm.forward(x, training)),
            Self::Layer(norm) => norm.forward(tokens(x)),
        }
    }
}

impl MapNorm {
    /// In evaluation, `[batch, height, width, channels]` → `[batch, height·width, channels]`.
    fn tokens_last(&self, x: Tensor<4>) -> Tensor<3> {
        let dtype = x.dtype();
        let tokens: Tensor<3> = x.flatten(1, 2);
        match self {
            Self::Batch(norm) => {
                let [scale, shift] = norm.affine().map(|x| x.cast(dtype).unsqueeze());
                tokens * scale + shift
            }
            Self::Layer(norm) => norm.forward(tokens),
        }
    }
}

/// A block whose positions see all positions.
#[derive(Module, Debug)]
pub struct AttentionBlock {
    /// Before the attention.
    pub norm: MapNorm,
    /// Mixes positions.
    pub token_mixer: QkvAttention,
    /// On the attention's output.
    pub layer_scale_1: LayerScale2d,
    /// Mixes channels.
    pub mlp: ConvMlp,
    /// On the MLP's output.
    pub layer_scale_2: LayerScale2d,
    #[module(skip)]
    drop: [DropPath; 2],
}

/// A block of either kind.
#[allow(clippy::large_enum_variant)] // Blocks are few, and most are of the larger kind.
#[derive(Module, Debug)]
pub enum FastVitBlock {
    /// Convolutional.
    RepMixer(RepMixerBlock),
    /// With attention.
    Attention(AttentionBlock),
}

impl FastVitBlock {
    /// A convolutional block.
    pub fn convolutional(
        config: &BlockConfig,
        pending: &PendingStatistics,
        device: &Device,
    ) -> Self {
        Self::RepMixer(RepMixerBlock {
            token_mixer: RepMixer::new(config.width, pending, device),
            mlp: ConvMlp::new(config, pending, device),
            layer_scale: LayerScale2d::new(config.width, device),
            drop: config.drop(0),
        })
    }

    /// A block with attention; the width is a multiple of `HEAD_WIDTH`.
    pub fn attentive(config: &BlockConfig, pending: &PendingStatistics, device: &Device) -> Self {
        let width = config.width;
        Self::Attention(AttentionBlock {
            norm: match config.norm {
                NormLayer::BatchNorm2d => MapNorm::Batch(BatchNorm2d::new(width, pending, device)),
                NormLayer::LayerNorm2d => MapNorm::Layer(LayerNorm::new(width, NORM_EPS, device)),
            },
            token_mixer: QkvAttention::new(width, width / HEAD_WIDTH, false, device),
            layer_scale_1: LayerScale2d::new(width, device),
            mlp: ConvMlp::new(config, pending, device),
            layer_scale_2: LayerScale2d::new(width, device),
            drop: [0, 1].map(|branch| config.drop(branch)),
        })
    }

    /// `[batch, channels, height, width]` → the same shape; `training` seeds stochastic depth.
    pub fn forward(&self, x: Tensor<4>, training: Option<u64>) -> Tensor<4> {
        let trains = training.is_some();
        match self {
            Self::RepMixer(block) => {
                let x = block.token_mixer.forward(x, trains);
                let branch = block.mlp.forward(x.clone(), trains);
                let branch = block.layer_scale.forward(branch);
                x + block.drop.forward(branch, training)
            }
            Self::Attention(block) => {
                let shape = x.dims();
                let tokens = block.norm.tokens(x.clone(), trains);
                let mixed = block.token_mixer.forward(tokens);
                let branch = mixed.swap_dims(1, 2).reshape(shape);
                let branch = block.layer_scale_1.forward(branch);
                let x = x + block.drop[0].forward(branch, training);
                let branch = block.mlp.forward(x.clone(), trains);
                let branch = block.layer_scale_2.forward(branch);
                x + block.drop[1].forward(branch, training)
            }
        }
    }

    /// The same in evaluation with channels last, once it is folded.
    pub fn evaluate(&self, x: Tensor<4>) -> Option<Tensor<4>> {
        match self {
            Self::RepMixer(block) => block.mlp.evaluate(block.token_mixer.evaluate(x)?),
            Self::Attention(block) => {
                let shape = x.dims();
                let tokens = block.norm.tokens_last(x.clone());
                let branch = block.token_mixer.forward(tokens);
                let gamma = factors(&block.layer_scale_1).cast(x.dtype());
                let x = x + (branch * gamma.unsqueeze()).reshape(shape);
                block.mlp.evaluate(x)
            }
        }
    }

    /// Makes evaluation use one convolution in place of several branches.
    pub fn fold(&mut self) {
        match self {
            Self::RepMixer(block) => {
                block.token_mixer.fold();
                block.mlp.fold(&block.layer_scale);
            }
            Self::Attention(block) => block.mlp.fold(&block.layer_scale_2),
        }
    }
}

impl BlockConfig {
    /// Stochastic depth of the block's first (0) or second (1) branch.
    fn drop(&self, branch: usize) -> DropPath {
        DropPath::new(self.drop, 2 * self.index + branch)
    }
}
