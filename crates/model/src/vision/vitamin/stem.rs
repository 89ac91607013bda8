//! The convolutions of ViTamin (timm's `MbConvStages`): a stem, two stages of inverted bottlenecks, and a last convolution to the
//! transformer's width. Each of the four halves the map, rounding up.

use burn::module::Module;
use burn::tensor::module::avg_pool2d;
use burn::tensor::ops::AvgPoolOptions;
use burn::tensor::{Device, Tensor};

use super::arch::StagesConfig;
use crate::layers::flex::affine::Affine;
use crate::layers::flex::evaluates;
use crate::layers::flex::lines::Depthwise;
use crate::layers::flex::maps::{Block, Inverted, Maps, Shortcut};
use crate::layers::folded::{Folded, Tail};
use crate::layers::{Activation, Bits, Channels, Conv2d, LayerNorm, Recompute};

/// Added to the variance in every LayerNorm.
pub const NORM_EPS: f64 = 1e-6;
/// Side of the kernels that are not pointwise.
const KERNEL: usize = 3;

/// Pixels to the first feature map.
#[derive(Module, Debug)]
pub struct ConvStem {
    /// 3×3 of stride 2.
    pub conv1: Conv2d,
    /// Over channels, and a GELU behind it.
    pub norm1: LayerNorm,
    /// 3×3.
    pub conv2: Conv2d,
}

/// What is added to the branch of a block that halves the map: a mean over 3×3 windows of stride 2.
#[derive(Module, Debug)]
pub struct PooledShortcut {
    /// Pointwise, where the number of channels changes.
    pub expand: Option<Conv2d>,
}

/// Pointwise convolution to four times the channels, depthwise 3×3, pointwise convolution back, on a normalised copy of the input.
#[derive(Module, Debug)]
pub struct MbConvBlock {
    /// In a stage's first block; elsewhere the input is added as it is.
    pub shortcut: Option<PooledShortcut>,
    /// Over channels.
    pub pre_norm: LayerNorm,
    /// Pointwise, `input → hidden`, and a GELU behind it.
    pub conv1_1x1: Conv2d,
    /// Depthwise, of stride 2 in a stage's first block, and a GELU behind it.
    pub conv2_kxk: Conv2d,
    /// Pointwise, `hidden → output`.
    pub conv3_1x1: Conv2d,
}

/// From the stages to the transformer.
#[derive(Module, Debug)]
pub struct StridedConv {
    /// 3×3 of stride 2.
    pub proj: Conv2d,
    /// Over channels, before the convolution.
    pub norm: LayerNorm,
}

/// All convolutions.
#[derive(Module, Debug)]
pub struct ConvStages {
    /// Half the resolution.
    pub stem: ConvStem,
    /// A quarter and an eighth.
    pub stages: Vec<Vec<MbConvBlock>>,
    /// A sixteenth.
    pub pool: StridedConv,
    /// What becomes of the blocks' activations.
    #[module(skip)]
    pub recompute: Recompute,
    /// In evaluation mode.
    #[module(skip)]
    folded: Option<FoldedStages>,
}

/// The convolutions in evaluation mode, in f32 on the CPU.
#[derive(Debug, Clone)]
struct FoldedStages {
    stem: [Folded; 2],
    blocks: Maps,
    pool: Folded,
}

impl ConvStages {
    /// Builds the convolutions.
    pub fn new(config: &StagesConfig, device: &Device) -> Self {
        let norm = |channels| LayerNorm::new(channels, NORM_EPS, device);
        let convolution = |input, output, stride| {
            Conv2d::new(input, output, KERNEL, stride, device).biased(device)
        };
        let stem = config.stem_width;
        let [first, second, width] = config.embed_dim;
        let stage = |input, output, depth| {
            let block = |index| match index {
                0 => MbConvBlock::new(input, output, true, device),
                _ => MbConvBlock::new(output, output, false, device),
            };
            (0..depth).map(block).collect()
        };
        Self {
            stem: ConvStem {
                conv1: convolution(3, stem, 2),
                norm1: norm(stem),
                conv2: convolution(stem, stem, 1),
            },
            stages: vec![
                stage(stem, first, config.depths[0]),
                stage(first, second, config.depths[1]),
            ],
            pool: StridedConv {
                proj: convolution(second, width, 2),
                norm: norm(second),
            },
            recompute: Recompute::default(),
            folded: None,
        }
    }

