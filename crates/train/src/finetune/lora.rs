//! Adapters of low rank (LoRA, arXiv 2106.09685) in place of the image tower's matrices.
//!
//! A checkpoint has them twice: merged into the weights, which every command and Python's OpenCLIP read as they are, and by themselves in
//! [`ADAPTERS`], from which the run goes on.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::{Lora as Reparameterizer, Module, ParamGroup, ParamId};
use openclip_model::params::{self, ParamInfo, ParamValues};
use openclip_model::weights::{StateDict, TensorOut, write_safetensors};
use openclip_model::{Clip, init};
use serde::{Deserialize, Serialize};

use crate::TrainError;

/// The adapters' file of a checkpoint.
pub const ADAPTERS: &str = "adapters.safetensors";
/// Ends of the factors' keys, behind that of the matrix: `[in, rank]` and `[rank, out]`.
const FACTORS: [&str; 2] = [".lora.a", ".lora.b"];
/// Metadata: the factor of the product, and a checksum of the weights that the adapters belong to.
const SCALE: &str = "scale";
const BASE: &str = "base_crc32";

/// How adapters are made.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Lora {
    /// Columns of the first factor, and rows of the second.
    pub rank: usize,
    /// The product of the factors counts `alpha / rank`.
    pub alpha: f64,
}

impl Lora {
    pub(super) fn check(&self) -> Result<(), TrainError> {
        if self.rank == 0 {
            return Err(TrainError::flag("--lora", "must be at least 1"));
        }
        match self.alpha.is_finite() && self.alpha > 0.0 {
            true => Ok(()),
            false => Err(TrainError::flag("--lora-alpha", "must be above 0")),
        }
    }

    /// `model`, whose image tower learns through adapters of its attention and MLPs alone: nothing else of it has a gradient. The first
    /// factors are drawn from `seed`, the second are zero.
    ///
    /// # Errors
    /// When the tower has no such matrix.
    pub fn apply(&self, model: Clip, seed: u64) -> Result<Clip, TrainError> {
        let all = params::describe(&model);
        let adapted: Vec<ParamId> = all
            .iter()
            .filter(|param| is_adapted(param))
            .map(|param| param.id)
            .collect();
        if adapted.is_empty() {
            let reason = "the image tower has no attention and no MLP to adapt";
            return Err(TrainError::flag("--lora", reason));
        }
        let lora = Reparameterizer::new(self.rank, self.alpha);
        let model = model.apply_lora(lora.set_param_group(ParamGroup::from_ids(adapted)));
        // Every factor gets the identity of its key, so that an optimizer's state finds it again.
        let std = 1.0 / self.rank as f64;
        let [first, second] = FACTORS;
        Ok(params::assign(model, |key, shape| {
            let count = shape.iter().product();
            match key {
                key if key.ends_with(first) => Some(init::normal_of(key, seed, std, count)),
                key if key.ends_with(second) => Some(vec![0.0; count]),
                _ => None,
            }
        }))
    }

    /// `model` with the factors of a checkpoint.
    ///
    /// # Errors
    /// When the file is not whole, is of another rank or scale, or belongs to other weights than the model has.
    pub fn restore(&self, model: Clip, checkpoint: &Path) -> Result<Clip, TrainError> {
        let path = checkpoint.join(ADAPTERS);
        let dict = StateDict::open(&path)?;
        let wrong = |reason: String| TrainError::incomplete(&path, reason);
        for (key, wanted, what) in [
            (SCALE, self.scale().to_string(), "--lora or --lora-alpha"),
            (BASE, checksum(&model)?, "--pretrained"),
        ] {
            if dict.metadata.get(key) != Some(&wanted) {
                return Err(wrong(format!("its adapters are of another {what}")));
            }
        }
        let mut values = BTreeMap::new();
        for (key, shape) in factors(&model) {
            let tensor = dict.tensors.get(&key);
            let tensor = tensor.filter(|tensor| tensor.shape == shape);
            let tensor = tensor.ok_or_else(|| wrong(format!("no {key} of shape {shape:?}")))?;
            values.insert(key, tensor.to_f32()?);
        }
        Ok(params::assign(model, |key, _| values.remove(key)))
    }

    /// Writes the factors of `model` to `path`; `base` is the [`checksum`] of what they belong to.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, model: &Clip, base: &str, path: &Path) -> Result<(), TrainError> {
        let all = params::export(model)?;
        let factors = all.iter().filter(|param| is_factor(&param.key));
        let tensors = factors.map(|p| TensorOut::f32(&p.key, &p.shape, &p.values));
        let metadata = [
            (SCALE.to_owned(), self.scale().to_string()),
            (BASE.to_owned(), base.to_owned()),
        ];
        write_safetensors(path, tensors, &metadata.into())?;
        Ok(())
    }

    /// Numbers of the factors of a model with these parameters.
    pub fn numel(&self, all: &[ParamInfo]) -> usize {
        let adapted = all.iter().filter(|param| is_adapted(param));
        let sides = adapted.map(|param| param.shape.iter().sum::<usize>());
        self.rank * sides.sum::<usize>()
    }

    /// What the product of the factors is multiplied with.
    fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }
}

/// A checksum of all parameters but the factors.
///
/// # Errors
/// When the device does not hand them back.
pub fn checksum(model: &Clip) -> Result<String, TrainError> {
    let mut hasher = crc32fast::Hasher::new();
    for ParamValues { key, values, .. } in params::export(model)? {
        if !is_factor(&key) {
            hasher.update(key.as_bytes());
            hasher.update(bytemuck::cast_slice(&values));
        }
    }
    Ok(format!("{:08x}", hasher.finalize()))
}

pub(super) fn is_factor(key: &str) -> bool {
    FACTORS.iter().any(|end| key.ends_with(end))
}

/// Attention and MLPs of the image tower: matrices of linear layers, none of them an embedding, a table of positions or a projection
/// out of the tower.
fn is_adapted(param: &ParamInfo) -> bool {
    let key = &param.key;
    let is_matrix = key.ends_with(".weight") || key.ends_with("_weight");
    let mut parts = key.split('.');
    key.starts_with("visual.")
        && param.shape.len() == 2
        && is_matrix
        && parts.any(|part| part.starts_with("attn") || part == "mlp")
}

/// Keys and shapes of the factors.
fn factors(model: &Clip) -> impl Iterator<Item = (String, Vec<usize>)> {
    let all = params::describe(model).into_iter();
    let factors = all.filter(|param| is_factor(&param.key));
    factors.map(|param| (param.key, param.shape))
}
