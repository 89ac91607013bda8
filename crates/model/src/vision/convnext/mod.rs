//! timm's `ConvNeXt` as OpenCLIP's timm adapter uses it ("A ConvNet for the 2020s", <https://arxiv.org/abs/2201.03545>).
//!
//! Feature maps are `[batch, height, width, channels]` throughout, so that LayerNorm and MLP see channels last.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

mod arch;

pub use arch::ConvNextConfig;

use crate::family::cost::{Cost, sides};
use crate::family::keys::Marks;
use crate::family::{ImageFamily, Init, ParamInfo};
use crate::files::ModelError;
use crate::files::config::{ModelConfig, TimmProj, VisionConfig};
use crate::layers::depthwise::DepthwiseConv;
use crate::layers::drop_path::{DropPath, drop_path_shares};
use crate::layers::flex::evaluates;
use crate::layers::flex::lines::Depthwise;
use crate::layers::flex::maps::{Block, Maps, Next};
use crate::layers::folded::{Folded, Tail};
use crate::layers::{
    Activation, Bits, Channels, LayerNorm, Linear, PatchEmbed, Recompute, TimmMlp, parameter,
};
use crate::vision::timm::{TimmHead, initial_head};

/// Side of the stem's patches in pixels.
const STEM: usize = 4;
/// Side of the squares that a stage joins to one.
const STEP: usize = 2;
/// Side of the depthwise kernels.
const KERNEL: usize = 7;
/// Hidden width of the MLPs relative to the channels.
const MLP_RATIO: usize = 4;

/// Depthwise convolution, LayerNorm and MLP on a residual branch.
#[derive(Module, Debug)]
pub struct ConvNextBlock {
    /// Factor per channel on the branch, `[channels]`.
    pub gamma: Param<Tensor<1>>,
    /// 7×7, the same size.
    pub conv_dw: DepthwiseConv,
    /// Over channels.
    pub norm: LayerNorm,
    /// `channels → 4·channels → channels`.
    pub mlp: TimmMlp,
    #[module(skip)]
    drop: DropPath,
}

impl ConvNextBlock {
    /// `[batch, height, width, channels]` → the same shape.
    fn forward(&self, x: Tensor<4>, training: Option<u64>) -> Tensor<4> {
        let branch = self.norm.forward(self.conv_dw.forward(x.clone()));
        let gamma = self.gamma.val().cast(x.dtype());
        let branch = self.mlp.forward(branch) * gamma.unsqueeze();
        x + self.drop.forward(branch, training)
    }

    /// The block in evaluation mode, in f32 on the CPU.
    fn folded(&self) -> Option<Block> {
        let (weight, bias) = (self.conv_dw.weight.val(), self.conv_dw.bias.val());
        Some(Block::Next(Next {
            depthwise: Depthwise::of(&weight, &bias, 1)?,
            norm: self.norm.folded()?,
            mlp: self.mlp.folded(Some(self.gamma.val()), Bits::All)?,
        }))
    }
}

/// What a stage is in evaluation mode, in f32 on the CPU.
#[derive(Debug, Clone)]
struct FoldedStage {
    /// The stem's patches, or the squares of a later stage.
    patches: Folded,
    blocks: Maps,
}

/// Blocks of one resolution.
#[derive(Module, Debug)]
pub struct ConvNextStage {
    /// LayerNorm and 2×2 convolution of stride 2; not in the first stage.
    pub downsample: Option<(LayerNorm, PatchEmbed)>,
    /// Residual blocks.
    pub blocks: Vec<ConvNextBlock>,
}

/// What follows the mean over positions.
#[derive(Module, Debug)]
pub struct ConvNextHead {
    /// Over channels.
    pub norm: LayerNorm,
    /// Classifier, whose classes are the features of the embedding.
    pub fc: Option<Linear>,
}

/// timm's ConvNeXt up to the pooled vector, or to the embedding where its classifier is the map there.
#[derive(Module, Debug)]
pub struct ConvNext {
    /// 4×4 convolution of stride 4, and LayerNorm.
    pub stem: (PatchEmbed, LayerNorm),
    /// Four stages, each of half the resolution of the one before.
    pub stages: Vec<ConvNextStage>,
    /// Pooled features.
    pub head: ConvNextHead,
    /// What becomes of the blocks' activations.
    #[module(skip)]
    pub recompute: Recompute,
    /// The stages in evaluation mode.
    #[module(skip)]
    folded: Option<Vec<FoldedStage>>,
}

