//! From a model's name and the place of its weights to a ready model.

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::Device;
use serde_json::json;

use super::encoder;
use super::state_dict::load_state_dict;
use crate::files::ModelError;
use crate::files::config::{ImageSize, ModelConfig, PreprocessConfig};
use crate::files::hub::{self, CacheDirs};
use crate::files::pretrained::{self, Pretrained};
use crate::files::registry::{self, ModelSource, Weights};
use crate::files::weights::{self, StateDict, TensorOut};
use crate::network::clip::Clip;
use crate::network::{coca, init, params};

pub use crate::files::weights::CONFIG_METADATA;

/// Extension of Burn's own record files.
pub const RECORD_EXTENSION: &str = "bpk";

/// Changes to a configuration before the model is built.
#[derive(Debug, Clone, Default)]
pub struct CreateOptions {
    /// QuickGELU whatever the configuration says.
    pub force_quick_gelu: bool,
    /// Another input size; positional embeddings are resized.
    pub force_image_size: Option<ImageSize>,
    /// Another share of dropped patches.
    pub force_patch_dropout: Option<f64>,
    /// Another number of tokens of a caption; positional embeddings are resized.
    pub force_context_length: Option<usize>,
    /// Text tower under `text.` whatever the configuration says.
    pub force_custom_text: bool,
    /// MLPs of native towers multiply 8-bit operands; see [`crate::layers::switch_back`].
    pub int8_linear: bool,
    /// Start values of the logit scale's logarithm and of the logit bias, which the model then has.
    pub init_logits: Option<[f64; 2]>,
    /// Seed of the initial weights.
    pub seed: u64,
    /// Where downloads and weights named by a tag lie; each at its usual place in `~/.cache` when absent.
    pub cache_dir: Option<PathBuf>,
}

impl CreateOptions {
    /// `config` with what is forced.
    pub fn apply(&self, mut config: ModelConfig) -> ModelConfig {
        if let Some(size) = self.force_image_size {
            config.vision_cfg.image_size = size;
        }
        if let Some(length) = self.force_context_length {
            config.text_cfg.context_length = length;
        }
        if let Some(share) = self.force_patch_dropout {
            config.vision_cfg.patch_dropout = share;
        }
        config.quick_gelu |= self.force_quick_gelu;
        config.custom_text |= self.force_custom_text;
        if let Some([scale, bias]) = self.init_logits {
            config.init_logit_scale = Some(scale);
            config.init_logit_bias = Some(bias);
        }
        config
    }
}

/// A model and what belongs to its weights.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The network.
    pub model: Clip,
    /// Name for messages and metadata.
    pub name: String,
    /// The configuration it was built from, after all changes.
    pub config: ModelConfig,
    /// The weights' own preprocessing, or OpenAI's.
    pub preprocess: PreprocessConfig,
    /// What the caller should tell the user, loudly.
    pub warnings: Vec<String>,
}

