//! What CoCa adds to a configuration: `multimodal_cfg`, attention pooling of the picture, a class token behind the text.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::model::{ModelConfig, TextConfig};
use crate::files::error::ModelError;

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

impl TextConfig {
    /// Whether a learned class token behind the caption stands for it.
    pub fn embed_cls(&self) -> bool {
        self.extra.get("embed_cls") == Some(&Value::Bool(true))
    }
}
