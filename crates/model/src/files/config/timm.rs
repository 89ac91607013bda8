//! Image towers that OpenCLIP takes from timm: the `timm_*` keys of `vision_cfg`.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::VisionConfig;
use super::check::check_extra;
use crate::files::error::ModelError;

/// What a configuration says about a timm tower. The tower's sizes follow from its name.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct TimmOptions {
    /// timm's name of the architecture.
    #[serde(rename = "timm_model_name")]
    pub model_name: String,
    /// How tokens or feature maps become one vector; empty for the architecture's own way.
    #[serde(rename = "timm_pool", default = "default_pool")]
    pub pool: String,
    /// Map to the shared embedding: `linear`, `mlp`, `none`, or absent for the classifier of the architecture itself.
    #[serde(rename = "timm_proj", default = "default_proj")]
    pub proj: Option<String>,
    /// The last layer of the map has a bias.
    #[serde(rename = "timm_proj_bias", default)]
    pub proj_bias: bool,
    /// Dropout before the map.
    #[serde(rename = "timm_drop", default)]
    pub drop: f64,
    /// Stochastic depth; the architecture's own when absent.
    #[serde(rename = "timm_drop_path", default)]
    pub drop_path: Option<f64>,
    /// Changes to the named architecture, under the names of the arguments of timm's `create_model`. This key is not
    /// OpenCLIP's: a configuration with it describes a model that Python's `open_clip` cannot name.
    #[serde(rename = "timm_kwargs", default)]
    pub kwargs: Map<String, Value>,
}

fn default_pool() -> String {
    "avg".into()
}

fn default_proj() -> Option<String> {
    Some("linear".into())
}

/// How a timm tower's vector gets to the shared embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimmProj {
    /// One matrix behind the tower, `visual.head.proj`.
    Linear,
    /// Two matrices behind the tower, `visual.head.mlp`.
    Mlp,
    /// The tower's own classifier.
    Classifier,
    /// None: the tower's width is the embedding's.
    None,
}

impl TimmOptions {
    /// The map to the shared embedding.
    pub fn projection(&self) -> Result<TimmProj, ModelError> {
        match self.proj.as_deref() {
            Some("linear") => Ok(TimmProj::Linear),
            Some("mlp") => Ok(TimmProj::Mlp),
            Some("none") => Ok(TimmProj::None),
            None | Some("") => Ok(TimmProj::Classifier),
            Some(other) => Err(ModelError::invalid(
                "vision_cfg.timm_proj",
                format!("`{other}`, expected `linear`, `mlp`, `none` or null"),
            )),
        }
    }

    /// A named architecture, `None` when no tower of the family has the name, with the changes of `timm_kwargs`.
    ///
    /// # Errors
    /// The name is another family's, or a change is of something that the architecture does not have.
    pub(crate) fn merged<T: Serialize + DeserializeOwned>(
        &self,
        named: Option<T>,
    ) -> Result<T, ModelError> {
        let named = named.ok_or_else(|| ModelError::Family {
            field: "vision_cfg.timm_model_name",
            value: self.model_name.clone(),
        })?;
        let wrong = |error: serde_json::Error| {
            ModelError::invalid("vision_cfg.timm_kwargs", error.to_string())
        };
        let mut merged = serde_json::to_value(named).map_err(wrong)?;
        // timm takes null for an argument that is not given.
        for (key, value) in self.kwargs.iter().filter(|(_, value)| !value.is_null()) {
            merged[key] = value.clone();
        }
        serde_json::from_value(merged).map_err(wrong)
    }

    /// Share of samples for which training leaves out the last block's branches, `own` where the configuration says nothing.
    ///
    /// # Errors
    /// It is not a share below 1, or there is dropout behind the tower.
    pub(crate) fn stochastic_depth(&self, own: f64) -> Result<f64, ModelError> {
        let share = self.drop_path.unwrap_or(own);
        if self.drop != 0.0 {
            return Err(ModelError::invalid(
                "vision_cfg.timm_drop",
                format!("{}: this tower is trained without", self.drop),
            ));
        }
        match (0.0..1.0).contains(&share) {
            true => Ok(share),
            false => Err(ModelError::invalid(
                "vision_cfg.timm_drop_path",
                format!("{share}, expected a share below 1"),
            )),
        }
    }

    /// For towers whose only pool is the mean over positions: without a map behind the trunk it has to be asked for by name.
    pub(crate) fn check_mean_pool(&self) -> Result<(), ModelError> {
        let behind = matches!(self.projection()?, TimmProj::Linear | TimmProj::Mlp);
        match self.pool.as_str() {
            "avg" => Ok(()),
            "" if behind => Ok(()),
            other => Err(ModelError::invalid(
                "vision_cfg.timm_pool",
                format!("`{other}`, expected `avg`, or nothing before `linear` or `mlp`"),
            )),
        }
    }
}

impl VisionConfig {
    /// timm's name of the image tower's architecture; `None` for OpenCLIP's own towers.
    pub fn timm_model_name(&self) -> Option<&str> {
        let name = self.extra.get("timm_model_name")?.as_str()?;
        (!name.is_empty()).then_some(name)
    }

    /// The `timm_*` keys, which have to make sense, of a configuration without keys of other families.
    pub fn timm(&self) -> Result<TimmOptions, ModelError> {
        check_extra(
            &self.extra,
            "vision_cfg",
            &["attentional_pool"],
            |key, _| {
                key.starts_with("timm_")
                    || key.starts_with("attn_pooler_")
                    || key == "output_tokens"
            },
        )?;
        let keys = self
            .extra
            .iter()
            .filter(|(key, _)| key.starts_with("timm_"));
        let keys: Map<_, _> = keys
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        serde_json::from_value(Value::Object(keys))
            .map_err(|error| ModelError::invalid("vision_cfg", error.to_string()))
    }
}
