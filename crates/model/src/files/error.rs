//! What can go wrong between a name and a ready model.

use std::path::PathBuf;

use crate::files::hub::HubError;
use crate::files::weights::WeightsError;

/// Failure to describe, build, load or place a model.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// No built-in configuration has this name.
    #[error("unknown model `{name}`{}; `openclip models` lists them all, a .json path or local-dir:DIR works too", .near.as_ref().map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default())]
    UnknownModel {
        /// As given.
        name: String,
        /// A built-in name that looks alike.
        near: Option<String>,
    },
    /// A configuration file cannot be read.
    #[error("{}: {source}", .path.display())]
    ReadConfig {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A configuration is not OpenCLIP's JSON.
    #[error("{origin}: not an OpenCLIP model configuration: {source}")]
    ParseConfig {
        /// File or built-in name.
        origin: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A file of transformers describes nothing that is built here.
    #[error("{}: {reason}", .path.display())]
    Transformers {
        /// The file.
        path: PathBuf,
        /// What it describes, or the key that cannot be followed.
        reason: String,
    },
    /// A folder has no weights, or several.
    #[error("{}: {}", .folder.display(), folder_weights(*.several, .names))]
    FolderWeights {
        /// The folder.
        folder: PathBuf,
        /// There are several, which `names` lists.
        several: bool,
        /// What is there.
        names: Vec<String>,
    },
    /// What is wrong with a configuration that came from a file.
    #[error("{origin}: {source}")]
    Config {
        /// The file.
        origin: String,
        /// What is wrong.
        source: Box<ModelError>,
    },
    /// A field has a value that no model can be built from.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field's path in the JSON.
        field: &'static str,
        /// What is wrong and what was expected.
        reason: String,
    },
    /// A family that this version cannot build.
    #[error(
        "{field} = {value}: no family of towers that is built here; `openclip models` lists the configurations that are"
    )]
    Family {
        /// The field that names the family.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// Pretrained weights that are neither a file nor a known tag.
    #[error("--pretrained {tag}: no such file, and {}; pass the path of a checkpoint of {model}, or put it at {}", known_tags(.model, .tags), .looked.join(format!("{tag}.safetensors")).display())]
    NoWeights {
        /// As given.
        tag: String,
        /// The model's name.
        model: String,
        /// Tags that the model has.
        tags: Vec<&'static str>,
        /// The folder that was searched.
        looked: PathBuf,
    },
    /// A file could not be had from elsewhere.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// A weights file was refused.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A Burn record was refused.
    #[error("{}: {reason}", .path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A model that cannot be written as ONNX.
    #[error("{name}: not written as ONNX: {reason}")]
    Onnx {
        /// The model.
        name: String,
        /// What stands in the way.
        reason: String,
    },
    /// A model that is larger than the memory.
    #[error("{name}: {numbers} parameters take {gigabytes} GiB, which this machine does not have")]
    Memory {
        /// The model.
        name: String,
        /// Its parameters.
        numbers: usize,
        /// Their bytes.
        gigabytes: usize,
    },
    /// A tensor that the device does not hand back.
    #[error("{key}: the device does not hand back its values: {reason}")]
    ReadBack {
        /// Key in the state dict.
        key: String,
        /// What the device says.
        reason: String,
    },
    /// A device that cannot be used.
    #[error("--device {device}: {reason}")]
    Device {
        /// As given.
        device: String,
        /// What is missing.
        reason: String,
    },
}

impl ModelError {
    pub(crate) fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid {
            field,
            reason: reason.into(),
        }
    }
}

/// Says which tags there are.
fn known_tags(model: &str, tags: &[&str]) -> String {
    match tags {
        [] => format!("no weights of {model} are published"),
        tags => format!("no tag of {model}, which has {}", tags.join(", ")),
    }
}

/// Says what a folder holds in place of one file of weights.
fn folder_weights(several: bool, names: &[String]) -> String {
    const MOST: usize = 12;
    let mut listed = names
        .iter()
        .take(MOST)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > MOST {
        listed += &format!(" and {} more", names.len() - MOST);
    }
    match several {
        true => {
            format!("several files of weights: {listed}; pass one of them as --pretrained FILE")
        }
        false if names.is_empty() => "no weights: the folder is empty".into(),
        false => format!(
            "no weights, which would be a .safetensors, .bin, .pt or .pth file; there are {listed}; to start from random weights, \
             pass the configuration as --model FILE.json"
        ),
    }
}
