//! A model as the shared flags ask for it.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::{Device, FloatDType};
use openclip_data::tokenizer::{self, Tokenizer};
use openclip_eval::Encoder;
use openclip_model::factory::{self, Loaded};
use openclip_model::hub::CacheDirs;
use openclip_model::{device, finite, params, registry};

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
    dtype: FloatDType,
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
            dtype: precision.compute(),
            model: model.model.clone(),
            cache_dir: model.cache_dir.clone(),
            tokenizer: OnceCell::new(),
        })
    }

    /// What feeds the model.
    pub fn encoder(&self) -> Encoder {
        Encoder::of(&self.loaded, &self.device, self.dtype)
    }

    /// The model's tokenizer, which is read when it is first asked for.
    pub fn tokenizer(&self) -> Result<Arc<dyn Tokenizer>> {
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
