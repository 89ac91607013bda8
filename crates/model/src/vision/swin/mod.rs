//! timm's Swin transformer as OpenCLIP's timm adapter uses it: attention inside windows of a feature map, shifted by half a window
//! in every second block ("Swin Transformer", <https://arxiv.org/abs/2103.14030>).
//!
//! Feature maps are `[batch, height, width, channels]`.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

mod arch;
mod window;

pub use arch::{DROP_PATH, StageSize, SwinConfig};
pub use window::WindowAttention;

use crate::family::cost::Cost;
use crate::family::keys::Marks;
use crate::family::{ImageFamily, Init, ParamInfo};
use crate::files::ModelError;
use crate::files::config::{ModelConfig, TimmProj, VisionConfig};
use crate::files::weights::resize::{fitted, resize_displacements};
use crate::files::weights::{RawTensor, WeightsError};
use crate::layers::drop_path::{DropPath, drop_path_shares};
use crate::layers::{Activation, LayerNorm, Linear, PatchEmbed, Recompute, TimmMlp};
use crate::vision::timm::{TimmHead, initial_head};
use window::pad_end;

/// Added to the variance in every LayerNorm.
const NORM_EPS: f64 = 1e-5;

/// Pixels to the first feature map.
#[derive(Module, Debug)]
pub struct SwinPatchEmbed {
    /// Patches to features.
    pub proj: PatchEmbed,
    /// On them.
    pub norm: LayerNorm,
}

/// Joins squares of four positions.
#[derive(Module, Debug)]
pub struct PatchMerging {
    /// On the features of the four, side by side.
    pub norm: LayerNorm,
    /// `4·channels → 2·channels`.
    pub reduction: Linear,
}

impl PatchMerging {
    /// `[batch, height, width, channels]` → `[batch, ⌈height/2⌉, ⌈width/2⌉, 2·channels]`; a missing row or column is zero.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, height, width, channels] = x.dims();
        let x = pad_end(pad_end(x, 1, height % 2), 2, width % 2);
        let (rows, columns) = (height.div_ceil(2), width.div_ceil(2));
        let squares = x
            .reshape([batch, rows, 2, columns, 2, channels])
            .permute([0, 1, 3, 4, 2, 5])
            .reshape([batch, rows, columns, 4 * channels]);
        self.reduction.forward(self.norm.forward(squares))
    }
}

/// Attention in windows and MLP, each on a normalised copy of the residual stream.
#[derive(Module, Debug)]
pub struct SwinBlock {
    /// Before the attention.
    pub norm1: LayerNorm,
    /// Self-attention inside windows.
    pub attn: WindowAttention,
    /// Before the MLP.
    pub norm2: LayerNorm,
    /// `channels → hidden → channels`.
    pub mlp: TimmMlp,
    /// Of attention and MLP.
    #[module(skip)]
    drop: [DropPath; 2],
}

impl SwinBlock {
    /// `[batch, height, width, channels]` → the same shape.
    fn forward(&self, x: Tensor<4>, training: Option<u64>) -> Tensor<4> {
        let [first, second] = &self.drop;
        let attended = self.attn.forward(self.norm1.forward(x.clone()));
        let x = x + first.forward(attended, training);
        let hidden = self.mlp.forward(self.norm2.forward(x.clone()));
        x + second.forward(hidden, training)
    }
}

/// Blocks of one resolution.
#[derive(Module, Debug)]
pub struct SwinStage {
    /// Half the resolution of the stage before; not in the first.
    pub downsample: Option<PatchMerging>,
    /// Residual blocks.
    pub blocks: Vec<SwinBlock>,
}

/// What follows the mean over positions.
#[derive(Module, Debug)]
pub struct SwinHead {
    /// Classifier, whose classes are the features of the embedding.
    pub fc: Option<Linear>,
}

/// timm's Swin transformer up to the pooled vector, or to the embedding where its classifier is the map there.
#[derive(Module, Debug)]
pub struct Swin {
    /// Pixels to the first feature map.
    pub patch_embed: SwinPatchEmbed,
    /// Four stages, each of half the resolution of the one before.
    pub layers: Vec<SwinStage>,
    /// On the last feature map.
    pub norm: LayerNorm,
    /// Pooled features.
    pub head: SwinHead,
    /// What becomes of the blocks' activations.
    #[module(skip)]
    pub recompute: Recompute,
}

