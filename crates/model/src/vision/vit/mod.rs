//! OpenCLIP's native vision transformer (`transformer.py::VisionTransformer`).

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

mod arch;
mod attentional_pool;
mod hugging_face;

pub use arch::AttentionPool;
pub use attentional_pool::AttentionalPooler;

use crate::family::cost::{Cost, blocks, find};
use crate::family::depth::{self, Depth};
use crate::family::keys::{Foreign, Marks};
use crate::family::{ImageFamily, Init, ParamInfo};
use crate::files::ModelError;
use crate::files::config::{ImagePool, ModelConfig, NormOptions, VisionConfig};
use crate::files::weights::resize::{fitted, resize_image_pos_embed};
use crate::files::weights::{RawTensor, WeightsError};
use crate::layers::patch::patch_dropout;
use crate::layers::{
    Activation, Bits, LayerNorm, PatchEmbed, Recompute, ResidualBlock, Transformer,
    TransformerConfig, parameter,
};

/// Vision transformer with a class token and learned or fixed absolute positions.
#[derive(Module, Debug)]
pub struct VisionTransformer {
    /// `[width]`.
    pub class_embedding: Param<Tensor<1>>,
    /// `[1 + rows·columns, width]`, the class token's position first.
    pub positional_embedding: Param<Tensor<2>>,
    /// `[width, embed_dim]`, not transposed; square behind an attention pool.
    pub proj: Param<Tensor<2>>,
    /// Patch embedding.
    pub conv1: PatchEmbed,
    /// Before the first block.
    pub ln_pre: Option<LayerNorm>,
    /// Residual blocks.
    pub transformer: Transformer,
    /// Learned queries in place of the last block's tokens (CoCa).
    pub attn_pool: Option<AttentionalPooler>,
    /// After the last block, on the tokens or on the pooled vector.
    pub ln_post: LayerNorm,
    #[module(skip)]
    pool: ImagePool,
    #[module(skip)]
    final_ln_after_pool: bool,
    #[module(skip)]
    patch_dropout: f64,
    /// Rows and columns of patches that the positions are for.
    #[module(skip)]
    grid: (usize, usize),
}

impl ImageFamily for VisionTransformer {
    fn configures(vision: &VisionConfig) -> bool {
        !vision.layers.is_array() && vision.timm_model_name().is_none()
    }

