//! timm's `Eva` as OpenCLIP's timm adapter uses it: the image tower of EVA-CLIP (<https://arxiv.org/abs/2303.15389>) and of
//! the Perception Encoder (<https://arxiv.org/abs/2504.13181>).

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

mod arch;
mod block;
mod rope;

pub use arch::EvaConfig;
pub use block::EvaBlock;

use crate::family::keys::Marks;
use crate::family::{Cost, ImageFamily, Init, ParamInfo};
use crate::files::ModelError;
use crate::files::config::{ModelConfig, TimmProj, VisionConfig};
use crate::files::weights::{RawTensor, WeightsError};
use crate::layers::drop_path::drop_path_shares;
use crate::layers::patch::{KeptPatches, check_patch_dropout};
use crate::layers::position::with_positions;
use crate::layers::{LatentPool, LayerNorm, Linear, PatchEmbed, Recompute, parameter};
use crate::vision::timm::{TimmHead, TokenPool, fit_pos_embed, initial_head, transformer_cost};
use rope::RopeTable;

/// Key of a convolution under timm's name of the layer around it.
#[derive(Module, Debug)]
pub struct EvaPatchEmbed {
    /// Patches to tokens.
    pub proj: PatchEmbed,
}

/// timm's `Eva` up to the pooled vector, or to the embedding where its classifier is the map there.
#[derive(Module, Debug)]
pub struct Eva {
    /// `[1, 1, width]`.
    pub cls_token: Option<Param<Tensor<3>>>,
    /// `[1, rows·columns, width]`, with the class token's position first where it has one.
    pub pos_embed: Param<Tensor<3>>,
    /// Pixels to tokens.
    pub patch_embed: EvaPatchEmbed,
    /// Before the first block.
    pub norm_pre: Option<LayerNorm>,
    /// Residual blocks.
    pub blocks: Vec<EvaBlock>,
    /// After the last block, on the tokens.
    pub norm: Option<LayerNorm>,
    /// Attention pooling.
    pub attn_pool: Option<LatentPool>,
    /// On the pooled vector.
    pub fc_norm: Option<LayerNorm>,
    /// Classifier, whose classes are the features of the embedding.
    pub head: Option<Linear>,
    /// What becomes of the blocks' activations.
    #[module(skip)]
    pub recompute: Recompute,
    #[module(skip)]
    pool: TokenPool,
    #[module(skip)]
    rope: Option<RopeTable>,
    #[module(skip)]
    grid: (usize, usize),
    #[module(skip)]
    patch_dropout: f64,
}

/// timm's `Eva` and the map behind it.
#[derive(Module, Debug)]
pub struct EvaTower {
    /// The transformer.
    pub trunk: Eva,
    /// The map to the shared embedding.
    pub head: TimmHead,
}

impl ImageFamily for EvaTower {
    fn configures(vision: &VisionConfig) -> bool {
        let named = vision.timm_model_name().and_then(EvaConfig::named);
        named.is_some()
    }

