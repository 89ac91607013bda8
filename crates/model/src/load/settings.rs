//! Activation and preprocessing that belong to weights: what their file says, what lies beside it, what its keys tell.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::files::ModelError;
use crate::files::config::{ModelConfig, PreprocessConfig};
use crate::files::folder;
use crate::files::pretrained;
use crate::files::weights::{CONFIG_METADATA, StateDict};

/// What belongs to a file of weights.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// Whether they were trained with QuickGELU, and what says so.
    pub quick_gelu: Option<(bool, String)>,
    /// What pictures went through.
    pub preprocess: Option<PreprocessConfig>,
}

impl Settings {
    /// Those that a file has in its metadata.
    ///
    /// # Errors
    /// They are there and cannot be followed.
    pub fn within(dict: &StateDict, path: &Path) -> Result<Self, ModelError> {
        let Some(json) = dict.metadata.get(CONFIG_METADATA) else {
            return Ok(Self::default());
        };
        let origin = || format!("{} ({CONFIG_METADATA})", path.display());
        let wrong = |source| ModelError::ParseConfig {
            origin: origin(),
            source,
        };
        let hub: Value = serde_json::from_str(json).map_err(wrong)?;
        let model = &hub["model_cfg"];
        let quick = model["quick_gelu"].as_bool().unwrap_or(false);
        Ok(Self {
            quick_gelu: model
                .is_object()
                .then(|| (quick, path.display().to_string())),
            preprocess: Option::deserialize(&hub["preprocess_cfg"]).map_err(wrong)?,
        })
    }

    /// Those that the files beside it have, for a model of `config`'s width.
    ///
    /// # Errors
    /// They are there and cannot be followed.
    pub fn beside(path: &Path, config: &ModelConfig) -> Result<Self, ModelError> {
        let fits = |other: &ModelConfig| other.embed_dim == config.embed_dim;
        let found = folder::beside(path)?;
        let found = found.filter(|found| found.config.as_ref().is_none_or(fits));
        Ok(found.map_or_else(Self::default, |found| Self {
            quick_gelu: found
                .config
                .map(|config| (config.quick_gelu, found.path.display().to_string())),
            preprocess: found.preprocess,
        }))
    }

    /// These, and of others what these do not say.
    pub fn or(self, others: Self) -> Self {
        Self {
            quick_gelu: self.quick_gelu.or(others.quick_gelu),
            preprocess: self.preprocess.or(others.preprocess),
        }
    }
}

/// What pictures go through in every published set of a model's weights, where they agree; for a configuration of one's own, what
/// all releases of its image tower agree on.
pub(super) fn published(model: &str, config: &ModelConfig) -> Option<PreprocessConfig> {
    let mut published = pretrained::of(model).map(|known| &known.preprocess);
    match published.next() {
        Some(first) => published.all(|other| other == first).then(|| first.clone()),
        None => {
            let tower = config.vision_cfg.timm_model_name()?;
            tower.contains("_siglip").then(PreprocessConfig::siglip)
        }
    }
}