/// Builds `model` (a name, a `.json` file, `local-dir:DIR` or `hf-hub:ORG/NAME`) and loads `pretrained` (a file, a tag or an
/// `http(s)` address) into it. What is not in the cache is downloaded.
///
/// Without `pretrained` a folder's or repository's own weights are loaded, and a bare configuration gets initial weights.
pub fn create(
    model: &str,
    pretrained: Option<&str>,
    device: &Device,
    options: &CreateOptions,
) -> Result<Loaded, ModelError> {
    let ModelSource {
        name,
        config,
        preprocess,
        weights,
    } = registry::resolve(model, options.cache_dir.as_deref())?;
    let config = options.apply(config);
    let mut loaded = Loaded {
        model: Clip::new(&config, device)?,
        name,
        config,
        preprocess: preprocess.clone().unwrap_or_default(),
        warnings: Vec::new(),
    };
    let cache_dir = options.cache_dir.as_deref();
    let tag = pretrained.filter(|tag| !tag.is_empty());
    let known = tag.and_then(|tag| pretrained::find(model, tag));
    let path = match tag {
        Some(tag) => Some(locate(model, tag, known, cache_dir)?),
        None => weights
            .map(|weights| Weights::path(weights, cache_dir))
            .transpose()?,
    };
    // What a folder, a repository or the table says of its own weights wins over what is written in their file.
    let prescribed = match tag {
        Some(_) => known.map(|known| known.preprocess.clone()),
        None => preprocess.clone(),
    };
    match path {
        None => {
            if let Some(ids) = coca::whole_vocabulary(&loaded.config)? {
                loaded = with_vocabulary(loaded, ids, device)?;
            }
            loaded.model = init::initialise(loaded.model, &loaded.config, options.seed);
            loaded = with_encoder(loaded, cache_dir)?;
        }
        Some(path) if path.extension().is_some_and(|e| e == RECORD_EXTENSION) => {
            loaded.model =
                loaded
                    .model
                    .try_load_file(&path)
                    .map_err(|error| ModelError::Record {
                        reason: error.to_string(),
                        path,
                    })?;
        }
        Some(path) => {
            let dict = StateDict::read(&path)?;
            let openai = pretrained.is_some_and(|tag| tag.eq_ignore_ascii_case("openai"));
            loaded = adopt(
                loaded,
                &dict,
                openai || dict.is_torchscript(),
                &path,
                device,
            )?;
            if let Some(known) = known {
                let origin = format!("{model} {}", known.tag);
                check_activation(&mut loaded, &origin, known.quick_gelu);
            }
            loaded.model = load_state_dict(loaded.model, &loaded.config, dict, &path)?;
        }
    }
    loaded.preprocess = prescribed.unwrap_or(loaded.preprocess);
    if options.int8_linear {
        loaded.model = loaded.model.with_int8_linear()?;
    }
    Ok(loaded)
}

/// The model with a caption decoder of another vocabulary.
fn with_vocabulary(mut loaded: Loaded, ids: usize, device: &Device) -> Result<Loaded, ModelError> {
    loaded.config.text_cfg.vocab_size = ids;
    loaded.model = Clip::new(&loaded.config, device)?;
    Ok(loaded)
}

/// The model with the published weights of its Hugging Face encoder, where there is one.
fn with_encoder(mut loaded: Loaded, cache_dir: Option<&Path>) -> Result<Loaded, ModelError> {
    let options = loaded.config.text_cfg.hf()?;
    let Some(options) = options.filter(|options| options.pretrained) else {
        return Ok(loaded);
    };
    let name = &options.model_name;
    match encoder::find(name, cache_dir) {
        Ok(path) => {
            loaded.model = encoder::load(loaded.model, StateDict::read(&path)?, &path)?;
        }
        Err(error) => loaded.warnings.push(format!(
            "the text tower {name} starts from random weights, not from its published ones: {error}"
        )),
    }
    Ok(loaded)
}

/// Takes over what a weights file says about its activation and preprocessing.
fn adopt(
    mut loaded: Loaded,
    dict: &StateDict,
    openai: bool,
    path: &Path,
    device: &Device,
) -> Result<Loaded, ModelError> {
    if openai && !loaded.config.quick_gelu {
        loaded.config.quick_gelu = true;
        loaded.model = Clip::new(&loaded.config, device)?;
        loaded.warnings.push(format!(
            "{}: OpenAI's weights were trained with QuickGELU, which replaces the GELU of {}",
            path.display(),
            loaded.name
        ));
    }
    if let Some(ids) = coca::stored_vocabulary(&loaded.config, dict) {
        loaded = with_vocabulary(loaded, ids, device)?;
    }
    let Some(json) = dict.metadata.get(CONFIG_METADATA) else {
        return Ok(loaded);
    };
    let hub: serde_json::Value =
        serde_json::from_str(json).map_err(|source| ModelError::ParseConfig {
            origin: format!("{} ({CONFIG_METADATA})", path.display()),
            source,
        })?;
    if let Ok(preprocess) = serde_json::from_value(hub["preprocess_cfg"].clone()) {
        loaded.preprocess = preprocess;
    }
    let trained = hub["model_cfg"]["quick_gelu"].as_bool().unwrap_or(false);
    if hub["model_cfg"].is_object() {
        check_activation(&mut loaded, &path.display().to_string(), trained);
    }
    Ok(loaded)
}