/// timm's ConvNeXt and the map behind it.
#[derive(Module, Debug)]
pub struct ConvNextTower {
    /// The convolutional network.
    pub trunk: ConvNext,
    /// The map to the shared embedding.
    pub head: TimmHead,
}

impl ImageFamily for ConvNextTower {
    fn configures(vision: &VisionConfig) -> bool {
        let named = vision.timm_model_name().and_then(ConvNextConfig::named);
        named.is_some()
    }

    fn marks() -> &'static [Marks] {
        &[("a ConvNeXt", &[".conv_dw."])]
    }

    fn new(config: &ModelConfig, device: &Device) -> Result<Self, ModelError> {
        let vision = &config.vision_cfg;
        let options = vision.timm()?;
        let arch = ConvNextConfig::of(&options)?;
        arch.check_image(vision.image_size)?;
        if vision.patch_dropout != 0.0 {
            let reason = format!("{}: ConvNeXt has no patch tokens", vision.patch_dropout);
            return Err(ModelError::invalid("vision_cfg.patch_dropout", reason));
        }
        let shares = drop_path_shares(options.stochastic_depth(0.0)?, arch.depths.iter().sum());
        let norm = |width| LayerNorm::new(width, arch.norm_eps, device);
        let mut shares = shares.into_iter().enumerate();
        let stages = (0..arch.dims.len()).map(|stage| {
            let width = arch.dims[stage];
            let block = |(index, share)| ConvNextBlock {
                gamma: parameter([width], device),
                conv_dw: DepthwiseConv::new(width, KERNEL, device),
                norm: norm(width),
                mlp: TimmMlp::new(
                    [width, MLP_RATIO * width, width],
                    true,
                    Activation::Gelu,
                    device,
                ),
                drop: DropPath::new(share, index),
            };
            let before = stage.checked_sub(1).map(|before| arch.dims[before]);
            ConvNextStage {
                downsample: before
                    .map(|before| (norm(before), patches(before, width, STEP, device))),
                blocks: shares
                    .by_ref()
                    .take(arch.depths[stage])
                    .map(block)
                    .collect(),
            }
        });
        let stages = stages.collect();
        let [first, .., features] = arch.dims;
        let classifier = options.projection()? == TimmProj::Classifier;
        Ok(Self {
            trunk: ConvNext {
                stem: (patches(3, first, STEM, device), norm(first)),
                stages,
                recompute: Recompute::default(),
                folded: None,
                head: ConvNextHead {
                    norm: norm(features),
                    fc: classifier.then(|| Linear::new(features, config.embed_dim, true, device)),
                },
            },
            head: TimmHead::new(&options, features, config.embed_dim, device)?,
        })
    }

    fn forward(&self, image: Tensor<4>, training: Option<u64>) -> Tensor<2> {
        self.head.forward(self.trunk.forward(image, training))
    }

    /// How a parameter of the tower starts: timm's `_init_weights`, and PyTorch's defaults behind the trunk.
    fn initial(&self, key: &str, shape: &[usize], config: &ModelConfig) -> Option<Init> {
        let arch = ConvNextConfig::of(&config.vision_cfg.timm().ok()?).ok()?;
        let Some(name) = key.strip_prefix("visual.trunk.") else {
            return Some(initial_head(key, shape, arch.dims[3], config));
        };
        let mut parts = name.rsplit('.');
        Some(match parts.next()? {
            "gamma" => Init::Constant(arch.ls_init_value),
            "bias" => Init::Constant(0.0),
            _ if shape.len() == 1 => Init::Constant(1.0),
            // Cut at ±2, a hundred standard deviations away.
            _ => Init::Normal(0.02),
        })
    }

    /// A stem of squares of four pixels, then stages of half the resolution each.
    fn cost(&self, config: &ModelConfig, params: &[&ParamInfo]) -> Option<Cost> {
        let [height, width] = sides(config.vision_cfg.image_size);
        let map = |stage: u32| ((height / 4) >> stage) * ((width / 4) >> stage);
        Cost::of_matrices(params, "visual.", |key| {
            if let Some(rest) = key.strip_prefix("trunk.stages.") {
                let (stage, _) = rest.split_once('.')?;
                return Some(map(stage.parse().ok()?));
            }
            match key {
                "trunk.stem.0.weight" => Some(map(0)),
                _ if key.starts_with("trunk.head.") || key.starts_with("head.") => Some(1),
                _ => None,
            }
        })
    }

    fn recompute_blocks(&mut self) -> Result<(), ModelError> {
        let blocks = self.trunk.stages.iter().flat_map(|stage| &stage.blocks);
        self.trunk.recompute = Recompute::of(blocks, 1)?;
        Ok(())
    }

    /// Blocks whose weights are packed.
    fn fold(&mut self, _: Bits) -> bool {
        let trunk = &mut self.trunk;
        let stages = trunk.stages.iter().map(|stage| {
            let patches = match &stage.downsample {
                Some((_, squares)) => squares,
                None => &trunk.stem.0,
            };
            let blocks = stage.blocks.iter().map(ConvNextBlock::folded);
            Some(FoldedStage {
                patches: Folded::patches(patches),
                blocks: Maps::new(blocks.collect::<Option<_>>()?),
            })
        });
        trunk.folded = stages.collect();
        false
    }
}

