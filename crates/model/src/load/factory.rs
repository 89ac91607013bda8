//! From a model's name and the place of its weights to a ready model.

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::Device;
use serde_json::json;

use super::locate::{self, Place};
use super::reading::{self, Wanted};
use super::settings::{self, Settings};
use super::state_dict::load_state_dict;
use super::{encoder, trunk};
use crate::files::ModelError;
use crate::files::config::{ImageSize, ModelConfig, PreprocessConfig};
use crate::files::pretrained;
use crate::files::registry;
use crate::files::weights::{self, StateDict, TensorOut, WeightsError};
use crate::network::clip::Clip;
use crate::network::params::{self, ParamValues};
use crate::network::{coca, init};

pub use crate::files::weights::CONFIG_METADATA;

/// Extension of Burn's own record files.
pub const RECORD_EXTENSION: &str = "bpk";

/// Changes to a configuration before the model is built.
#[derive(Debug, Clone, Default)]
pub struct CreateOptions {
    /// QuickGELU, or GELU, whatever configuration and weights say.
    pub force_quick_gelu: Option<bool>,
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
    /// The image tower begins with timm's weights where no weights of the whole model are given.
    pub pretrained_image: bool,
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
        config.quick_gelu = self.force_quick_gelu.unwrap_or(config.quick_gelu);
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

/// Builds `model` (a name, a `.json` file, `local-dir:DIR` or `hf-hub:ORG/NAME`) and loads `pretrained` (a file, a folder, a tag or an
/// `http(s)` address; `FILE:ENTRY` for one part of a checkpoint) into it. What is not in the cache is downloaded.
///
/// Without `pretrained` a folder's or repository's own weights are loaded, and a bare configuration gets initial weights.
pub fn create(
    model: &str,
    pretrained: Option<&str>,
    device: &Device,
    options: &CreateOptions,
) -> Result<Loaded, ModelError> {
    let mut source = registry::resolve(model, options.cache_dir.as_deref())?;
    let weights = source.weights.take();
    let config = options.apply(source.config.clone());
    let built = Clip::new(&config, device).map_err(|error| source.named(error))?;
    let mut loaded = Loaded {
        model: built,
        name: source.name,
        config,
        preprocess: source.preprocess.clone().unwrap_or_default(),
        warnings: Vec::new(),
    };
    let cache_dir = options.cache_dir.as_deref();
    let tag = pretrained.filter(|tag| !tag.is_empty());
    let known = tag.and_then(|tag| pretrained::find(model, tag));
    let place = match (tag, weights) {
        (Some(tag), _) => Some(locate::locate(model, tag, known, cache_dir)?),
        (None, Some(weights)) => Some(Place::of(weights.path(cache_dir)?)),
        (None, None) => None,
    };
    let names_weights = place.is_some();
    match place {
        None => {
            if let Some(ids) = coca::whole_vocabulary(&loaded.config)? {
                loaded = with_vocabulary(loaded, ids, device)?;
            }
            check_memory(&loaded)?;
            loaded.model = init::initialise(loaded.model, &loaded.config, options.seed);
            loaded = with_encoder(loaded, cache_dir)?;
            if options.pretrained_image {
                let (model, warnings) = trunk::load(loaded.model, &loaded.config, cache_dir)?;
                loaded.model = model;
                loaded.warnings.extend(warnings);
            }
        }
        Some(Place { path, entry: None })
            if path.extension().is_some_and(|e| e == RECORD_EXTENSION) =>
        {
            loaded.model =
                loaded
                    .model
                    .try_load_file(&path)
                    .map_err(|error| ModelError::Record {
                        reason: error.to_string(),
                        path,
                    })?;
        }
        Some(place) => {
            let dict = read(&mut loaded, &place)?;
            let path = place.path;
            let within = Settings::within(&dict, &path)?;
            let is_openai = tag.is_some_and(|tag| tag.eq_ignore_ascii_case("openai"));
            if is_openai || dict.is_openai() {
                let of = format!("{}: OpenAI's weights were", path.display());
                loaded = with_activation(loaded, true, &of, options, device)?;
            }
            // What a folder, a repository or the table says of its own weights wins over what is written in their file.
            let settings = match (known, tag) {
                (Some(known), _) => {
                    let origin = format!("{model} {}", known.tag);
                    check_activation(&mut loaded, &origin, known.quick_gelu);
                    Settings {
                        quick_gelu: None,
                        preprocess: Some(known.preprocess.clone()),
                    }
                }
                (None, None) => {
                    if let Some((quick, origin)) = &within.quick_gelu {
                        check_activation(&mut loaded, origin, *quick);
                    }
                    Settings {
                        quick_gelu: None,
                        preprocess: source.preprocess.or(within.preprocess),
                    }
                }
                (None, Some(_)) => within.or(Settings::beside(&path, &loaded.config)?),
            };
            if let Some((quick, origin)) = settings.quick_gelu
                && !dict.is_openai()
            {
                let of = format!("{origin}: the weights were");
                loaded = with_activation(loaded, quick, &of, options, device)?;
            }
            let implied = || {
                let published = || settings::published(model, &loaded.config);
                dict.preprocess.clone().or_else(published)
            };
            if let Some(preprocess) = settings.preprocess.or_else(implied) {
                loaded.preprocess = preprocess;
            }
            if let Some(ids) = coca::stored_vocabulary(&loaded.config, &dict) {
                loaded = with_vocabulary(loaded, ids, device)?;
            }
            loaded.model = load_state_dict(loaded.model, &loaded.config, dict, &path)?;
        }
    }
    if options.pretrained_image && names_weights {
        let warning = "--pretrained-image changes nothing beside weights of the whole model";
        loaded.warnings.push(warning.into());
    }
    if options.int8_linear {
        loaded.model = loaded.model.with_int8_linear()?;
    }
    Ok(loaded)
}

/// The tensors of the model in a file, and words for the user about where in it they are.
fn read(loaded: &mut Loaded, place: &Place) -> Result<StateDict, WeightsError> {
    let Place { path, entry } = place;
    let raw = match entry {
        Some(entry) => StateDict::open_entry(path, entry)?,
        None => StateDict::open(path)?,
    };
    let wanted = Wanted {
        params: &params::describe(&loaded.model),
        custom_text: loaded.config.text_is_custom(),
    };
    let (dict, word) = reading::choose(&raw, &wanted, path).map_err(|error| error.in_file(path))?;
    loaded.warnings.extend(word);
    if raw.entries.iter().any(|entry| entry == EMA_ENTRY) {
        let file = path.display();
        loaded.warnings.push(format!(
            "{file}: it holds an average of the weights as well, which {file}:{EMA_ENTRY} stands for"
        ));
    }
    Ok(dict)
}

/// Where a training checkpoint of PyTorch keeps the average of the weights.
const EMA_ENTRY: &str = "state_dict_ema";

/// The model with the GELU that its weights were trained with, unless a flag asks for another; `of` says whose weights.
fn with_activation(
    mut loaded: Loaded,
    quick: bool,
    of: &str,
    options: &CreateOptions,
    device: &Device,
) -> Result<Loaded, ModelError> {
    if loaded.config.quick_gelu == quick {
        return Ok(loaded);
    }
    let [trained, other] = [quick, !quick].map(gelu);
    if options.force_quick_gelu.is_some() {
        loaded.warnings.push(format!(
            "{of} trained with {trained}, in place of which a flag asks for {other}"
        ));
        return Ok(loaded);
    }
    loaded.config.quick_gelu = quick;
    loaded.model = Clip::new(&loaded.config, device)?;
    loaded.warnings.push(format!(
        "{of} trained with {trained}, which replaces the {other} of {}",
        loaded.name
    ));
    Ok(loaded)
}

fn gelu(quick: bool) -> &'static str {
    if quick { "QuickGELU" } else { "GELU" }
}

