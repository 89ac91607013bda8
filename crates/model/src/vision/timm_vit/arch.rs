//! Sizes and switches of timm's vision transformers by timm's names.

use serde::{Deserialize, Serialize};

use super::conv_stem;
use crate::files::ModelError;
use crate::files::config::{
    ImageSize, TimmOptions, check_extent, check_heads, check_hidden, check_layers,
};
use crate::layers::{Activation, TimmBlockConfig};
use crate::vision::timm::{Pools, TokenPool};

/// Non-linearity of the MLPs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActLayer {
    /// With the error function.
    Gelu,
    /// With the hyperbolic tangent.
    GeluTanh,
    /// `x·sigmoid(1.702x)`.
    QuickGelu,
}

/// Arguments of timm's `VisionTransformer`, under timm's names and with timm's defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimmVitConfig {
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
    /// Query, key and value of the blocks have biases.
    pub qkv_bias: bool,
    /// Start value of LayerScale; no LayerScale when absent.
    pub init_values: Option<f64>,
    /// A class token before the patches.
    pub class_token: bool,
    /// The class token has no position.
    pub no_embed_class: bool,
    /// A LayerNorm before the first block, and no bias of the patch embedding.
    pub pre_norm: bool,
    /// The last LayerNorm is on the pooled vector; by default with the `avg` pool.
    pub fc_norm: Option<bool>,
    /// The pool of the architecture itself.
    pub global_pool: TokenPool,
    /// Non-linearity of the MLPs.
    pub act_layer: ActLayer,
    /// Added to the variance in every LayerNorm.
    pub norm_eps: f64,
    /// The patch embedding is several convolutions; a switch of ours, which in timm is the class of a layer.
    pub conv_stem: bool,
}

impl Default for TimmVitConfig {
    fn default() -> Self {
        Self {
            patch_size: 16,
            embed_dim: 768,
            depth: 12,
            num_heads: 12,
            mlp_ratio: 4.0,
            qkv_bias: true,
            init_values: None,
            class_token: true,
            no_embed_class: false,
            pre_norm: false,
            fc_norm: None,
            global_pool: TokenPool::Token,
            act_layer: ActLayer::Gelu,
            norm_eps: 1e-6,
            conv_stem: false,
        }
    }
}

impl TimmVitConfig {
    /// The architecture that timm knows under this name, apart from the picture's size, which the name may end with.
    pub fn named(name: &str) -> Option<Self> {
        let sized = |embed_dim, depth, num_heads| Self {
            embed_dim,
            depth,
            num_heads,
            ..Self::default()
        };
        match name {
            "vit_medium_patch16_gap_256" => {
                return Some(Self {
                    class_token: false,
                    qkv_bias: false,
                    init_values: Some(1e-6),
                    fc_norm: Some(false),
                    global_pool: TokenPool::Avg,
                    ..sized(512, 12, 8)
                });
            }
            "vit_base_mci_224" => {
                return Some(Self {
                    patch_size: conv_stem::PATCH,
                    no_embed_class: true,
                    conv_stem: true,
                    ..sized(768, 12, 12)
                });
            }
            "vit_large_patch14_clip_224" => {
                return Some(Self {
                    patch_size: 14,
                    pre_norm: true,
                    norm_eps: 1e-5,
                    ..sized(1024, 24, 16)
                });
            }
            _ => {}
        }
        let (size, rest) = name.strip_prefix("vit_")?.split_once("_patch")?;
        let (patch, image) = rest.split_once("_siglip_")?;
        let base = match size {
            "base" => sized(768, 12, 12),
            "large" => sized(1024, 24, 16),
            "so400m" => Self {
                mlp_ratio: 3.7362,
                ..sized(1152, 27, 16)
            },
            "giantopt" => sized(1536, 40, 16),
            _ => return None,
        };
        // Which of them were trained with the approximation: those that SigLIP2 added.
        let act_layer = match (size, patch, image) {
            ("base", "16", "224" | "256" | "384" | "512") => ActLayer::Gelu,
            ("large", "16", "256" | "384") => ActLayer::Gelu,
            ("so400m", "14", "224" | "378" | "384") => ActLayer::Gelu,
            ("base", "32", "256") => ActLayer::GeluTanh,
            ("large", "16", "512") => ActLayer::GeluTanh,
            ("so400m", "16", "256" | "384" | "512") => ActLayer::GeluTanh,
            ("giantopt", "16", "256" | "384") => ActLayer::GeluTanh,
            _ => return None,
        };
        Some(Self {
            patch_size: patch.parse().ok()?,
            class_token: false,
            global_pool: TokenPool::Map,
            act_layer,
            ..base
        })
    }

    /// The named architecture with the configuration's changes.
    ///
    /// # Errors
    /// The name is another family's, or a size is none.
    pub fn of(options: &TimmOptions) -> Result<Self, ModelError> {
        let config: Self = options.merged(Self::named(&options.model_name))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ModelError> {
        check_extent("vision_cfg.timm_kwargs.embed_dim", self.embed_dim)?;
        check_extent("vision_cfg.timm_kwargs.patch_size", self.patch_size)?;
        check_layers("vision_cfg.timm_kwargs.depth", self.depth)?;
        check_hidden(
            "vision_cfg.timm_kwargs.mlp_ratio",
            self.embed_dim,
            self.mlp_ratio,
        )?;
        if self.conv_stem
            && (self.patch_size != conv_stem::PATCH
                || !self.embed_dim.is_multiple_of(conv_stem::NARROW))
        {
            return Err(ModelError::invalid(
                "vision_cfg.timm_kwargs.embed_dim",
                format!(
                    "{} in patches of {}: a convolutional stem makes patches of {} and a multiple of {}",
                    self.embed_dim,
                    self.patch_size,
                    conv_stem::PATCH,
                    conv_stem::NARROW
                ),
            ));
        }
        check_heads(self.num_heads, self.embed_dim)
    }

    /// Rows and columns of patches; pixels that do not fill a patch are left out.
    pub fn grid(&self, image_size: ImageSize) -> Result<(usize, usize), ModelError> {
        image_size.patches(self.patch_size)
    }

    /// Positions before those of the patches.
    pub fn prefix_positions(&self) -> usize {
        usize::from(self.class_token && !self.no_embed_class)
    }

    /// The pool after OpenCLIP's adapter has had its say; see [`Pools::of`].
    pub fn pools(&self, options: &TimmOptions) -> Result<Pools, ModelError> {
        Pools::of(options, self.global_pool, self.class_token, self.fc_norm)
    }

    /// Widths and switches of a block.
    pub fn block(&self) -> TimmBlockConfig {
        TimmBlockConfig {
            width: self.embed_dim,
            heads: self.num_heads,
            mlp_ratio: self.mlp_ratio,
            qkv_bias: self.qkv_bias,
            activation: match self.act_layer {
                ActLayer::Gelu => Activation::Gelu,
                ActLayer::GeluTanh => Activation::TanhGelu,
                ActLayer::QuickGelu => Activation::QuickGelu,
            },
            norm_eps: self.norm_eps,
            layer_scale: self.init_values.is_some(),
        }
    }
}
