//! Sizes and switches of timm's `Eva` by timm's names.

use serde::{Deserialize, Serialize};

use super::block::{EvaBlockConfig, EvaQkv};
use super::rope::RopeConfig;
use crate::files::ModelError;
use crate::files::config::{TimmOptions, check_extent, check_hidden, check_layers};
use crate::layers::{Activation, TimmBlockConfig};
use crate::vision::timm::{Pools, TokenPool};

/// Kind of attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttentionType {
    /// Keys have no bias.
    Eva,
    /// Keys have one where queries and values do.
    Rope,
}

/// Which coordinate comes first in the rotary embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GridIndexing {
    /// The row.
    Ij,
    /// The column.
    Xy,
}

/// Arguments of timm's `Eva`, under timm's names and with timm's defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaConfig {
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Token width.
    pub embed_dim: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Hidden width of the MLP relative to the token width; the product is truncated.
    pub mlp_ratio: f64,
    /// Query and value have biases, and the key with `AttentionType::Rope`.
    pub qkv_bias: bool,
    /// One layer for query, key and value.
    pub qkv_fused: bool,
    /// A gate in the MLP; the one that timm has comes with a norm, see `scale_mlp`.
    pub swiglu_mlp: bool,
    /// A LayerNorm in the MLP, which only the gated one has here.
    pub scale_mlp: bool,
    /// A LayerNorm inside the attention.
    pub scale_attn_inner: bool,
    /// Kind of attention.
    pub attn_type: AttentionType,
    /// A class token before the patches.
    pub class_token: bool,
    /// The class token has no position.
    pub no_embed_class: bool,
    /// Queries and keys of patches are turned by their place.
    pub use_rot_pos_emb: bool,
    /// Added to a patch's row and column.
    pub rope_grid_offset: f64,
    /// Which coordinate comes first.
    pub rope_grid_indexing: GridIndexing,
    /// Inverse of the slowest frequency, nearly.
    pub rope_temperature: f64,
    /// Rows and columns that a grid of any size is stretched to.
    pub ref_feat_shape: Option<[usize; 2]>,
    /// LayerNorms behind attention and MLP instead of before them.
    pub use_post_norm: bool,
    /// A LayerNorm before the first block, and no bias of the patch embedding.
    pub use_pre_transformer_norm: bool,
    /// The last LayerNorm is on the pooled vector; by default with the `avg` pool.
    pub use_fc_norm: Option<bool>,
    /// The pool of the architecture itself.
    pub global_pool: TokenPool,
    /// Heads of the attention pool, if not those of the blocks.
    pub attn_pool_num_heads: Option<usize>,
    /// Relative hidden width in the attention pool, if not that of the blocks.
    pub attn_pool_mlp_ratio: Option<f64>,
    /// Added to the variance in every LayerNorm.
    pub norm_eps: f64,
}

impl Default for EvaConfig {
    fn default() -> Self {
        Self {
            patch_size: 16,
            embed_dim: 768,
            depth: 12,
            num_heads: 12,
            mlp_ratio: 4.0,
            qkv_bias: true,
            qkv_fused: true,
            swiglu_mlp: false,
            scale_mlp: false,
            scale_attn_inner: false,
            attn_type: AttentionType::Eva,
            class_token: true,
            no_embed_class: false,
            use_rot_pos_emb: false,
            rope_grid_offset: 0.0,
            rope_grid_indexing: GridIndexing::Ij,
            rope_temperature: 10_000.0,
            ref_feat_shape: None,
            use_post_norm: false,
            use_pre_transformer_norm: false,
            use_fc_norm: None,
            global_pool: TokenPool::Avg,
            attn_pool_num_heads: None,
            attn_pool_mlp_ratio: None,
            norm_eps: 1e-6,
        }
    }
}

impl EvaConfig {
    /// The architecture that timm knows under this name, apart from the picture's size, which the name ends with.
    pub fn named(name: &str) -> Option<Self> {
        let sized = |patch_size, embed_dim, depth, num_heads| Self {
            patch_size,
            embed_dim,
            depth,
            num_heads,
            ..Self::default()
        };
        let eva02 = |base| Self {
            mlp_ratio: 4.0 * 2.0 / 3.0,
            qkv_fused: false,
            swiglu_mlp: true,
            scale_mlp: true,
            scale_attn_inner: true,
            use_rot_pos_emb: true,
            ref_feat_shape: Some([16, 16]),
            global_pool: TokenPool::Token,
            ..base
        };
        let perception = |grid, base| Self {
            attn_type: AttentionType::Rope,
            use_pre_transformer_norm: true,
            use_rot_pos_emb: true,
            ref_feat_shape: Some([grid, grid]),
            rope_grid_offset: 1.0,
            rope_grid_indexing: GridIndexing::Xy,
            global_pool: TokenPool::Map,
            attn_pool_num_heads: Some(8),
            attn_pool_mlp_ratio: Some(4.0),
            norm_eps: 1e-5,
            ..base
        };
        Some(match name {
            "eva_giant_patch14_224" => Self {
                mlp_ratio: 6144.0 / 1408.0,
                ..sized(14, 1408, 40, 16)
            },
            "eva02_base_patch16_clip_224" => eva02(sized(16, 768, 12, 12)),
            "eva02_large_patch14_clip_224" | "eva02_large_patch14_clip_336" => {
                eva02(sized(14, 1024, 24, 16))
            }
            "eva02_enormous_patch14_clip_224" => Self {
                mlp_ratio: 15360.0 / 1792.0,
                use_post_norm: true,
                global_pool: TokenPool::Token,
                ..sized(14, 1792, 64, 16)
            },
            "vit_pe_core_tiny_patch16_384" => perception(24, sized(16, 192, 12, 3)),
            "vit_pe_core_small_patch16_384" => perception(24, sized(16, 384, 12, 6)),
            "vit_pe_core_base_patch16_224" => perception(14, sized(16, 768, 12, 12)),
            "vit_pe_core_large_patch14_336" => perception(24, sized(14, 1024, 24, 16)),
            "vit_pe_core_gigantic_patch14_448" => Self {
                mlp_ratio: 8960.0 / 1536.0,
                class_token: false,
                rope_grid_offset: 0.0,
                ..perception(32, sized(14, 1536, 50, 16))
            },
            _ => return None,
        })
    }