/// Refuses a model whose parameters the system has no room for, before the first of them is made.
fn check_memory(loaded: &Loaded) -> Result<(), ModelError> {
    let params = params::describe(&loaded.model);
    let numbers = params
        .iter()
        .fold(0, |sum: usize, param| sum.saturating_add(param.numel()));
    let bytes = numbers.saturating_mul(size_of::<f32>());
    match Vec::<u8>::new().try_reserve_exact(bytes) {
        Ok(()) => Ok(()),
        Err(_) => Err(ModelError::Memory {
            name: loaded.name.clone(),
            numbers,
            gigabytes: bytes >> 30,
        }),
    }
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

/// Warns of weights that were trained with the other GELU.
fn check_activation(loaded: &mut Loaded, origin: &str, trained: bool) {
    if trained == loaded.config.quick_gelu {
        return;
    }
    loaded.warnings.push(format!(
        "{origin} was trained with {}, but {} computes with {}: results will be wrong; use {}",
        gelu(trained),
        loaded.name,
        gelu(loaded.config.quick_gelu),
        if trained {
            "the `-quickgelu` configuration or --force-quick-gelu"
        } else {
            "the configuration without `-quickgelu` or --no-force-quick-gelu"
        },
    ));
}

/// `open_clip_config.json` of a hub folder.
pub fn hub_config(config: &ModelConfig, preprocess: &PreprocessConfig) -> serde_json::Value {
    json!({ "model_cfg": config, "preprocess_cfg": preprocess })
}

fn tensor_out(param: &ParamValues) -> TensorOut<'_> {
    TensorOut::floats(&param.key, &param.shape, &param.values, param.dtype)
}

impl Loaded {
    /// Writes `.safetensors` under OpenCLIP's keys, with configuration and preprocessing in its metadata. Parameters in 16 bits
    /// are written in 16 bits.
    pub fn save(&self, path: &Path) -> Result<(), ModelError> {
        let hub = hub_config(&self.config, &self.preprocess);
        let metadata = [
            ("format".to_string(), "pt".to_string()),
            (CONFIG_METADATA.to_string(), hub.to_string()),
        ];
        let params = params::export(&self.model)?;
        let tensors = params.iter().map(tensor_out);
        Ok(weights::write_safetensors(path, tensors, &metadata.into())?)
    }

    /// Writes the state dict under OpenCLIP's keys as `torch.save` does, for `torch.load(path, weights_only=True)`.
    pub fn save_torch(&self, path: &Path) -> Result<(), ModelError> {
        let params = params::export(&self.model)?;
        Ok(weights::write_torch(path, params.iter().map(tensor_out))?)
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
