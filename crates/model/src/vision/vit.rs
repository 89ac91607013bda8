//! OpenCLIP's native vision transformer (`transformer.py::VisionTransformer`).

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use crate::config::{ImagePool, ModelConfig, NormOptions};
use crate::error::ModelError;
use crate::layers::patch::patch_dropout;
use crate::layers::{
    Activation, AttentionalPooler, LayerNorm, PatchEmbed, Transformer, TransformerConfig, parameter,
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
}

impl VisionTransformer {
    /// Builds the tower of a native configuration.
    pub fn new(config: &ModelConfig, device: &Device) -> Result<Self, ModelError> {
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
        })
    }

    /// Normalised pixels `[batch, 3, height, width]` → features `[batch, embed_dim]`.
    ///
    /// `dropout` seeds patch dropout; without it nothing is dropped.
    pub fn forward(&self, image: Tensor<4>, dropout: Option<u64>) -> Tensor<2> {
        let tokens = self.encode(image, dropout);
        match &self.attn_pool {
            None => self.pool(tokens),
            // The first query alone makes the class token's vector.
            Some(pool) if self.pool != ImagePool::Avg => self.split(pool.forward(tokens, 0..1)).0,
            Some(pool) => self.split(pool.forward(tokens, 0..pool.queries())).0,
        }
    }

    /// Like [`Self::forward`], with the tokens `[batch, n, width or embed_dim]` that a caption decoder looks at: all but the class
    /// token, or all queries but the first.
    pub fn forward_with_tokens(
        &self,
        image: Tensor<4>,
        dropout: Option<u64>,
    ) -> (Tensor<2>, Tensor<3>) {
        let tokens = self.encode(image, dropout);
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

    /// The last block's tokens, `[batch, 1 + n, width]`, the class token first.
    fn encode(&self, image: Tensor<4>, dropout: Option<u64>) -> Tensor<3> {
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
        self.transformer.forward(tokens, false)
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