    fn marks() -> &'static [Marks] {
        &[
            ("an EVA", &[".attn.q_bias"]),
            ("an EVA", &[".attn.k_proj."]),
            (
                "a Perception Encoder",
                &[".trunk.norm_pre.", ".trunk.attn_pool."],
            ),
        ]
    }

    fn new(config: &ModelConfig, device: &Device) -> Result<Self, ModelError> {
        let options = config.vision_cfg.timm()?;
        let arch = EvaConfig::of(&options)?;
        let image_size = config.vision_cfg.image_size;
        let grid = image_size.patches(arch.patch_size)?;
        let pools = arch.pools(&options)?;
        let share = config.vision_cfg.patch_dropout;
        check_patch_dropout(share)?;
        let shares = drop_path_shares(options.stochastic_depth(0.0)?, arch.depth);
        let width = arch.embed_dim;
        let norm = || LayerNorm::new(width, arch.norm_eps, device);
        let positions = arch.prefix_positions() + grid.0 * grid.1;
        let proj = match arch.use_pre_transformer_norm {
            true => PatchEmbed::new(width, arch.patch_size, device),
            false => PatchEmbed::biased(width, arch.patch_size, device),
        };
        let block = arch.block();
        let blocks = shares.into_iter().enumerate();
        let blocks = blocks.map(|(index, drop)| EvaBlock::new(&block, index, drop, device));
        let classifier = options.projection()? == TimmProj::Classifier;
        let map = pools.tokens == TokenPool::Map;
        let prefix = usize::from(arch.class_token);
        Ok(Self {
            trunk: Eva {
                cls_token: arch.class_token.then(|| parameter([1, 1, width], device)),
                pos_embed: parameter([1, positions, width], device),
                patch_embed: EvaPatchEmbed { proj },
                norm_pre: arch.use_pre_transformer_norm.then(norm),
                blocks: blocks.collect(),
                norm: (!pools.norm_last).then(norm),
                attn_pool: map.then(|| LatentPool::new(&arch.latent_pool(), device)),
                fc_norm: pools.norm_last.then(norm),
                head: classifier.then(|| Linear::new(width, config.embed_dim, true, device)),
                recompute: Recompute::default(),
                pool: pools.tokens,
                rope: arch.rope().map(|rope| RopeTable::new(&rope, grid, prefix)),
                grid,
                patch_dropout: share,
            },
            head: TimmHead::new(&options, width, config.embed_dim, device)?,
        })
    }

    fn forward(&self, image: Tensor<4>, training: Option<u64>) -> Tensor<2> {
        self.head.forward(self.trunk.forward(image, training))
    }

    /// How a parameter of the tower starts: as timm's `Eva.init_weights` has it, and PyTorch's defaults behind the trunk.
    ///
    /// timm cuts its normal distributions at ±2, a hundred standard deviations away.
    fn initial(&self, key: &str, shape: &[usize], config: &ModelConfig) -> Option<Init> {
        let arch = EvaConfig::of(&config.vision_cfg.timm().ok()?).ok()?;
        let Some(name) = key.strip_prefix("visual.trunk.") else {
            return Some(initial_head(key, shape, arch.embed_dim, config));
        };
        let names: Vec<&str> = name.split('.').collect();
        Some(match names.as_slice() {
            ["pos_embed"] | ["cls_token"] => Init::Normal(STD),
            [.., "latent"] => Init::TruncatedNormal((arch.embed_dim as f64).powf(-0.5)),
            ["patch_embed", ..] => Init::of_inputs(3 * arch.patch_size * arch.patch_size),
            [.., "bias" | "q_bias" | "v_bias"] => Init::Constant(0.0),
            [.., layer, "weight"] if layer.contains("norm") => Init::Constant(1.0),
            ["head", "weight"] => Init::Normal(STD * HEAD_SCALE),
            ["blocks", index, "attn", "proj", "weight"]
            | ["blocks", index, "mlp", "fc2", "weight"] => {
                let layer = index.parse::<f64>().ok()? + 1.0;
                Init::Normal(STD * (2.0 * layer).powf(-0.5))
            }
            _ => Init::Normal(STD),
        })
    }

    fn cost(&self, _: &ModelConfig, params: &[&ParamInfo]) -> Option<Cost> {
        let (rows, columns) = self.trunk.grid;
        let grid = (rows * columns) as u64;
        transformer_cost(params, grid, |key| {
            (key == "patch_embed.proj.weight").then_some(grid)
        })
    }

    fn resized(
        &self,
        key: &str,
        table: &RawTensor,
        shape: &[usize],
    ) -> Result<Option<RawTensor>, WeightsError> {
        fit_pos_embed(key, table, shape, self.trunk.grid)
    }

    fn recompute_blocks(&mut self) -> Result<(), ModelError> {
        self.trunk.recompute = Recompute::of(&self.trunk.blocks, 1)?;
        Ok(())
    }
}

impl Eva {
    /// Normalised pixels `[batch, 3, height, width]` → `[batch, width]`, or `[batch, embed_dim]` with a classifier.
    pub fn forward(&self, image: Tensor<4>, training: Option<u64>) -> Tensor<2> {
        let patches = self.patch_embed.proj.forward(image);
        let [batch, n, _] = patches.dims();
        let kept = training.filter(|_| self.patch_dropout > 0.0);
        let kept = kept.map(|seed| KeptPatches::draw(batch, n, self.patch_dropout, seed));
        let rope = self.rope.as_ref();
        let rotation = rope.map(|rope| rope.rotation(kept.as_ref(), &patches.device()));
        let keep = |patches| match &kept {
            Some(kept) => kept.of(patches),
            None => patches,
        };
        let mut x = with_positions(patches, &self.pos_embed, self.cls_token.as_ref(), keep);
        if let Some(norm) = &self.norm_pre {
            x = norm.forward(x);
        }
        for block in &self.blocks {
            let rotation = rotation.clone();
            x = self.recompute.block(block, [x], move |block, [x]| {
                block.forward(x, rotation.as_ref(), training)
            });
        }
        let pooled = self.pool(x);
        let pooled = match &self.fc_norm {
            Some(norm) => norm.forward(pooled),
            None => pooled,
        };
        match &self.head {
            Some(head) => head.forward(pooled),
            None => pooled,
        }
    }

    /// `[batch, tokens, width]` → `[batch, width]`. Attention pooling sees the class token too, the mean does not.
    fn pool(&self, tokens: Tensor<3>) -> Tensor<2> {
        let [batch, n, width] = tokens.dims();
        let normed = |tokens: Tensor<3>| match &self.norm {
            Some(norm) => norm.forward(tokens),
            None => tokens,
        };
        match (&self.attn_pool, self.pool) {
            (Some(pool), _) => pool.forward(normed(tokens)),
            // LayerNorm treats each token alone, so norm and pick of one token commute.
            (None, TokenPool::Token) => normed(tokens.slice_dim(1, 0..1)).reshape([batch, width]),
            (None, _) => {
                let first = usize::from(self.cls_token.is_some());
                let patches = normed(tokens.slice_dim(1, first..n));
                patches.mean_dim(1).reshape([batch, width])
            }
        }
    }
}

/// Standard deviation of timm's weights.
const STD: f64 = 0.02;
/// timm's factor on the classifier's.
const HEAD_SCALE: f64 = 1e-3;
