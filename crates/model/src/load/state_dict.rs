//! From a state dict into a model: completeness, shapes, resized positions.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::difference::other_families;
use super::keys;
use crate::files::config::ModelConfig;
use crate::files::weights::{Difference, RawTensor, StateDict, WeightsError};
use crate::network::clip::Clip;
use crate::network::params;

/// Loads every parameter of `model` from `dict`, which came from `file`.
///
/// Positional embeddings of another size are resized and an absent `logit_bias` becomes zero, as in OpenCLIP; any other
/// missing, unexpected or differently shaped key is an error that lists them all and says whose family they are.
pub fn load_state_dict(
    model: Clip,
    config: &ModelConfig,
    dict: StateDict,
    file: &Path,
) -> Result<Clip, WeightsError> {
    let mut dict = keys::with_text_prefix(dict, config.text_is_custom());
    let wanted = params::describe(&model);
    let known: HashSet<&str> = wanted.iter().map(|param| param.key.as_str()).collect();
    let unexpected = dict
        .tensors
        .keys()
        .filter(|key| !known.contains(key.as_str()));
    let unexpected: Vec<_> = unexpected.cloned().collect();
    for param in &wanted {
        let Some(tensor) = dict.tensors.get(&param.key) else {
            continue;
        };
        if tensor.shape == param.shape {
            continue;
        }
        match resized(&model, &param.key, tensor, &param.shape) {
            Ok(Some(resized)) => {
                dict.tensors.insert(param.key.clone(), resized);
            }
            // The weights are another family's: their keys say more than their positions.
            Err(_) if !unexpected.is_empty() => {}
            Ok(None) => {}
            Err(error) => return Err(error),
        }
    }
    let same = |found: &[usize], wanted: &[usize]| {
        // A scalar is written with no axis or with one.
        found == wanted || (wanted.is_empty() && found == [1])
    };
    let mut missing = Vec::new();
    let mut shapes = Vec::new();
    for param in &wanted {
        match dict.tensors.get(&param.key) {
            None if param.key == "logit_bias" => {}
            None => missing.push(param.key.clone()),
            Some(tensor) if !same(&tensor.shape, &param.shape) => {
                shapes.push((param.key.clone(), param.shape.clone(), tensor.shape.clone()));
            }
            Some(_) => {}
        }
    }
    let difference = Difference {
        missing,
        unexpected,
        shapes,
        ..Difference::default()
    };
    difference.checked(file, || {
        other_families(dict.tensors.keys(), wanted.iter().map(|p| &p.key))
    })?;
    let mut failure = None;
    let model = params::assign(model, |key, shape| match dict.tensors.remove(key) {
        Some(tensor) => tensor
            .to_f32()
            .map_err(|error| failure = Some(error.in_tensor(key).in_file(file)))
            .ok(),
        None => Some(vec![0.0; shape.iter().product()]),
    });
    failure.map_or(Ok(model), Err)
}

/// Gives parameters of `model` the tensors of `dict`, which came from `file`, that lie at their `places` there; others keep their values.
pub(super) fn assign_places(
    model: Clip,
    mut dict: StateDict,
    places: &HashMap<String, String>,
    file: &Path,
) -> Result<Clip, WeightsError> {
    let mut failure = None;
    let model = params::assign(model, |key, _| {
        let place = places.get(key)?;
        let tensor = dict.tensors.remove(place)?;
        tensor
            .to_f32()
            .map_err(|error| failure = Some(error.in_tensor(place).in_file(file)))
            .ok()
    });
    failure.map_or(Ok(model), Err)
}

/// A table that goes by the size of the picture or of the caption, fitted to the model's; `None` for every other key.
pub(super) fn resized(
    model: &Clip,
    key: &str,
    tensor: &RawTensor,
    shape: &[usize],
) -> Result<Option<RawTensor>, WeightsError> {
    match key.starts_with("visual.") {
        true => model.visual.family().resized(key, tensor, shape),
        false => {
            let name = key.strip_prefix("text.").unwrap_or(key);
            model.text.family().resized(name, tensor, shape)
        }
    }
}
