//! What a folder of embeddings was made from and with: `embed.json` in it.

use std::io;
use std::path::{Path, PathBuf};

use openclip_model::config::{Interpolation, PreprocessConfig, ResizeMode};
use openclip_model::files::atomic;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::npy::Numbers;
use crate::error::EvalError;

/// The file.
const FILE: &str = "embed.json";

/// What has to be the same for a folder to be gone on with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The model.
    pub model: EmbeddingModel,
    /// Where the pictures are from, without secrets.
    pub images: Option<String>,
    /// How they are read, in the words of the command line.
    pub format: Value,
    /// Tells the pictures from others of that description.
    pub image_fingerprint: Option<u32>,
    /// Where the captions are from that are not the pictures' own.
    pub texts: Option<String>,
    /// Tells them from others of that name.
    pub text_fingerprint: Option<u32>,
    /// Values of a row.
    pub width: usize,
    /// Their kind.
    pub dtype: Numbers,
    /// How many samples are in a partition, about.
    pub partition_size: u64,
    /// How many partitions there are.
    pub partitions: usize,
    /// Pictures that go through the model together, upon which the last bits of a row depend.
    pub batch_size: usize,
    /// Whether the hashes of pictures are among the metadata.
    pub hashes: bool,
    /// Pictures of more pixels have no row.
    pub max_image_pixels: usize,
}

/// A model, as the flags of a command name it, and what tells its weights from others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingModel {
    /// `--model`.
    pub model: String,
    /// `--pretrained`.
    pub pretrained: Option<String>,
    /// `--precision`.
    pub precision: String,
    /// `--force-image-size`.
    pub force_image_size: Option<Vec<usize>>,
    /// `--force-context-length`.
    pub force_context_length: Option<usize>,
    /// `--force-quick-gelu`, or its opposite.
    pub quick_gelu: Option<bool>,
    /// `--int8-linear`.
    pub int8_linear: bool,
    /// `--force-custom-text`.
    pub custom_text: bool,
    /// Mean, deviation, filter and treatment of the aspect ratio of pictures.
    pub preprocess: Preprocess,
    /// A hash of the weights' names and values.
    pub weights: String,
}

/// A [`PreprocessConfig`] that can be read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocess {
    mean: [f32; 3],
    std: [f32; 3],
    interpolation: Interpolation,
    resize_mode: ResizeMode,
}

impl From<&PreprocessConfig> for Preprocess {
    fn from(config: &PreprocessConfig) -> Self {
        Self {
            mean: config.mean,
            std: config.std,
            interpolation: config.interpolation,
            resize_mode: config.resize_mode,
        }
    }
}

impl From<&Preprocess> for PreprocessConfig {
    fn from(own: &Preprocess) -> Self {
        Self {
            mean: own.mean,
            std: own.std,
            interpolation: own.interpolation,
            resize_mode: own.resize_mode,
        }
    }
}

impl Settings {
    /// Those of a folder; `None` where it has none.
    ///
    /// # Errors
    /// When the file cannot be read, or is no such file.
    pub fn read(dir: &Path) -> Result<Option<Self>, EvalError> {
        let path = Self::path(dir);
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.map_err(|error| EvalError::io(&path, error))?,
        };
        let read = serde_json::from_slice(&bytes);
        read.map(Some)
            .map_err(|source| EvalError::Json { path, source })
    }

    /// Where it is in a folder.
    pub fn path(dir: &Path) -> PathBuf {
        dir.join(FILE)
    }

    pub(super) fn write(&self, dir: &Path) -> Result<(), EvalError> {
        let path = Self::path(dir);
        let text = format!("{:#}\n", json!(self));
        atomic::write(&path, text).map_err(|error| EvalError::io(&path, error))
    }

    pub(super) fn remove(dir: &Path) -> Result<(), EvalError> {
        super::layout::remove(&[Self::path(dir)])
    }

    /// What of `self`, the settings of a folder, is not as in `other`.
    pub(super) fn differences(&self, other: &Self) -> String {
        let (before, now) = (json!(self), json!(other));
        let mut found = Vec::new();
        for (name, value) in before.as_object().into_iter().flatten() {
            match value.as_object() {
                Some(inner) => differ(inner, &now[name], &mut found),
                None if now[name] != *value => found.push(worded(name, value)),
                None => {}
            }
        }
        found.join(", ")
    }
}

fn differ(inner: &Map<String, Value>, now: &Value, found: &mut Vec<String>) {
    let different = inner
        .iter()
        .filter(|(name, value)| now[name.as_str()] != **value);
    found.extend(different.map(|(name, value)| worded(name, value)));
}

fn worded(name: &str, value: &Value) -> String {
    match name {
        "weights" => "other weights".to_owned(),
        "image_fingerprint" => "other pictures".to_owned(),
        "text_fingerprint" => "other captions".to_owned(),
        _ => format!("{} {value}", name.replace('_', "-")),
    }
}
