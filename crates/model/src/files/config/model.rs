//! `model_cfg` of OpenCLIP. Field names and defaults are OpenCLIP's own.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::check::{MAX_EXTENT, MAX_PATCHES, check_extent, check_extra};
use crate::files::error::ModelError;

/// Side lengths of a tower's input picture in pixels: one number for a square, else `[height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ImageSize {
    /// Height and width alike.
    Square(usize),
    /// `[height, width]`.
    Rect([usize; 2]),
}

impl ImageSize {
    /// `(height, width)` in pixels.
    pub fn dims(self) -> (usize, usize) {
        match self {
            Self::Square(side) => (side, side),
            Self::Rect([height, width]) => (height, width),
        }
    }

    /// `(height, width)` in pixels, for a tower that sees nothing of a picture with a side below `smallest`.
    ///
    /// # Errors
    /// The size is none for such a tower.
    pub(crate) fn at_least(self, smallest: usize) -> Result<(usize, usize), ModelError> {
        let (height, width) = self.dims();
        if height.min(width) < smallest {
            return Err(self.refused(format!(
                "the smallest picture for this image tower is {smallest}×{smallest}"
            )));
        }
        match height.checked_mul(width) {
            Some(..=MAX_EXTENT) => Ok((height, width)),
            _ => Err(self.refused(format!("expected at most {MAX_EXTENT} pixels"))),
        }
    }

    /// Rows and columns of square patches; pixels that do not fill a patch are left out.
    ///
    /// # Errors
    /// Not even one patch, or more than attention can compare.
    pub(crate) fn patches(self, side: usize) -> Result<(usize, usize), ModelError> {
        let (height, width) = self.at_least(side)?;
        let (rows, columns) = (height / side, width / side);
        match rows * columns {
            ..=MAX_PATCHES => Ok((rows, columns)),
            patches => Err(self.refused(format!(
                "which are {patches} patches of {side}×{side}, expected at most {MAX_PATCHES}"
            ))),
        }
    }

    /// The error that this is no size for the image tower.
    pub(crate) fn refused(self, reason: String) -> ModelError {
        let size = match self {
            Self::Square(side) => format!("{side}"),
            Self::Rect([height, width]) => format!("{height}×{width}"),
        };
        ModelError::invalid(
            "vision_cfg.image_size, or --force-image-size",
            format!("{size}, {reason}"),
        )
    }
}

/// How a tower's tokens become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImagePool {
    /// The class token.
    Tok,
    /// Mean of the patch tokens, without the class token.
    Avg,
    /// No pooling.
    None,
}

/// Position of the text token that stands for the whole caption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextPool {
    /// The first position of the largest token id (the end-of-text token of CLIP's vocabulary).
    Argmax,
    /// The first position.
    First,
    /// The last position, padding or not.
    Last,
    /// The first position that holds `eos_id`.
    Eos,
    /// No pooling.
    None,
}

/// Options of a tower's LayerNorms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NormOptions {
    /// Added to the variance.
    #[serde(default = "NormOptions::default_eps")]
    pub eps: f64,
}

impl NormOptions {
    /// PyTorch's default.
    fn default_eps() -> f64 {
        1e-5
    }

    /// The ε of a tower that may have options.
    pub(crate) fn eps(options: Option<Self>) -> f64 {
        options.map_or_else(Self::default_eps, |options| options.eps)
    }
}

/// How GELU is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Approximation {
    /// With the error function.
    #[default]
    None,
    /// With the hyperbolic tangent.
    Tanh,
}

/// Options of a tower's GELU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ActivationOptions {
    /// How it is computed.
    #[serde(default)]
    pub approximate: Approximation,
}