/// Warns of weights that were trained with the other GELU.
fn check_activation(loaded: &mut Loaded, origin: &str, trained: bool) {
    if trained == loaded.config.quick_gelu {
        return;
    }
    let word = |quick| if quick { "QuickGELU" } else { "GELU" };
    loaded.warnings.push(format!(
        "{origin} was trained with {}, but {} computes with {}: results will be wrong; use {}",
        word(trained),
        loaded.name,
        word(loaded.config.quick_gelu),
        if trained {
            "the `-quickgelu` configuration or --force-quick-gelu"
        } else {
            "the configuration without `-quickgelu`"
        },
    ));
}

/// Finds the file that `tag` means: what the user has put at `CACHE/MODEL/TAG.{safetensors,pt,bin}`, a tag's published weights, a
/// path, or an address.
fn locate(
    model: &str,
    tag: &str,
    known: Option<&Pretrained>,
    cache_dir: Option<&Path>,
) -> Result<PathBuf, ModelError> {
    let looked = hub::by_hand(model, cache_dir);
    let name = known.map_or(tag, |known| &known.tag);
    let path = Path::new(tag);
    if known.is_none() && path.is_file() {
        return Ok(path.to_path_buf());
    }
    let is_plain = !name.contains(['/', '\\']);
    let by_hand = ["safetensors", "pt", "bin"]
        .iter()
        .map(|extension| looked.join(format!("{name}.{extension}")))
        .find(|path| is_plain && path.is_file());
    if let Some(path) = by_hand {
        return Ok(path);
    }
    let put = |at: &Path| format!("put it at {} (or .bin, .pt)", at.display());
    let place = looked.join(format!("{name}.safetensors"));
    let caches = CacheDirs::new(cache_dir);
    if let Some(known) = known {
        let names = pretrained::alternatives(known.file());
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let found = hub::file(known.repository(), &names, &caches, &put(&place));
        let error = match found {
            Ok(path) => return Ok(path),
            Err(error) if known.url.is_empty() || !error.has_alternative() => {
                return Err(error.into());
            }
            Err(error) => error,
        };
        // An older OpenCLIP may have left the file of the plain address, which is used without a network as well.
        log::debug!("{error}; looking for {}", known.url);
        return hub::address(&known.url, &caches, &put(&place)).map_err(|_| error.into());
    }
    if hub::is_address(tag) {
        let by_hand = "pass its path as --pretrained FILE";
        return Ok(hub::address(tag, &caches, by_hand)?);
    }
    Err(ModelError::NoWeights {
        tag: tag.to_string(),
        model: model.to_string(),
        tags: pretrained::of(model)
            .map(|known| known.tag.as_str())
            .collect(),
        looked,
    })
}

/// `open_clip_config.json` of a hub folder.
pub fn hub_config(config: &ModelConfig, preprocess: &PreprocessConfig) -> serde_json::Value {
    json!({ "model_cfg": config, "preprocess_cfg": preprocess })
}

impl Loaded {
    /// Writes `.safetensors` under OpenCLIP's keys, with configuration and preprocessing in its metadata.
    pub fn save(&self, path: &Path) -> Result<(), ModelError> {
        let hub = hub_config(&self.config, &self.preprocess);
        let metadata = [
            ("format".to_string(), "pt".to_string()),
            (CONFIG_METADATA.to_string(), hub.to_string()),
        ];
        let params = params::export(&self.model)?;
        let tensors = params
            .iter()
            .map(|p| TensorOut::f32(&p.key, &p.shape, &p.values));
        Ok(weights::write_safetensors(path, tensors, &metadata.into())?)
    }

    /// Writes a Burn record.
    pub fn save_record(&self, path: &Path) -> Result<(), ModelError> {
        let model = self.model.clone();
        model.save_file(path).map_err(|error| ModelError::Record {
            path: path.to_path_buf(),
            reason: error.to_string(),
        })
    }
}
