//! A model as the shared flags ask for it.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use openclip_data::error::DataError;
use openclip_data::tokenizer::{self, Tokenizer};
use openclip_eval::Encoder;
use openclip_eval::embeddings::{EmbeddingModel, fingerprint};
use openclip_model::factory::{self, Loaded};
use openclip_model::hub::CacheDirs;
use openclip_model::{device, finite, params, registry};
use openclip_train::Precision;

use crate::args::model::{ModelArgs, PreprocessArgs};
use crate::error::Result;
use crate::output::warn;

/// A loaded model on its device.
pub struct Session {
    /// The model, with the preprocessing that the flags leave.
    pub loaded: Loaded,
    /// Where it is.
    pub device: Device,
    /// Whether every parameter is a number; it was told if not.
    pub is_finite: bool,
    precision: Precision,
    model: String,
    cache_dir: Option<PathBuf>,
    tokenizer: OnceCell<Arc<dyn Tokenizer>>,
}

impl Session {
    /// Builds the model; `seed` is for random weights, where none are given.
    pub fn open(model: &ModelArgs, preprocess: &PreprocessArgs, seed: u64) -> Result<Self> {
        let precision = model.precision();
        let device = device::parse(&model.device)?;
        precision.check(&device, false)?;
        let pretrained = model.pretrained.as_deref().filter(|tag| !tag.is_empty());
        let cache_dir = model.cache_dir.as_deref();
        let source = registry::resolve(&model.model, cache_dir)?;
        let is_bare = pretrained.is_none() && source.weights.is_none();
        let mut loaded = factory::create(&model.model, pretrained, &device, &model.options(seed))?;
        loaded.warnings.extend(precision.caution(&device));
        for warning in std::mem::take(&mut loaded.warnings) {
            warn(warning);
        }
        if is_bare {
            warn(format!(
                "{} has random weights: no --pretrained was given",
                loaded.name
            ));
        }
        if let Some(dtype) = precision.parameters() {
            loaded.model = params::cast(loaded.model, dtype);
        }
        let is_finite = told_if_not_finite(&loaded);
        loaded.preprocess = preprocess.apply(loaded.preprocess)?;
        Ok(Self {
            loaded,
            device,
            is_finite,
            precision,
            model: model.model.clone(),
            cache_dir: model.cache_dir.clone(),
            tokenizer: OnceCell::new(),
        })
    }

    /// What vectors of this model are remembered by; `args` are those that it was opened with.
    pub fn described(&self, args: &ModelArgs) -> Result<EmbeddingModel> {
        Ok(EmbeddingModel {
            model: rooted(&args.model),
            pretrained: args.pretrained.as_deref().map(rooted),
            precision: self.precision.name().to_owned(),
            force_image_size: args.force_image_size.clone(),
            force_context_length: args.force_context_length,
            quick_gelu: args.quick_gelu(),
            int8_linear: args.int8_linear,
            custom_text: args.force_custom_text,
            preprocess: (&self.loaded.preprocess).into(),
            weights: fingerprint(&self.loaded.model)?,
        })
    }

    /// What feeds the model.
    pub fn encoder(&self) -> Encoder {
        self.precision.encoder(&self.loaded, &self.device)
    }

    /// The model's tokenizer, which is read when it is first asked for.
    pub fn tokenizer(&self) -> Result<Arc<dyn Tokenizer>> {
        Ok(self.read_tokenizer()?)
    }

    /// The same, with the error of the library.
    pub fn read_tokenizer(&self) -> std::result::Result<Arc<dyn Tokenizer>, DataError> {
        if let Some(tokenizer) = self.tokenizer.get() {
            return Ok(Arc::clone(tokenizer));
        }
        let dir = registry::local_dir(&self.model);
        let caches = CacheDirs::new(self.cache_dir.as_deref());
        let tokenizer = tokenizer::for_model_in(&self.loaded.config, dir, &caches)?;
        Ok(Arc::clone(self.tokenizer.get_or_init(|| tokenizer)))
    }

    /// The tokenizer's files by name, as a repository of the hub has them.
    pub fn tokenizer_files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let dir = registry::local_dir(&self.model);
        let caches = CacheDirs::new(self.cache_dir.as_deref());
        Ok(tokenizer::files(&self.loaded.config, dir, &caches)?)
    }
}

/// The path of what is on the disk so that it can be found from any folder; other names as they are.
pub fn rooted(name: &str) -> String {
    let (before, path) = match name.strip_prefix("local-dir:") {
        Some(path) => ("local-dir:", path),
        None => ("", name),
    };
    // `FILE:ENTRY` is a part of a file.
    let (file, entry) = match path.rsplit_once(':') {
        Some((file, _)) if !Path::new(path).exists() => path.split_at(file.len()),
        _ => (path, ""),
    };
    match std::path::absolute(file) {
        Ok(absolute) if absolute.exists() => format!("{before}{}{entry}", absolute.display()),
        _ => name.to_owned(),
    }
}

/// Warns of weights that are NaN or infinite; whatever the model answers with them means nothing.
fn told_if_not_finite(loaded: &Loaded) -> bool {
    let found = finite::not_finite(&loaded.model);
    let Some(first) = found.keys.first() else {
        return true;
    };
    warn(format!(
        "the weights of {} are not finite: {} of {} tensors hold NaN or infinity, the first is {first}; no result with them means anything",
        loaded.name,
        found.keys.len(),
        found.total
    ));
    false
}
