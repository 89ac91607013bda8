//! A folder with a model: which of its files are the weights, and what the others say about them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::files::config::{ModelConfig, PreprocessConfig};
use crate::files::config_file;
use crate::files::error::ModelError;
use crate::files::transformers;
use crate::files::weights::shards;

/// Name of OpenCLIP's configuration inside a folder.
pub const HUB_CONFIG: &str = "open_clip_config.json";

/// Weight files that are taken before all others, the preferred first: OpenCLIP's order.
const PREFERRED: [&str; 8] = [
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
];

/// Extensions of weights, the preferred first.
const EXTENSIONS: [&str; 5] = ["safetensors", "bin", "pt", "pth", "ckpt"];

/// Beginnings of the names of what trainers leave beside the weights.
const NO_WEIGHTS: [&str; 7] = [
    "optimizer",
    "scheduler",
    "scaler",
    "rng_state",
    "random_states",
    "training_args",
    "adapter_model.",
];

/// File of an adapter of the library PEFT.
const ADAPTER: &str = "adapter_config.json";

/// What a folder says about its model.
#[derive(Debug, Clone, Default)]
pub struct Described {
    /// The file that says it.
    pub path: PathBuf,
    /// The two towers.
    pub config: Option<ModelConfig>,
    /// Preprocessing, where it is prescribed.
    pub preprocess: Option<PreprocessConfig>,
}

/// The description of the model in a folder, OpenCLIP's or transformers'; `tokenizer` is the name of a transformers model's
/// tokenizer.
///
/// # Errors
/// There is none, or it describes no model that can be built.
pub fn describe(folder: &Path, tokenizer: &str) -> Result<Described, ModelError> {
    let path = folder.join(HUB_CONFIG);
    if path.is_file() {
        return hub_config(&path);
    }
    refuse_adapter(folder)?;
    let config = folder.join(transformers::CONFIG);
    if !config.is_file() {
        return Err(ModelError::ReadConfig {
            path,
            source: std::io::ErrorKind::NotFound.into(),
        });
    }
    Ok(Described {
        config: Some(transformers::config(&config, tokenizer)?),
        preprocess: transformers::preprocess(folder)?,
        path: config,
    })
}

/// The description of transformers' in a file `config.json` of any name.
///
/// # Errors
/// Those of [`describe`].
pub fn describe_file(path: &Path) -> Result<Described, ModelError> {
    let folder = folder_of(path);
    Ok(Described {
        config: Some(transformers::config(path, &folder.to_string_lossy())?),
        preprocess: transformers::preprocess(folder)?,
        path: path.to_path_buf(),
    })
}

/// The folder of a file; that of a bare name is the working directory.
pub(crate) fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// What lies beside a weights file and speaks of it: OpenCLIP's configuration, else transformers'. Nothing where there is neither, or
/// what there is belongs to another kind of model.
///
/// # Errors
/// It is there and cannot be read.
pub fn beside(file: &Path) -> Result<Option<Described>, ModelError> {
    let folder = folder_of(file);
    let path = folder.join(HUB_CONFIG);
    if path.is_file() {
        return hub_config(&path).map(Some);
    }
    let config = folder.join(transformers::CONFIG);
    if config.is_file() && transformers::is_known(&config) {
        return describe_file(&config).map(Some);
    }
    let preprocess = match config.is_file() {
        true => None,
        false => transformers::preprocess(folder)?,
    };
    Ok(preprocess.map(|preprocess| Described {
        path: folder.join(transformers::PREPROCESSORS[0]),
        config: None,
        preprocess: Some(preprocess),
    }))
}

/// Reads `open_clip_config.json`.
///
/// # Errors
/// It cannot be read, or a key is missing or wrong.
pub fn hub_config(path: &Path) -> Result<Described, ModelError> {
    let json = config_file::bytes(path)?;
    let (config, preprocess) = parse_hub(&json, &path.to_string_lossy())?;
    Ok(Described {
        path: path.to_path_buf(),
        config: Some(config),
        preprocess,
    })
}

