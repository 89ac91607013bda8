//! timm's `VisionTransformer` as OpenCLIP's timm adapter uses it: the image tower of SigLIP, SigLIP2 and of the ViTs among
//! MobileCLIP.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

mod arch;
mod big_vision;
mod conv_stem;
mod siglip;

pub use arch::{ActLayer, TimmVitConfig};
pub use conv_stem::{ConvStem, LastConv};

use crate::family::cost::{Cost, sides};
use crate::family::keys::{Foreign, Marks};
use crate::family::{ImageFamily, Init, ParamInfo};
use crate::files::ModelError;
use crate::files::config::{ModelConfig, TimmProj, VisionConfig};
use crate::files::weights::{RawTensor, WeightsError};
use crate::layers::batch_norm::PendingStatistics;
use crate::layers::drop_path::drop_path_shares;
use crate::layers::flex::stack::Stack;
use crate::layers::patch::{check_patch_dropout, patch_dropout};
use crate::layers::position::with_positions;
use crate::layers::{
    Bits, LatentPool, LayerNorm, Linear, PatchEmbed, Recompute, TimmBlock, parameter,
};
use crate::vision::timm::{TimmHead, TokenPool, fit_pos_embed, initial_head, transformer_cost};
use conv_stem::{NARROW, conv_stem};

/// Pixels to tokens, in one of two ways.
#[derive(Module, Debug)]
pub struct TimmPatchEmbed {
    /// One matrix per patch.
    pub proj: Option<PatchEmbed>,
    /// Several convolutions.
    pub backbone: Option<ConvStem>,
}

/// timm's vision transformer up to the pooled vector, or to the embedding where its classifier is the map there.
#[derive(Module, Debug)]
pub struct TimmVit {
    /// `[1, 1, width]`.
    pub cls_token: Option<Param<Tensor<3>>>,
    /// `[1, rows·columns, width]`, with the class token's position first where it has one.
    pub pos_embed: Param<Tensor<3>>,
    /// Pixels to tokens.
    pub patch_embed: TimmPatchEmbed,
    /// Before the first block.
    pub norm_pre: Option<LayerNorm>,
    /// Residual blocks.
    pub blocks: Vec<TimmBlock>,
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
    /// The blocks in evaluation mode.
    #[module(skip)]
    folded: Option<Stack>,
    #[module(skip)]
    pool: TokenPool,
    #[module(skip)]
    grid: (usize, usize),
    #[module(skip)]
    patch_dropout: f64,
    #[module(skip)]
    pending: PendingStatistics,
}

/// timm's vision transformer and the map behind it.
#[derive(Module, Debug)]
pub struct TimmVitTower {
    /// The transformer.
    pub trunk: TimmVit,
    /// The map to the shared embedding.
    pub head: TimmHead,
}

impl ImageFamily for TimmVitTower {
    fn configures(vision: &VisionConfig) -> bool {
        let named = vision.timm_model_name().and_then(TimmVitConfig::named);
        named.is_some()
    }

