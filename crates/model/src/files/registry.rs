//! Names of built-in configurations, and files, folders and repositories that hold others.

use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};

use crate::files::config::{ModelConfig, PreprocessConfig};
use crate::files::error::ModelError;
use crate::files::hub::{self, CacheDirs};
use crate::files::pretrained;

static MODELS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/configs/models");

/// A model's description and, where a folder brings them along, its preprocessing and weights.
#[derive(Debug, Clone)]
pub struct ModelSource {
    /// Name for messages and metadata.
    pub name: String,
    /// The two towers.
    pub config: ModelConfig,
    /// Preprocessing that a hub folder prescribes.
    pub preprocess: Option<PreprocessConfig>,
    /// Weights inside a hub folder.
    pub weights: Option<Weights>,
}

/// Weights that a model brings along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Weights {
    /// A file.
    File(PathBuf),
    /// Those of a repository of the hub.
    Hub(String),
}

impl Weights {
    /// The file, which is downloaded if it has to be.
    pub fn path(self, cache_dir: Option<&Path>) -> Result<PathBuf, ModelError> {
        match self {
            Self::File(path) => Ok(path),
            Self::Hub(repository) => {
                let names = [pretrained::SAFE_WEIGHTS, pretrained::WEIGHTS];
                let caches = CacheDirs::new(cache_dir);
                Ok(hub::file(&repository, &names, &caches, BY_HAND)?)
            }
        }
    }
}

/// What to do with a repository that cannot be downloaded.
const BY_HAND: &str =
    "the repository's other files into one folder DIR, and use --model local-dir:DIR";

/// Weight files of a hub folder, the preferred first.
const HUB_WEIGHTS: [&str; 8] = [
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
];

/// Name of the configuration inside a hub folder.
pub const HUB_CONFIG: &str = "open_clip_config.json";

#[derive(serde::Deserialize)]
struct HubConfig {
    model_cfg: ModelConfig,
    #[serde(default)]
    preprocess_cfg: Option<PreprocessConfig>,
}

/// All built-in names, sorted.
pub fn names() -> Vec<&'static str> {
    let stems = MODELS
        .files()
        .filter_map(|file| file.path().file_stem()?.to_str());
    let mut names: Vec<_> = stems.collect();
    names.sort_unstable();
    names
}

/// The built-in configuration called `name`; `/` in a name reads as `-`.
pub fn builtin(name: &str) -> Result<ModelConfig, ModelError> {
    let stem = name.replace('/', "-");
    let file = MODELS.get_file(format!("{stem}.json")).ok_or_else(|| {
        let names = names();
        let distance = |known: &&&str| {
            strsim::damerau_levenshtein(&known.to_lowercase(), &stem.to_lowercase())
        };
        let near = names
            .iter()
            .min_by_key(distance)
            .filter(|known| distance(known) <= 4);
        ModelError::UnknownModel {
            name: name.to_string(),
            near: near.map(|name| name.to_string()),
        }
    })?;
    parse(file.contents(), name)
}

/// The folder in `local-dir:DIR`.
pub fn local_dir(model: &str) -> Option<&Path> {
    model.strip_prefix("local-dir:").map(Path::new)
}

/// The repository in `hf-hub:ORG/NAME`.
pub fn hub_repository(model: &str) -> Option<&str> {
    model.strip_prefix("hf-hub:")
}

/// Reads `NAME`, `FILE.json`, `local-dir:DIR`, or `hf-hub:ORG/NAME`, whose configuration is downloaded if it has to be.
pub fn resolve(model: &str, cache_dir: Option<&Path>) -> Result<ModelSource, ModelError> {
    if let Some(dir) = local_dir(model) {
        return read_hub_dir(dir);
    }
    if let Some(repository) = hub_repository(model) {
        let caches = CacheDirs::new(cache_dir);
        let path = hub::file(repository, &[HUB_CONFIG], &caches, BY_HAND)?;
        let hub: HubConfig = parse(&read(&path)?, &path.to_string_lossy())?;
        return Ok(ModelSource {
            name: model.to_string(),
            config: hub.model_cfg,
            preprocess: hub.preprocess_cfg,
            weights: Some(Weights::Hub(repository.to_string())),
        });
    }
    if model.ends_with(".json") {
        let path = Path::new(model);
        let stem = path.file_stem().unwrap_or_default();
        return Ok(ModelSource {
            name: stem.to_string_lossy().into_owned(),
            config: parse(&read(path)?, model)?,
            preprocess: None,
            weights: None,
        });
    }
    Ok(ModelSource {
        name: model.to_string(),
        config: builtin(model)?,
        preprocess: None,
        weights: None,
    })
}

fn read_hub_dir(dir: &Path) -> Result<ModelSource, ModelError> {
    let path = dir.join(HUB_CONFIG);
    let hub: HubConfig = parse(&read(&path)?, &path.to_string_lossy())?;
    let weights = HUB_WEIGHTS
        .iter()
        .map(|name| dir.join(name))
        .find(|path| path.is_file())
        .map(Weights::File);
    Ok(ModelSource {
        name: format!("local-dir:{}", dir.display()),
        config: hub.model_cfg,
        preprocess: hub.preprocess_cfg,
        weights,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, ModelError> {
    std::fs::read(path).map_err(|source| ModelError::ReadConfig {
        path: path.to_path_buf(),
        source,
    })
}

fn parse<T: serde::de::DeserializeOwned>(json: &[u8], origin: &str) -> Result<T, ModelError> {
    serde_json::from_slice(json).map_err(|source| ModelError::ParseConfig {
        origin: origin.to_string(),
        source,
    })
}
