//! What CoCa adds to a configuration: `multimodal_cfg`, attention pooling of the picture, a class token behind the text.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::model::{check_extent, check_layers};
use super::{ModelConfig, TextConfig, VisionConfig};
use crate::error::ModelError;
use crate::text::hf;

/// Caption decoder of a [`ModelConfig`]. Keys that upstream reads without using them are not kept here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MultimodalConfig {
    /// Most tokens of a caption.
    pub context_length: usize,
    /// Token width, the same as the text tower's.
    pub width: usize,
    /// Attention heads, of the text and of the picture.
    pub heads: usize,
    /// Pairs of a block on the text and a block on the picture.
    pub layers: usize,
    /// Start value of LayerScale; no LayerScale when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ls_init_value: Option<f64>,
}

impl Default for MultimodalConfig {
    fn default() -> Self {
        Self {
            context_length: 77,
            width: 512,
            heads: 8,
            layers: 12,
            ls_init_value: None,
        }
    }
}

impl MultimodalConfig {
    /// Hidden width of the MLPs relative to the width.
    pub const MLP_RATIO: f64 = 4.0;

    /// Refuses a decoder that does not fit the towers of `config`.
    pub(crate) fn check(&self, config: &ModelConfig) -> Result<(), ModelError> {
        check_extent("multimodal_cfg.width", self.width)?;
        check_extent("multimodal_cfg.context_length", self.context_length)?;
        check_layers("multimodal_cfg.layers", self.layers)?;
        let refuse = |field, reason: String| Err(ModelError::invalid(field, reason));
        if self.heads == 0 || !self.width.is_multiple_of(self.heads) {
            let reason = format!("{} does not divide the width {}", self.heads, self.width);
            return refuse("multimodal_cfg.heads", reason);
        }
        let text = match hf::arch(config)? {
            Some(arch) => arch.width,
            None => config.text_cfg.width,
        };
        if self.width != text {
            let reason = format!("{}, but the text tower's is {text}", self.width);
            return refuse("multimodal_cfg.width", reason);
        }
        let picture = match config.vision_cfg.attention_pool()? {
            Some(_) => config.embed_dim,
            None => config.vision_cfg.width,
        };
        if self.width != picture {
            let reason = format!(
                "{}, but the picture's tokens have {picture} features",
                self.width
            );
            return refuse("multimodal_cfg.width", reason);
        }
        if config.text_cfg.no_causal_mask {
            return refuse(
                "text_cfg.no_causal_mask",
                "a caption decoder needs a causal text tower".into(),
            );
        }
        if !config.text_is_custom() {
            return refuse(
                "custom_text",
                "false, but a model with `multimodal_cfg` has its text under `text.`".into(),
            );
        }
        Ok(())
    }
}

/// Attention pooling of a picture's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionPool {
    /// Learned queries.
    pub queries: usize,
    /// Attention heads.
    pub heads: usize,
}

impl ModelConfig {
    /// The caption decoder, where there is one.
    pub fn multimodal(&self) -> Result<Option<MultimodalConfig>, ModelError> {
        match self.extra.get("multimodal_cfg") {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value.clone())
                .map(Some)
                .map_err(|source| ModelError::ParseConfig {
                    origin: "multimodal_cfg".into(),
                    source,
                }),
        }
    }
}

impl VisionConfig {
    /// The attention pool, where there is one. The variants `parallel` and `cascade`, which no configuration uses, are refused.
    pub fn attention_pool(&self) -> Result<Option<AttentionPool>, ModelError> {
        let number = |key: &'static str, default: u64| {
            let value = self.extra.get(key).map_or(Some(default), Value::as_u64);
            let value = value
                .and_then(|value| usize::try_from(value).ok())
                .unwrap_or(0);
            check_extent(key, value).map(|()| value)
        };
        match self.extra.get("attentional_pool") {
            None | Some(Value::Null | Value::Bool(false)) => Ok(None),
            Some(Value::Bool(true)) => Ok(Some(AttentionPool {
                queries: number("attn_pooler_queries", 256)?,
                heads: number("attn_pooler_heads", 8)?,
            })),
            Some(other) => Err(ModelError::Family {
                field: "attentional_pool",
                value: other.to_string(),
            }),
        }
    }
}

impl TextConfig {
    /// Whether a learned class token behind the caption stands for it.
    pub fn embed_cls(&self) -> bool {
        self.extra.get("embed_cls") == Some(&Value::Bool(true))
    }
}