    /// The named architecture with the configuration's changes.
    ///
    /// # Errors
    /// The name is another family's, or a size or switch is one that no tower has.
    pub fn of(options: &TimmOptions) -> Result<Self, ModelError> {
        let config: Self = options.merged(Self::named(&options.model_name))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ModelError> {
        check_extent("vision_cfg.timm_kwargs.embed_dim", self.embed_dim)?;
        check_extent("vision_cfg.timm_kwargs.patch_size", self.patch_size)?;
        check_layers("vision_cfg.timm_kwargs.depth", self.depth)?;
        let width = self.embed_dim;
        let pool = self.latent_pool();
        for (field, ratio) in [
            ("vision_cfg.timm_kwargs.mlp_ratio", self.mlp_ratio),
            ("vision_cfg.timm_kwargs.attn_pool_mlp_ratio", pool.mlp_ratio),
        ] {
            check_hidden(field, width, ratio)?;
        }
        for (field, heads) in [
            ("vision_cfg.timm_kwargs.num_heads", self.num_heads),
            ("vision_cfg.timm_kwargs.attn_pool_num_heads", pool.heads),
        ] {
            if heads == 0 || !width.is_multiple_of(heads) {
                let reason = format!("{heads} does not divide the width {width}");
                return Err(ModelError::invalid(field, reason));
            }
        }
        if self.swiglu_mlp != self.scale_mlp {
            return Err(ModelError::invalid(
                "vision_cfg.timm_kwargs.scale_mlp",
                format!("{}, expected the value of swiglu_mlp", self.scale_mlp),
            ));
        }
        let head_width = width / self.num_heads;
        if self.use_rot_pos_emb && !head_width.is_multiple_of(4) {
            return Err(ModelError::invalid(
                "vision_cfg.timm_kwargs.num_heads",
                format!("heads of width {head_width} cannot be turned, expected a multiple of 4"),
            ));
        }
        Ok(())
    }

    /// Positions before those of the patches.
    pub fn prefix_positions(&self) -> usize {
        usize::from(self.class_token && !self.no_embed_class)
    }

    /// The pool after OpenCLIP's adapter has had its say.
    pub fn pools(&self, options: &TimmOptions) -> Result<Pools, ModelError> {
        Pools::of(
            options,
            self.global_pool,
            self.class_token,
            self.use_fc_norm,
        )
    }

    /// The rotation of queries and keys, where there is one.
    pub fn rope(&self) -> Option<RopeConfig> {
        self.use_rot_pos_emb.then(|| RopeConfig {
            head_width: self.embed_dim / self.num_heads,
            reference: self.ref_feat_shape.map(|[rows, columns]| (rows, columns)),
            offset: self.rope_grid_offset,
            columns_first: self.rope_grid_indexing == GridIndexing::Xy,
            temperature: self.rope_temperature,
        })
    }

    /// Widths and switches of a block.
    pub fn block(&self) -> EvaBlockConfig {
        let bias = self.qkv_bias;
        EvaBlockConfig {
            width: self.embed_dim,
            heads: self.num_heads,
            hidden: (self.embed_dim as f64 * self.mlp_ratio) as usize,
            qkv: match (self.qkv_fused, self.attn_type) {
                (true, AttentionType::Eva) if bias => EvaQkv::PackedWithoutKeyBias,
                (true, _) => EvaQkv::Packed { bias },
                (false, kind) => EvaQkv::Separate {
                    biases: [bias, bias && kind == AttentionType::Rope, bias],
                },
            },
            inner_norm: self.scale_attn_inner,
            gated: self.swiglu_mlp,
            post_norm: self.use_post_norm,
            norm_eps: self.norm_eps,
        }
    }

    /// Widths of the attention pool.
    pub fn latent_pool(&self) -> TimmBlockConfig {
        TimmBlockConfig {
            width: self.embed_dim,
            heads: self.attn_pool_num_heads.unwrap_or(self.num_heads),
            mlp_ratio: self.attn_pool_mlp_ratio.unwrap_or(self.mlp_ratio),
            qkv_bias: true,
            activation: Activation::Gelu,
            norm_eps: self.norm_eps,
            layer_scale: false,
        }
    }
}
