//! Names of built-in configurations, and files, folders and repositories that hold others.

use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};

use serde_json::{Map, Value};

use crate::files::config::{ModelConfig, PreprocessConfig};
use crate::files::error::ModelError;
use crate::files::folder::{self, Described};
use crate::files::hub::{self, CacheDirs};
use crate::files::weights::shards;
use crate::files::{config_file, pretrained, transformers};

pub use crate::files::folder::HUB_CONFIG;

static MODELS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/configs/models");

/// A model's description and, where a folder brings them along, its preprocessing and weights.
#[derive(Debug, Clone)]
pub struct ModelSource {
    /// Name for messages and metadata.
    pub name: String,
    /// The two towers.
    pub config: ModelConfig,
    /// The file that they are described in; none for a built-in configuration.
    pub origin: Option<String>,
    /// Preprocessing that a folder prescribes.
    pub preprocess: Option<PreprocessConfig>,
    /// Weights of a folder or a repository.
    pub weights: Option<Weights>,
}

/// Weights that a model brings along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Weights {
    /// Those of a folder, which holds one file of them ([`folder::weights`]).
    Folder(PathBuf),
    /// Those of a repository of the hub.
    Hub(String),
}

impl Weights {
    /// The file, which is downloaded if it has to be; of sharded weights their index, with all of its files beside it.
    ///
    /// # Errors
    /// There is none, or several; never do random weights take their place.
    pub fn path(self, cache_dir: Option<&Path>) -> Result<PathBuf, ModelError> {
        match self {
            Self::Folder(folder) => folder::weights(&folder),
            Self::Hub(repository) => hub_weights(&repository, &CacheDirs::new(cache_dir)),
        }
    }
}

/// What to do with a repository that cannot be downloaded.
const BY_HAND: &str =
    "the repository's other files into one folder DIR, and use --model local-dir:DIR";

/// Weights of a repository: OpenCLIP's, then transformers', whole and in shards.
const HUB_WEIGHTS: [&str; 6] = [
    pretrained::SAFE_WEIGHTS,
    pretrained::WEIGHTS,
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

fn hub_weights(repository: &str, caches: &CacheDirs) -> Result<PathBuf, ModelError> {
    let own = &HUB_WEIGHTS[..2];
    let error = match hub::file(repository, own, caches, BY_HAND) {
        Ok(path) => return Ok(path),
        Err(error) if !error.has_alternative() => return Err(error.into()),
        Err(error) => error,
    };
    let path = match hub::file(repository, &HUB_WEIGHTS[2..], caches, BY_HAND) {
        Ok(path) => path,
        // A repository that names its only file in another way, if it is in the cache.
        Err(_) => match caches
            .cached(repository, HUB_CONFIG)
            .as_deref()
            .and_then(Path::parent)
        {
            Some(snapshot) => return folder::weights(snapshot).map_err(|_| error.into()),
            None => return Err(error.into()),
        },
    };
    if let Some(names) = shards::names(&path)? {
        for name in &names {
            hub::file(repository, &[name], caches, BY_HAND)?;
        }
    }
    Ok(path)
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
    config_file::parse(file.contents(), name)
}

/// The folder in `local-dir:DIR`.
pub fn local_dir(model: &str) -> Option<&Path> {
    model.strip_prefix("local-dir:").map(Path::new)
}

/// The repository in `hf-hub:ORG/NAME` or `hf-hub:ORG/NAME@REVISION`.
pub fn hub_repository(model: &str) -> Option<&str> {
    model.strip_prefix("hf-hub:")
}

/// Reads `NAME`, `FILE.json`, `local-dir:DIR`, or `hf-hub:ORG/NAME`, whose configuration is downloaded if it has to be.
pub fn resolve(model: &str, cache_dir: Option<&Path>) -> Result<ModelSource, ModelError> {
    if let Some(dir) = local_dir(model) {
        let described = folder::describe(dir, &dir.to_string_lossy())?;
        return Ok(ModelSource {
            name: format!("local-dir:{}", dir.display()),
            weights: Some(Weights::Folder(dir.to_path_buf())),
            ..ModelSource::of(described)?
        });
    }
    if let Some(repository) = hub_repository(model) {
        let caches = CacheDirs::new(cache_dir);
        let described = hub_description(repository, &caches)?;
        return Ok(ModelSource {
            name: model.to_string(),
            weights: Some(Weights::Hub(repository.to_string())),
            ..ModelSource::of(described)?
        });
    }
    if model.ends_with(".json") {
        let path = Path::new(model);
        let json = config_file::bytes(path)?;
        let stem = path.file_stem().unwrap_or_default();
        let name = stem.to_string_lossy().into_owned();
        let keys: Map<String, Value> = config_file::parse(&json, model)?;
        // The description of a folder, without the folder's weights.
        let described = match keys.contains_key("model_type") {
            true => folder::describe_file(path)?,
            false if keys.contains_key("model_cfg") => {
                let (config, preprocess) = folder::parse_hub(&json, model)?;
                Described {
                    path: path.to_path_buf(),
                    config: Some(config),
                    preprocess,
                }
            }
            false => Described {
                path: path.to_path_buf(),
                config: Some(config_file::parse(&json, model)?),
                preprocess: None,
            },
        };
        return Ok(ModelSource {
            name,
            ..ModelSource::of(described)?
        });
    }
    if Path::new(model).is_dir() {
        return Err(ModelError::UnknownModel {
            name: model.to_string(),
            near: Some(format!("local-dir:{model}")),
        });
    }
    Ok(ModelSource {
        name: model.to_string(),
        config: builtin(model)?,
        origin: None,
        preprocess: None,
        weights: None,
    })
}

/// The description of a repository's model, which is downloaded if it has to be.
fn hub_description(repository: &str, caches: &CacheDirs) -> Result<Described, ModelError> {
    let error = match hub::file(repository, &[HUB_CONFIG], caches, BY_HAND) {
        Ok(path) => return folder::hub_config(&path),
        Err(error) => error,
    };
    if !error.has_alternative() {
        return Err(error.into());
    }
    let Ok(path) = hub::file(repository, &[transformers::CONFIG], caches, BY_HAND) else {
        return Err(error.into());
    };
    // The preprocessing lies beside it, where the repository has some.
    let _ = hub::file(repository, &transformers::PREPROCESSORS, caches, BY_HAND);
    folder::describe(folder::folder_of(&path), repository)
}

impl ModelSource {
    fn of(described: Described) -> Result<Self, ModelError> {
        let Described {
            path,
            config,
            preprocess,
        } = described;
        let origin = path.display().to_string();
        let config = config.ok_or_else(|| ModelError::Transformers {
            reason: "describes no model".into(),
            path,
        })?;
        Ok(Self {
            name: origin.clone(),
            config,
            origin: Some(origin),
            preprocess,
            weights: None,
        })
    }

    /// An error about the configuration, with the file that it came from.
    pub fn named(&self, error: ModelError) -> ModelError {
        match (&self.origin, error) {
            (
                Some(origin),
                error @ (ModelError::Invalid { .. } | ModelError::ParseConfig { .. }),
            ) => ModelError::Config {
                origin: origin.clone(),
                source: Box::new(error),
            },
            (_, error) => error,
        }
    }
}