    fn marks() -> &'static [Marks] {
        &[("a native ViT", &[".transformer.resblocks."])]
    }

    fn foreign() -> &'static [Foreign] {
        &[hugging_face::CLIP]
    }

    fn new(config: &ModelConfig, device: &Device) -> Result<Self, ModelError> {
        let vision = &config.vision_cfg;
        let layers = vision.native_layers()?;
        let (rows, columns) = vision.grid()?;
        let width = vision.width;
        let norm_eps = NormOptions::eps(vision.norm_kwargs);
        let heads = width.checked_div(vision.head_width).unwrap_or(0);
        if heads == 0 || !width.is_multiple_of(heads) {
            return Err(ModelError::invalid(
                "vision_cfg.head_width",
                format!(
                    "{} gives {heads} heads, which do not divide the width {width}",
                    vision.head_width
                ),
            ));
        }
        if vision.pool_type == ImagePool::None {
            return Err(ModelError::invalid(
                "vision_cfg.pool_type",
                "`none` gives no vector to compare with a caption",
            ));
        }
        let mut positional_embedding = parameter([1 + rows * columns, width], device);
        if vision.fixed_positions()? {
            positional_embedding = positional_embedding.set_require_grad(false);
        }
        let transformer = TransformerConfig {
            width,
            layers,
            heads,
            mlp_ratio: vision.mlp_ratio,
            activation: Activation::of(config.quick_gelu, vision.act_kwargs),
            norm_eps,
            layer_scale: vision.ls_init_value.is_some(),
        };
        let attn_pool = vision.attention_pool()?;
        if attn_pool.is_some_and(|pool| !config.embed_dim.is_multiple_of(pool.heads)) {
            return Err(ModelError::invalid(
                "vision_cfg.attn_pooler_heads",
                format!("the heads do not divide embed_dim {}", config.embed_dim),
            ));
        }
        let pooled = attn_pool.map_or(width, |_| config.embed_dim);
        Ok(Self {
            class_embedding: parameter([width], device),
            positional_embedding,
            proj: parameter([pooled, config.embed_dim], device),
            conv1: PatchEmbed::new(width, vision.patch()?, device),
            ln_pre: (!vision.no_ln_pre).then(|| LayerNorm::new(width, norm_eps, device)),
            transformer: Transformer::new(&transformer, device),
            // Upstream gives the pool's own norms no options.
            attn_pool: attn_pool.map(|pool| {
                AttentionalPooler::new(pool.queries, [pooled, width], pool.heads, 1e-5, device)
            }),
            ln_post: LayerNorm::new(pooled, norm_eps, device),
            pool: vision.pool_type,
            final_ln_after_pool: vision.final_ln_after_pool,
            patch_dropout: vision.patch_dropout,
            grid: (rows, columns),
        })
    }

    fn forward(&self, image: Tensor<4>, dropout: Option<u64>) -> Tensor<2> {
        let tokens = self.embed(image, dropout);
        let tokens = match &self.attn_pool {
            None if self.pool != ImagePool::Avg => self.transformer.first(tokens),
            _ => self.transformer.forward(tokens, false),
        };
        match &self.attn_pool {
            None => self.pool(tokens),
            // The first query alone makes the class token's vector.
            Some(pool) if self.pool != ImagePool::Avg => self.split(pool.forward(tokens, 0..1)).0,
            Some(pool) => self.split(pool.forward(tokens, 0..pool.queries())).0,
        }
    }

    /// OpenCLIP's `init_parameters` and PyTorch's defaults; the query of the attention pool is upstream's, whose pool keeps the defaults.
    fn initial(&self, key: &str, shape: &[usize], config: &ModelConfig) -> Option<Init> {
        let vision = &config.vision_cfg;
        let width = vision.width;
        Some(match key {
            "visual.positional_embedding" if vision.pos_embed_type == "sin_cos_2d" => Init::SinCos,
            "visual.class_embedding" | "visual.positional_embedding" | "visual.proj" => {
                Init::Normal((width as f64).powf(-0.5))
            }
            "visual.attn_pool.query" => Init::Normal(1.0),
            "visual.attn_pool.attn.q_proj_weight"
            | "visual.attn_pool.attn.k_proj_weight"
            | "visual.attn_pool.attn.v_proj_weight" => Init::xavier(shape),
            _ => {
                let hidden = (width as f64 * vision.mlp_ratio) as usize;
                Init::of_block(key, shape, [width, hidden], vision.ls_init_value)
            }
        })
    }

    fn root(&self) -> &'static str {
        "visual."
    }

    /// Stem, each block with the last one's norm, projection. An attention pool is in no layer.
    fn depth(&self, key: &str) -> Option<Depth> {
        const STEM: [&str; 4] = ["conv1", "class_embedding", "positional_embedding", "ln_pre"];
        depth::native(key, &STEM, "ln_post", "proj")
    }

    /// With CoCa's attention pool where there is one.
    fn cost(&self, config: &ModelConfig, params: &[&ParamInfo]) -> Option<Cost> {
        // Query, key and value of a pool whose width is the picture's.
        const POOL_PACKED: &str = "attn_pool.attn.in_proj_weight";
        let (rows, columns) = self.grid;
        let grid = (rows * columns) as u64;
        let tokens = grid + 1;
        let pool = self.attn_pool.as_ref();
        let queries = pool.map(|pool| pool.queries() as u64);
        let matrices = Cost::of_matrices(params, "visual.", |key| match key {
            "conv1.weight" => Some(grid),
            "proj" => Some(1),
            "positional_embedding" | "attn_pool.query" | POOL_PACKED => Some(0),
            "attn_pool.attn.q_proj_weight" | "attn_pool.attn.out_proj.weight" => queries,
            "attn_pool.attn.k_proj_weight" | "attn_pool.attn.v_proj_weight" => Some(tokens),
            key => key.starts_with("transformer.resblocks.").then_some(tokens),
        })?;
        let layers = blocks(params, "visual.transformer.resblocks.");
        let embed_dim = config.embed_dim as u64;
        let pool = queries.map_or_else(Cost::default, |queries| {
            let in_proj = find(params, &format!("visual.{POOL_PACKED}"));
            let in_proj = in_proj.map_or_else(Cost::default, |_| {
                Cost::packed(1, [queries, tokens], embed_dim)
            });
            in_proj + Cost::attention(1, [queries, tokens], embed_dim)
        });
        let width = config.vision_cfg.width as u64;
        Some(matrices + Cost::attention(layers, [tokens; 2], width) + pool)
    }

    fn patch_and_width(&self, vision: &VisionConfig, _: &[ParamInfo]) -> (Option<usize>, usize) {
        (vision.patch_size, vision.width)
    }

    fn resized(
        &self,
        key: &str,
        table: &RawTensor,
        shape: &[usize],
    ) -> Result<Option<RawTensor>, WeightsError> {
        if key != "visual.positional_embedding" {
            return Ok(None);
        }
        fitted(table, shape, |values, old| {
            resize_image_pos_embed(values, old, self.grid)
        })
    }

    fn recompute_blocks(&mut self) -> Result<(), ModelError> {
        self.transformer.recompute = Recompute::of(&self.transformer.resblocks, 1)?;
        Ok(())
    }

    fn fold(&mut self, bits: Bits) -> bool {
        self.transformer.fold(bits)
    }

    fn resblocks(&mut self) -> &mut [ResidualBlock] {
        &mut self.transformer.resblocks
    }
}