/// The same from its text; `origin` names it in errors.
pub fn parse_hub(
    json: &[u8],
    origin: &str,
) -> Result<(ModelConfig, Option<PreprocessConfig>), ModelError> {
    #[derive(serde::Deserialize)]
    struct HubConfig {
        model_cfg: ModelConfig,
        #[serde(default)]
        preprocess_cfg: Option<PreprocessConfig>,
    }
    let hub: HubConfig = config_file::parse(json, origin)?;
    Ok((hub.model_cfg, hub.preprocess_cfg))
}

fn refuse_adapter(folder: &Path) -> Result<(), ModelError> {
    let path = folder.join(ADAPTER);
    let Ok(json) = std::fs::read(&path) else {
        return Ok(());
    };
    let adapter: Value = serde_json::from_slice(&json).unwrap_or_default();
    let base = adapter["base_model_name_or_path"].as_str();
    let base: String = base.unwrap_or("another model").chars().take(200).collect();
    Err(ModelError::Transformers {
        reason: format!(
            "an adapter (LoRA) that changes {base}, not a model: merge it with PEFT's merge_and_unload() and save the whole model"
        ),
        path,
    })
}

/// The weights of a folder: the name that OpenCLIP prefers; else the index of sharded ones; else the only file that can hold some.
///
/// # Errors
/// No file can, or several, or an adapter alone; the error lists what is there.
pub fn weights(folder: &Path) -> Result<PathBuf, ModelError> {
    if let Some(found) = PREFERRED
        .iter()
        .map(|name| folder.join(name))
        .find(|path| path.is_file())
    {
        return Ok(found);
    }
    let unreadable = |source| ModelError::ReadConfig {
        path: folder.to_path_buf(),
        source,
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        names.extend(name.into_string());
    }
    names.sort();
    let found = match indices(&names) {
        found if found.is_empty() => candidates(folder, &names),
        found => found,
    };
    match found.as_slice() {
        [one] => Ok(folder.join(one)),
        [] if folder.join(ADAPTER).is_file() => {
            refuse_adapter(folder)?;
            Err(no_weights(folder, Vec::new(), &names))
        }
        _ => Err(no_weights(folder, found, &names)),
    }
}

fn no_weights(folder: &Path, candidates: Vec<String>, names: &[String]) -> ModelError {
    let listed = match candidates.is_empty() {
        true => names
            .iter()
            .filter(|name| !name.starts_with('.'))
            .cloned()
            .collect(),
        false => candidates.clone(),
    };
    ModelError::FolderWeights {
        folder: folder.to_path_buf(),
        several: !candidates.is_empty(),
        names: listed,
    }
}

/// Indices of sharded weights; those of safetensors where there are some.
fn indices(names: &[String]) -> Vec<String> {
    let of = |extension: &str| {
        let end = format!(".{extension}{}", shards::INDEX);
        let found = names.iter().filter(|name| name.ends_with(&end));
        found.cloned().collect::<Vec<_>>()
    };
    let found = EXTENSIONS.iter().map(|extension| of(extension));
    found
        .into_iter()
        .find(|found| !found.is_empty())
        .unwrap_or_default()
}

/// Files that can hold the weights. Of the same in several formats the preferred one counts, of a set of shards the first.
fn candidates(folder: &Path, names: &[String]) -> Vec<String> {
    // A name without its extension, or without all from a shard's number on.
    let set = |name: &str| {
        let number = shards::numbers(name).map(|(number, _)| format!("-{number:05}-of-"));
        let end = number.unwrap_or_else(|| ".".into());
        name.rsplit_once(&end)
            .map_or(name, |(before, _)| before)
            .to_string()
    };
    let mut found: Vec<String> = Vec::new();
    for extension in EXTENSIONS {
        for name in names {
            let fits = name
                .rsplit_once('.')
                .is_some_and(|(_, end)| end == extension)
                && !name.starts_with('.')
                && !NO_WEIGHTS.iter().any(|other| name.starts_with(other))
                && folder.join(name).is_file();
            if fits && !found.iter().any(|other| set(other) == set(name)) {
                found.push(name.clone());
            }
        }
    }
    found
}