    fn marks() -> &'static [Marks] {
        &[
            ("MobileCLIP's ViT", &[".patch_embed.backbone."]),
            ("timm's ViT", &[".trunk.blocks."]),
        ]
    }

    fn foreign() -> &'static [Foreign] {
        &[siglip::SIGLIP, big_vision::BIG_VISION]
    }

    fn new(config: &ModelConfig, device: &Device) -> Result<Self, ModelError> {
        let options = config.vision_cfg.timm()?;
        let arch = TimmVitConfig::of(&options)?;
        let grid = arch.grid(config.vision_cfg.image_size)?;
        let projection = options.projection()?;
        let pool = arch.pools(&options)?;
        let share = config.vision_cfg.patch_dropout;
        check_patch_dropout(share)?;
        let width = arch.embed_dim;
        let block = arch.block();
        let norm = || LayerNorm::new(width, arch.norm_eps, device);
        let pending = PendingStatistics::default();
        let proj = || match arch.pre_norm {
            true => PatchEmbed::new(width, arch.patch_size, device),
            false => PatchEmbed::biased(width, arch.patch_size, device),
        };
        let patch_embed = TimmPatchEmbed {
            proj: (!arch.conv_stem).then(proj),
            backbone: arch.conv_stem.then(|| conv_stem(width, &pending, device)),
        };
        let shares = drop_path_shares(options.stochastic_depth(0.0)?, arch.depth);
        let classifier = projection == TimmProj::Classifier;
        Ok(Self {
            trunk: TimmVit {
                cls_token: arch.class_token.then(|| parameter([1, 1, width], device)),
                pos_embed: parameter(
                    [1, arch.prefix_positions() + grid.0 * grid.1, width],
                    device,
                ),
                patch_embed,
                norm_pre: arch.pre_norm.then(norm),
                blocks: (0..)
                    .zip(shares)
                    .map(|(i, share)| TimmBlock::new(&block, device).with_drop_path(share, i))
                    .collect(),
                norm: (!pool.norm_last).then(norm),
                attn_pool: (pool.tokens == TokenPool::Map).then(|| LatentPool::new(&block, device)),
                fc_norm: pool.norm_last.then(norm),
                head: classifier.then(|| Linear::new(width, config.embed_dim, true, device)),
                recompute: Recompute::default(),
                folded: None,
                pool: pool.tokens,
                grid,
                patch_dropout: share,
                pending,
            },
            head: TimmHead::new(&options, width, config.embed_dim, device)?,
        })
    }

    fn forward(&self, image: Tensor<4>, training: Option<u64>) -> Tensor<2> {
        self.head.forward(self.trunk.forward(image, training))
    }

    /// How a parameter of the tower starts: timm's `init_weights_vit_timm`, and PyTorch's defaults behind the trunk.
    fn initial(&self, key: &str, shape: &[usize], config: &ModelConfig) -> Option<Init> {
        let arch = TimmVitConfig::of(&config.vision_cfg.timm().ok()?).ok()?;
        let Some(name) = key.strip_prefix("visual.trunk.") else {
            return Some(initial_head(key, shape, arch.embed_dim, config));
        };
        let patches = || match name {
            "patch_embed.proj.bias" => Init::of_inputs(3 * arch.patch_size * arch.patch_size),
            // Four pixels of the layer before.
            "patch_embed.backbone.2.conv.bias" => Init::of_inputs(4 * (arch.embed_dim / NARROW)),
            _ => Init::of_matrix(shape),
        };
        let mut parts = name.rsplit('.');
        let (leaf, layer) = (parts.next()?, parts.next().unwrap_or_default());
        Some(match leaf {
            // Cut at ±2, a hundred standard deviations away.
            "pos_embed" => Init::Normal(0.02),
            "cls_token" => Init::Normal(1e-6),
            "latent" => Init::TruncatedNormal((arch.embed_dim as f64).powf(-0.5)),
            "gamma" => Init::Constant(arch.init_values.unwrap_or(1.0)),
            "running_mean" => Init::Constant(0.0),
            "running_var" => Init::Constant(1.0),
            _ if name.starts_with("patch_embed.") && layer != "bn" => patches(),
            "bias" => Init::Constant(0.0),
            _ if layer.contains("norm") || layer == "bn" => Init::Constant(1.0),
            _ => Init::Normal(0.02),
        })
    }

    /// MobileCLIP's tower makes a patch in three layers.
    fn cost(&self, config: &ModelConfig, params: &[&ParamInfo]) -> Option<Cost> {
        let [height, width] = sides(config.vision_cfg.image_size);
        let squares = |side: u64| (height / side) * (width / side);
        let (rows, columns) = self.trunk.grid;
        let grid = (rows * columns) as u64;
        transformer_cost(params, grid, |key| {
            match key.strip_prefix("patch_embed.backbone.") {
                None => (key == "patch_embed.proj.weight").then_some(grid),
                Some(layer) => Some(match layer.split('.').next()? {
                    "0" => squares(4),
                    "1" => squares(8),
                    _ => grid,
                }),
            }
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

    fn pending_statistics(&self) -> Option<&PendingStatistics> {
        Some(&self.trunk.pending)
    }

    /// One convolution in place of convolution and BatchNorm, and blocks whose weights are packed.
    fn fold(&mut self, bits: Bits) -> bool {
        let blocks = self.trunk.blocks.iter().map(|block| block.folded(bits));
        self.trunk.folded = blocks.collect::<Option<_>>().and_then(Stack::new);
        if let Some((first, second, _)) = &mut self.trunk.patch_embed.backbone {
            first.fold();
            second.fold();
        }
        self.trunk.folded.is_some()
    }
}

impl TimmPatchEmbed {
    /// `[batch, 3, height, width]` → `[batch, rows·columns, width]`, row by row.
    fn forward(&self, image: Tensor<4>, training: bool) -> Tensor<3> {
        match (&self.proj, &self.backbone) {
            (Some(proj), _) => proj.forward(image),
            (None, Some(stem)) => conv_stem::tokens(stem, image, training),
            (None, None) => image.flatten(2, 3).swap_dims(1, 2),
        }
    }
}

impl TimmVit {
    /// Normalised pixels `[batch, 3, height, width]` → `[batch, width]`, or `[batch, embed_dim]` with a classifier.
    pub fn forward(&self, image: Tensor<4>, training: Option<u64>) -> Tensor<2> {
        let patches = self.patch_embed.forward(image, training.is_some());
        let keep = |patches| match training {
            Some(seed) if self.patch_dropout > 0.0 => {
                patch_dropout(patches, self.patch_dropout, seed)
            }
            _ => patches,
        };
        let mut tokens = with_positions(patches, &self.pos_embed, self.cls_token.as_ref(), keep);
        if let Some(norm) = &self.norm_pre {
            tokens = norm.forward(tokens);
        }
        let folded = self.folded.as_ref().filter(|_| training.is_none());
        let tokens = match folded.and_then(|folded| folded.takes(&tokens)) {
            Some(folded) if self.pool == TokenPool::Token => folded.first(tokens),
            Some(folded) => folded.forward(tokens, false),
            None => self.blocks.iter().fold(tokens, |x, block| {
                self.recompute
                    .block(block, [x], move |block, [x]| block.forward(x, training))
            }),
        };
        let pooled = self.pool(tokens);
        let pooled = match &self.fc_norm {
            Some(norm) => norm.forward(pooled),
            None => pooled,
        };
        match &self.head {
            Some(head) => head.forward(pooled),
            None => pooled,
        }
    }

    fn pool(&self, tokens: Tensor<3>) -> Tensor<2> {
        let [batch, n, width] = tokens.dims();
        let normed = |tokens: Tensor<3>| match &self.norm {
            Some(norm) => norm.forward(tokens),
            None => tokens,
        };
        if self.pool == TokenPool::Token {
            // LayerNorm treats each token alone, so norm and pick of one token commute.
            return normed(tokens.slice_dim(1, 0..1)).reshape([batch, width]);
        }
        let first = usize::from(self.cls_token.is_some());
        let patches = normed(tokens.slice_dim(1, first..n));
        match &self.attn_pool {
            Some(pool) => pool.forward(patches),
            None => patches.mean_dim(1).reshape([batch, width]),
        }
    }
}
