//! Sizes and switches of timm's vision transformers with relative positions, by timm's names.

use serde::{Deserialize, Serialize};

use crate::files::ModelError;
use crate::files::config::{
    ImageSize, TimmOptions, TimmProj, check_extent, check_heads, check_hidden, check_layers,
};
use crate::vision::timm::TokenPool;

/// Arguments of timm's `VisionTransformerRelPos`, under timm's names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelPosConfig {
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Token width.
    pub embed_dim: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Hidden width of the MLPs relative to the token width; the product is truncated.
    pub mlp_ratio: f64,
    /// Query, key and value have biases.
    pub qkv_bias: bool,
    /// Start value of LayerScale.
    pub init_values: f64,
    /// A class token before the patches.
    pub class_token: bool,
    /// The last LayerNorm is on the pooled vector.
    pub fc_norm: bool,
    /// The pool of the architecture itself.
    pub global_pool: TokenPool,
    /// Hidden width of the MLP that makes scores of displacements.
    pub rel_pos_dim: usize,
}

impl RelPosConfig {
    /// The architecture that timm knows under this name.
    pub fn named(name: &str) -> Option<Self> {
        (name == "vit_relpos_medium_patch16_cls_224").then_some(Self {
            patch_size: 16,
            embed_dim: 512,
            depth: 12,
            num_heads: 8,
            mlp_ratio: 4.0,
            qkv_bias: false,
            init_values: 1e-6,
            class_token: true,
            fc_norm: false,
            global_pool: TokenPool::Token,
            rel_pos_dim: 256,
        })
    }

    /// The named architecture with the configuration's changes.
    ///
    /// # Errors
    /// The name is another family's, or a size is none.
    pub fn of(options: &TimmOptions) -> Result<Self, ModelError> {
        let config: Self = options.merged(Self::named(&options.model_name))?;
        check_extent("vision_cfg.timm_kwargs.patch_size", config.patch_size)?;
        check_extent("vision_cfg.timm_kwargs.embed_dim", config.embed_dim)?;
        check_extent("vision_cfg.timm_kwargs.rel_pos_dim", config.rel_pos_dim)?;
        check_layers("vision_cfg.timm_kwargs.depth", config.depth)?;
        check_heads(config.num_heads, config.embed_dim)?;
        check_hidden(
            "vision_cfg.timm_kwargs.mlp_ratio",
            config.embed_dim,
            config.mlp_ratio,
        )?;
        Ok(config)
    }

    /// How the tokens become one vector: the configuration's way, or the architecture's own where there is a map behind the trunk.
    pub fn pool(&self, options: &TimmOptions) -> Result<TokenPool, ModelError> {
        let behind = matches!(options.projection()?, TimmProj::Linear | TimmProj::Mlp);
        let pool = match options.pool.as_str() {
            "" if behind => self.global_pool,
            name => TokenPool::named(name)?,
        };
        match pool == TokenPool::Map || pool == TokenPool::Token && !self.class_token {
            true => Err(ModelError::invalid(
                "vision_cfg.timm_pool",
                format!(
                    "`{}`, which {} does not have",
                    options.pool, options.model_name
                ),
            )),
            false => Ok(pool),
        }
    }

    /// Rows and columns of patches; pixels that do not fill a patch are left out.
    pub fn grid(&self, image_size: ImageSize) -> Result<[usize; 2], ModelError> {
        let (rows, columns) = image_size.patches(self.patch_size)?;
        Ok([rows, columns])
    }
}