/// timm's Swin transformer and the map behind it.
#[derive(Module, Debug)]
pub struct SwinTower {
    /// The transformer.
    pub trunk: Swin,
    /// The map to the shared embedding.
    pub head: TimmHead,
}

impl ImageFamily for SwinTower {
    fn configures(vision: &VisionConfig) -> bool {
        let named = vision.timm_model_name().and_then(SwinConfig::named);
        named.is_some()
    }

    fn marks() -> &'static [Marks] {
        &[("a Swin transformer", &[".relative_position_bias_table"])]
    }

    fn new(config: &ModelConfig, device: &Device) -> Result<Self, ModelError> {
        let vision = &config.vision_cfg;
        let options = vision.timm()?;
        let arch = SwinConfig::of(&options)?;
        let sizes = arch.stages(vision.image_size)?;
        if vision.patch_dropout != 0.0 {
            let reason = format!("{}: Swin has no patches to spare", vision.patch_dropout);
            return Err(ModelError::invalid("vision_cfg.patch_dropout", reason));
        }
        let norm = |width| LayerNorm::new(width, NORM_EPS, device);
        let share = options.stochastic_depth(DROP_PATH)?;
        let mut shares = drop_path_shares(share, arch.depths.iter().sum())
            .into_iter()
            .enumerate();
        let block = |size: StageSize, number: usize, (index, share)| SwinBlock {
            norm1: norm(size.width),
            attn: WindowAttention::new(size, number % 2 == 1, arch.qkv_bias, device),
            norm2: norm(size.width),
            mlp: TimmMlp::new(
                [
                    size.width,
                    (size.width as f64 * arch.mlp_ratio) as usize,
                    size.width,
                ],
                true,
                Activation::Gelu,
                device,
            ),
            drop: [0, 1].map(|branch| DropPath::new(share, 2 * index + branch)),
        };
        let mut layers = Vec::new();
        for (stage, size) in sizes.into_iter().enumerate() {
            let own = shares.by_ref().take(arch.depths[stage]).enumerate();
            layers.push(SwinStage {
                downsample: (stage > 0).then(|| PatchMerging {
                    norm: norm(2 * size.width),
                    reduction: Linear::new(2 * size.width, size.width, false, device),
                }),
                blocks: own
                    .map(|(number, share)| block(size, number, share))
                    .collect(),
            });
        }
        let features = sizes[3].width;
        let classifier = options.projection()? == TimmProj::Classifier;
        Ok(Self {
            trunk: Swin {
                patch_embed: SwinPatchEmbed {
                    proj: PatchEmbed::biased(arch.embed_dim, arch.patch_size, device),
                    norm: norm(arch.embed_dim),
                },
                layers,
                norm: norm(features),
                head: SwinHead {
                    fc: classifier.then(|| Linear::new(features, config.embed_dim, true, device)),
                },
                recompute: Recompute::default(),
            },
            head: TimmHead::new(&options, features, config.embed_dim, device)?,
        })
    }

    fn forward(&self, image: Tensor<4>, training: Option<u64>) -> Tensor<2> {
        self.head.forward(self.trunk.forward(image, training))
    }

    /// How a parameter of the tower starts: timm's `init_weights_vit_timm`, and PyTorch's defaults for the patches and behind the
    /// trunk.
    fn initial(&self, key: &str, shape: &[usize], config: &ModelConfig) -> Option<Init> {
        let arch = SwinConfig::of(&config.vision_cfg.timm().ok()?).ok()?;
        let Some(name) = key.strip_prefix("visual.trunk.") else {
            return Some(initial_head(key, shape, arch.embed_dim << 3, config));
        };
        Some(match name.rsplit('.').next()? {
            _ if name.starts_with("patch_embed.proj.") => {
                Init::of_inputs(3 * arch.patch_size * arch.patch_size)
            }
            "bias" => Init::Constant(0.0),
            _ if shape.len() == 1 => Init::Constant(1.0),
            // Cut at ±2, a hundred standard deviations away.
            _ => Init::Normal(0.02),
        })
    }

    /// Attention and its matrices see whole windows, the zeros that fill up the last ones included; the rest sees the map.
    fn cost(&self, config: &ModelConfig, params: &[&ParamInfo]) -> Option<Cost> {
        let arch = SwinConfig::of(&config.vision_cfg.timm().ok()?).ok()?;
        let image_size = config.vision_cfg.image_size;
        let sizes = arch.stages(image_size).ok()?;
        let grid = arch.grid(image_size).ok()?;
        let sides = |stage: usize| grid.map(|side| side.div_ceil(1 << stage) as u64);
        let map = |stage: usize| sides(stage).iter().product::<u64>();
        let area = |stage: usize| sizes[stage].window.iter().product::<usize>() as u64;
        let windows = |stage: usize| -> u64 {
            let sides = sides(stage).into_iter().zip(sizes[stage].window);
            sides
                .map(|(side, window)| side.div_ceil(window as u64))
                .product()
        };
        let matrices = Cost::of_matrices(params, "visual.trunk.", |key| {
            if let Some(rest) = key.strip_prefix("layers.") {
                let (stage, rest) = rest.split_once('.')?;
                let stage: usize = stage.parse().ok()?;
                return match rest {
                    _ if rest.ends_with(".relative_position_bias_table") => Some(0),
                    _ if rest.contains(".attn.") => Some(windows(stage) * area(stage)),
                    _ => Some(map(stage)),
                };
            }
            match key {
                "patch_embed.proj.weight" => Some(map(0)),
                _ if key.starts_with("head.") || key.starts_with("visual.head.") => Some(1),
                _ => None,
            }
        })?;
        let scores = (0..sizes.len()).map(|stage| {
            let window = [area(stage); 2];
            let layers = windows(stage) * arch.depths[stage] as u64;
            Cost::attention(layers, window, sizes[stage].width as u64)
        });
        Some(matrices + scores.sum())
    }

    /// A table of scores by displacement, for windows of another size.
    fn resized(
        &self,
        key: &str,
        table: &RawTensor,
        shape: &[usize],
    ) -> Result<Option<RawTensor>, WeightsError> {
        match self.trunk.window(key) {
            Some(window) => fitted(table, shape, |values, old| {
                resize_displacements(values, old, window)
            }),
            None => Ok(None),
        }
    }

    fn recompute_blocks(&mut self) -> Result<(), ModelError> {
        let blocks = self.trunk.layers.iter().flat_map(|stage| &stage.blocks);
        self.trunk.recompute = Recompute::of(blocks, 1)?;
        Ok(())
    }
}