    /// Makes evaluation use blocks whose weights are packed.
    pub fn fold(&mut self) {
        let blocks = self.stages.iter().flatten().map(MbConvBlock::folded);
        self.folded = blocks.collect::<Option<_>>().map(|blocks| FoldedStages {
            stem: [&self.stem.conv1, &self.stem.conv2].map(Folded::conv),
            blocks: Maps::new(blocks),
            pool: Folded::conv(&self.pool.proj),
        });
    }

    fn evaluate(&self, folded: &FoldedStages, image: Tensor<4>) -> Tensor<4> {
        let convolve = |layer: &Folded, x| layer.with(Channels::Last, x, Tail::default());
        let [first, second] = &folded.stem;
        let x = convolve(first, Channels::Last.of(image));
        let x = Activation::Gelu.forward(self.stem.norm1.forward(x));
        let x = folded.blocks.forward(convolve(second, x));
        convolve(&folded.pool, self.pool.norm.forward(x))
    }

    /// Normalised pixels `[batch, 3, height, width]` → `[batch, ⌈height/16⌉, ⌈width/16⌉, embed_dim]`.
    pub fn forward(&self, image: Tensor<4>, training: bool) -> Tensor<4> {
        if let Some(folded) = &self.folded
            && !training
            && evaluates(&image)
        {
            return self.evaluate(folded, image);
        }
        let x = self.stem.conv1.forward(image).permute([0, 2, 3, 1]);
        let x = Activation::Gelu.forward(self.stem.norm1.forward(x));
        let x = self.stem.conv2.forward_channels_last(x);
        let blocks = self.stages.iter().flatten();
        let x = blocks.fold(x, |x, block| {
            self.recompute
                .block(block, [x], |block, [x]| block.forward(x))
        });
        self.pool
            .proj
            .forward_channels_last(self.pool.norm.forward(x))
    }
}

impl MbConvBlock {
    fn new(input: usize, output: usize, halve: bool, device: &Device) -> Self {
        let hidden = StagesConfig::hidden(output);
        let pointwise = |input, output| Conv2d::new(input, output, 1, 1, device).biased(device);
        Self {
            shortcut: halve.then(|| PooledShortcut {
                expand: (input != output).then(|| pointwise(input, output)),
            }),
            pre_norm: LayerNorm::new(input, NORM_EPS, device),
            conv1_1x1: pointwise(input, hidden),
            conv2_kxk: Conv2d::depthwise(hidden, hidden, KERNEL, 1 + usize::from(halve), device)
                .biased(device),
            conv3_1x1: pointwise(hidden, output),
        }
    }

    /// The block in evaluation mode, in f32 on the CPU.
    fn folded(&self) -> Option<Block> {
        let affine = |conv: &Conv2d| {
            let bias = conv.bias.as_ref()?.val();
            Affine::pointwise(conv.weight.val(), &bias, Bits::All)
        };
        let conv = &self.conv2_kxk;
        let bias = conv.bias.as_ref()?.val();
        Some(Block::Inverted(Inverted {
            norm: self.pre_norm.folded()?,
            fc: affine(&self.conv1_1x1)?,
            activation: Activation::Gelu,
            depthwise: Depthwise::of(&conv.weight.val(), &bias, conv.stride())?,
            proj: affine(&self.conv3_1x1)?,
            shortcut: match &self.shortcut {
                None => Shortcut::Same,
                Some(shortcut) => Shortcut::Mean(match &shortcut.expand {
                    None => None,
                    Some(expand) => Some(affine(expand)?),
                }),
            },
        }))
    }

    /// `[batch, height, width, input]` → `[batch, height, width, output]`, or half of height and width.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let branch = self
            .conv1_1x1
            .forward_channels_last(self.pre_norm.forward(x.clone()));
        let branch = self
            .conv2_kxk
            .forward_channels_last(Activation::Gelu.forward(branch));
        let branch = self
            .conv3_1x1
            .forward_channels_last(Activation::Gelu.forward(branch));
        match &self.shortcut {
            Some(shortcut) => branch + shortcut.forward(x),
            None => branch + x,
        }
    }
}

impl PooledShortcut {
    /// `[batch, height, width, input]` → `[batch, ⌈height/2⌉, ⌈width/2⌉, output]`; the border is no part of a mean.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let options = AvgPoolOptions::new([KERNEL; 2])
            .with_stride([2; 2])
            .with_padding([KERNEL / 2; 2])
            .with_count_include_pad(false);
        let x = avg_pool2d(x.permute([0, 3, 1, 2]), options).permute([0, 2, 3, 1]);
        match &self.expand {
            Some(expand) => expand.forward_channels_last(x),
            None => x,
        }
    }
}