impl VisionTransformer {
    /// Like [`ImageFamily::forward`], with the tokens `[batch, n, width or embed_dim]` that a caption decoder looks at: all but the class
    /// token, or all queries but the first.
    pub fn forward_with_tokens(
        &self,
        image: Tensor<4>,
        dropout: Option<u64>,
    ) -> (Tensor<2>, Tensor<3>) {
        let tokens = self.embed(image, dropout);
        let tokens = self.transformer.forward(tokens, false);
        match &self.attn_pool {
            Some(pool) => self.split(pool.forward(tokens, 0..pool.queries())),
            None if self.final_ln_after_pool => {
                let n = tokens.dims()[1];
                (self.pool(tokens.clone()), tokens.slice_dim(1, 1..n))
            }
            None => self.split(tokens),
        }
    }

    /// The pooled vector and the other tokens of normalised tokens `[batch, n, width]`.
    fn split(&self, tokens: Tensor<3>) -> (Tensor<2>, Tensor<3>) {
        let [batch, n, width] = tokens.dims();
        let tokens = self.ln_post.forward(tokens);
        let first = tokens.clone().slice_dim(1, 0..1);
        let others = match n {
            1 => tokens,
            _ => tokens.slice_dim(1, 1..n),
        };
        let pooled = match self.pool {
            ImagePool::Avg => others.clone().mean_dim(1),
            ImagePool::Tok | ImagePool::None => first,
        };
        let pooled = pooled.reshape([batch, width]);
        let proj = self.proj.val().cast(pooled.dtype());
        (pooled.matmul(proj), others)
    }

    /// The first block's tokens, `[batch, 1 + n, width]`, the class token first.
    fn embed(&self, image: Tensor<4>, dropout: Option<u64>) -> Tensor<3> {
        let dtype = image.dtype();
        let patches = self.conv1.forward(image);
        let [batch, n, width] = patches.dims();
        let positions = self.positional_embedding.val().cast(dtype);
        let class = self.class_embedding.val().cast(dtype).unsqueeze::<2>();
        let class = (class + positions.clone().slice_dim(0, 0..1)).unsqueeze::<3>();
        let mut patches = patches + positions.slice_dim(0, 1..n + 1).unsqueeze();
        if let (Some(seed), true) = (dropout, self.patch_dropout > 0.0) {
            patches = patch_dropout(patches, self.patch_dropout, seed);
        }
        let mut tokens = Tensor::cat(vec![class.expand([batch, 1, width]), patches], 1);
        if let Some(norm) = &self.ln_pre {
            tokens = norm.forward(tokens);
        }
        tokens
    }

    fn pool(&self, tokens: Tensor<3>) -> Tensor<2> {
        let [batch, n, width] = tokens.dims();
        let pooled = match self.pool {
            // LayerNorm treats each token alone, so norm and pick of one token commute.
            ImagePool::Tok | ImagePool::None => {
                let class = tokens.slice_dim(1, 0..1).reshape([batch, width]);
                self.ln_post.forward(class)
            }
            ImagePool::Avg => {
                let mean = |x: Tensor<3>| x.slice_dim(1, 1..n).mean_dim(1).reshape([batch, width]);
                if self.final_ln_after_pool {
                    self.ln_post.forward(mean(tokens))
                } else {
                    mean(self.ln_post.forward(tokens))
                }
            }
        };
        let proj = self.proj.val().cast(pooled.dtype());
        pooled.matmul(proj)
    }
}