impl Swin {
    /// Rows and columns of the windows that the table under a key is for.
    fn window(&self, key: &str) -> Option<[usize; 2]> {
        let stage = key.strip_prefix("visual.trunk.layers.")?;
        let (stage, rest) = stage.split_once('.')?;
        if !rest.ends_with(".relative_position_bias_table") {
            return None;
        }
        let block = self
            .layers
            .get(stage.parse::<usize>().ok()?)?
            .blocks
            .first()?;
        Some(block.attn.window())
    }

    /// Normalised pixels `[batch, 3, height, width]` → `[batch, channels]`, or `[batch, embed_dim]` with a classifier.
    pub fn forward(&self, image: Tensor<4>, training: Option<u64>) -> Tensor<2> {
        let [batch, _, height, width] = image.dims();
        let [channels, _, side, _] = self.patch_embed.proj.weight.dims();
        let patches = self.patch_embed.proj.forward(image);
        let map = patches.reshape([batch, height / side, width / side, channels]);
        let mut x = self.patch_embed.norm.forward(map);
        for stage in &self.layers {
            if let Some(merging) = &stage.downsample {
                x = merging.forward(x);
            }
            let blocks = stage.blocks.iter();
            x = blocks.fold(x, |x, block| {
                self.recompute
                    .block(block, [x], move |block, [x]| block.forward(x, training))
            });
        }
        let [_, rows, columns, features] = x.dims();
        let tokens = self
            .norm
            .forward(x)
            .reshape([batch, rows * columns, features]);
        let pooled = tokens.mean_dim(1).reshape([batch, features]);
        match &self.head.fc {
            Some(fc) => fc.forward(pooled),
            None => pooled,
        }
    }
}