impl ConvNext {
    /// Normalised pixels `[batch, 3, height, width]` → `[batch, channels]`, or `[batch, embed_dim]` with a classifier.
    ///
    /// Rows and columns at the right and bottom edge that do not fill a patch of the stem or a square of a later stage are
    /// left out, as in a convolution without padding.
    pub fn forward(&self, image: Tensor<4>, training: Option<u64>) -> Tensor<2> {
        let x = match &self.folded {
            Some(folded) if training.is_none() && evaluates(&image) => self.evaluate(folded, image),
            _ => self.stages(image, training),
        };
        let [batch, height, width, channels] = x.dims();
        let mean = x.reshape([batch, height * width, channels]).mean_dim(1);
        let pooled = self.head.norm.forward(mean.reshape([batch, channels]));
        match &self.head.fc {
            Some(fc) => fc.forward(pooled),
            None => pooled,
        }
    }

    /// The last feature map by what [`ImageFamily::fold`] made.
    fn evaluate(&self, folded: &[FoldedStage], image: Tensor<4>) -> Tensor<4> {
        let stages = self.stages.iter().zip(folded);
        stages.fold(Channels::Last.of(image), |x, (stage, folded)| {
            let shrink = |x| folded.patches.with(Channels::Last, x, Tail::default());
            let x = match &stage.downsample {
                Some((norm, _)) => shrink(norm.forward(x)),
                None => self.stem.1.forward(shrink(x)),
            };
            folded.blocks.forward(x)
        })
    }

    fn stages(&self, image: Tensor<4>, training: Option<u64>) -> Tensor<4> {
        let (patches, norm) = &self.stem;
        let mut x = norm.forward(shrink(patches, image));
        for stage in &self.stages {
            if let Some((norm, squares)) = &stage.downsample {
                x = shrink(squares, norm.forward(x).permute([0, 3, 1, 2]));
            }
            let blocks = stage.blocks.iter();
            x = blocks.fold(x, |x, block| {
                self.recompute
                    .block(block, [x], move |block, [x]| block.forward(x, training))
            });
        }
        x
    }
}

/// A convolution over `channels` whose stride is its kernel.
fn patches(channels: usize, features: usize, side: usize, device: &Device) -> PatchEmbed {
    PatchEmbed {
        weight: parameter([features, channels, side, side], device),
        bias: Some(parameter([features], device)),
    }
}

/// `[batch, channels, height, width]` → `[batch, ⌊height/side⌋, ⌊width/side⌋, features]`.
fn shrink(patches: &PatchEmbed, x: Tensor<4>) -> Tensor<4> {
    let [features, _, side, _] = patches.weight.dims();
    let [batch, _, height, width] = x.dims();
    patches
        .forward(x)
        .reshape([batch, height / side, width / side, features])
}
