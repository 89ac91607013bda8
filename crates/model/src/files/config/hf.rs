//! Text towers that OpenCLIP takes from Hugging Face's transformers: the `hf_*` keys of `text_cfg`.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::check::check_extra;
use super::model::{ModelConfig, TextConfig};
use crate::files::error::ModelError;

/// How an encoder's tokens become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum HfPool {
    /// Mean of the tokens that are no padding.
    #[serde(rename = "mean_pooler")]
    Mean,
    /// Largest value of each feature among the tokens that are no padding.
    ///
    /// OpenCLIP 3.3 looks at the padding instead, and stops on a caption without any; this is what its later versions compute.
    #[serde(rename = "max_pooler")]
    Max,
    /// What the encoder itself makes of its first token, or that token.
    #[serde(rename = "cls_pooler")]
    Cls,
    /// The first token.
    #[serde(rename = "cls_last_hidden_state_pooler")]
    First,
}

/// Map from the encoder's width to the shared embedding, without biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HfProj {
    /// One matrix.
    Linear,
    /// Two matrices with a GELU between them; the hidden width is the mean of the two widths.
    Mlp,
}

/// What a configuration says about a Hugging Face text tower. The tower's sizes follow from its name.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct HfTextOptions {
    /// Name of the model, or a folder that holds its `config.json`.
    #[serde(rename = "hf_model_name")]
    pub model_name: String,
    /// Map to the shared embedding; none where the widths are the same and this is null.
    #[serde(rename = "hf_proj_type", default = "default_proj")]
    pub proj: Option<HfProj>,
    /// How tokens become one vector; the family's own way where this is null.
    #[serde(rename = "hf_pooler_type", default = "default_pool")]
    pub pool: Option<HfPool>,
    /// Training starts from the encoder's published weights.
    #[serde(rename = "hf_model_pretrained", default = "default_pretrained")]
    pub pretrained: bool,
    /// Changes to the model's `config.json`. OpenCLIP 3.3 does not know this key, its later versions do.
    #[serde(rename = "hf_model_config", default)]
    pub model_config: Map<String, Value>,
}

fn default_pretrained() -> bool {
    true
}

fn default_proj() -> Option<HfProj> {
    Some(HfProj::Mlp)
}

fn default_pool() -> Option<HfPool> {
    Some(HfPool::Mean)
}

impl TextConfig {
    /// Name of the Hugging Face model that is the text tower; `None` for OpenCLIP's own tower.
    pub fn hf_model_name(&self) -> Option<&str> {
        let name = self.extra.get("hf_model_name")?.as_str()?;
        (!name.is_empty()).then_some(name)
    }

    /// The `hf_*` keys, which have to make sense, of a configuration that names a Hugging Face model.
    pub fn hf(&self) -> Result<Option<HfTextOptions>, ModelError> {
        if self.hf_model_name().is_none() {
            return Ok(None);
        }
        let foreign = ["text_arch", "variable_text", "embed_cls"];
        check_extra(&self.extra, "text_cfg", &foreign, |key, _| {
            key.starts_with("hf_") || key == "output_tokens" || key == "tokenizer_mode"
        })?;
        let keys = self.extra.iter().filter(|(key, _)| key.starts_with("hf_"));
        let keys = keys.map(|(key, value)| (key.clone(), value.clone()));
        serde_json::from_value(Value::Object(keys.collect()))
            .map(Some)
            .map_err(|error| ModelError::invalid("text_cfg", error.to_string()))
    }
}

impl ModelConfig {
    /// Whether the text tower's weights live under `text.`: always for a Hugging Face tower.
    pub fn text_is_custom(&self) -> bool {
        self.custom_text || self.text_cfg.hf_model_name().is_some()
    }
}