/// A model: embedding width, both towers, and how they are joined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Width of the shared embedding.
    pub embed_dim: usize,
    /// Image tower.
    pub vision_cfg: VisionConfig,
    /// Text tower.
    pub text_cfg: TextConfig,
    /// `x·sigmoid(1.702x)` in place of GELU in the native towers.
    #[serde(default)]
    pub quick_gelu: bool,
    /// The text tower's weights live under `text.` instead of at the root.
    #[serde(default)]
    pub custom_text: bool,
    /// Start value of the logit scale's logarithm; `ln(1/0.07)` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_logit_scale: Option<f64>,
    /// Start value of the logit bias; no bias when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_logit_bias: Option<f64>,
    /// Keys of families that are described elsewhere, kept as they were read.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Image tower of a [`ModelConfig`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VisionConfig {
    /// Number of residual blocks.
    pub layers: Value,
    /// Token width.
    pub width: usize,
    /// Width of one attention head.
    pub head_width: usize,
    /// Hidden width of the MLP relative to `width`.
    pub mlp_ratio: f64,
    /// Side of a square patch in pixels.
    pub patch_size: Option<usize>,
    /// Input picture.
    pub image_size: ImageSize,
    /// Start value of LayerScale; no LayerScale when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ls_init_value: Option<f64>,
    /// Share of patch tokens that is dropped in training.
    pub patch_dropout: f64,
    /// No LayerNorm before the first block.
    pub no_ln_pre: bool,
    /// `learnable` or `sin_cos_2d`.
    pub pos_embed_type: String,
    /// Pool first, then the last LayerNorm.
    pub final_ln_after_pool: bool,
    /// Options of every LayerNorm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm_kwargs: Option<NormOptions>,
    /// Options of the MLPs' GELU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub act_kwargs: Option<ActivationOptions>,
    /// How tokens become one vector.
    pub pool_type: ImagePool,
    /// Keys of families that are described elsewhere, kept as they were read.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Default for VisionConfig {
    fn default() -> Self {
        Self {
            layers: Value::from(12),
            width: 768,
            head_width: 64,
            mlp_ratio: 4.0,
            patch_size: Some(16),
            image_size: ImageSize::Square(224),
            ls_init_value: None,
            patch_dropout: 0.0,
            no_ln_pre: false,
            pos_embed_type: "learnable".into(),
            final_ln_after_pool: false,
            norm_kwargs: None,
            act_kwargs: None,
            pool_type: ImagePool::Tok,
            extra: Map::new(),
        }
    }
}

/// Text tower of a [`ModelConfig`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TextConfig {
    /// Tokens of a caption, special tokens and padding included.
    pub context_length: usize,
    /// Number of token ids.
    pub vocab_size: usize,
    /// Token width.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Residual blocks.
    pub layers: usize,
    /// Hidden width of the MLP relative to `width`.
    pub mlp_ratio: f64,
    /// Start value of LayerScale; no LayerScale when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ls_init_value: Option<f64>,
    /// Id of padding.
    pub pad_id: usize,
    /// Id of the end of the text, for the `eos` pool. Older releases of OpenCLIP do not know the key, so it is written only
    /// where it matters.
    #[serde(skip_serializing_if = "is_default_eos")]
    pub eos_id: usize,
    /// Every token sees every token, padding included.
    pub no_causal_mask: bool,
    /// How tokens become one vector.
    pub pool_type: TextPool,
    /// The projection is a linear layer with bias instead of a bare matrix.
    pub proj_bias: bool,
    /// `linear` or `none`.
    pub proj_type: String,
    /// Pool first, then the last LayerNorm.
    pub final_ln_after_pool: bool,
    /// Options of every LayerNorm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm_kwargs: Option<NormOptions>,
    /// Options of the MLPs' GELU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub act_kwargs: Option<ActivationOptions>,
    /// Name of the Hugging Face tokenizer; CLIP's own BPE when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hf_tokenizer_name: Option<String>,
    /// Options of the tokenizer.
    #[serde(skip_serializing_if = "Map::is_empty", deserialize_with = "or_default")]
    pub tokenizer_kwargs: Map<String, Value>,
    /// Keys of families that are described elsewhere, kept as they were read.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// End of text of the tokenizers that OpenCLIP's `eos` pool was made for.
const DEFAULT_EOS: usize = 2;

fn is_default_eos(id: &usize) -> bool {
    *id == DEFAULT_EOS
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            context_length: 77,
            vocab_size: 49408,
            width: 512,
            heads: 8,
            layers: 12,
            mlp_ratio: 4.0,
            ls_init_value: None,
            pad_id: 0,
            eos_id: DEFAULT_EOS,
            no_causal_mask: false,
            pool_type: TextPool::Argmax,
            proj_bias: false,
            proj_type: "linear".into(),
            final_ln_after_pool: false,
            norm_kwargs: None,
            act_kwargs: None,
            hf_tokenizer_name: None,
            tokenizer_kwargs: Map::new(),
            extra: Map::new(),
        }
    }
}

impl ModelConfig {
    /// Refuses families other than native CLIP by the key that names them, and keys that mean nothing.
    pub(crate) fn check_native(&self) -> Result<(), ModelError> {
        check_extra(&self.extra, "model_cfg", &FOREIGN_MODEL_KEYS, |key, _| {
            key == "multimodal_cfg"
        })?;
        check_extent("embed_dim", self.embed_dim)
    }
}

const FOREIGN_MODEL_KEYS: [&str; 3] = ["audio_cfg", "genlip_cfg", "genlap_cfg"];
/// Reads null as the default.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
