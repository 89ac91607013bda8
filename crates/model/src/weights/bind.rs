//! From a state dict into a model: completeness, shapes, resized positions.

use std::path::Path;

use super::family::other_families;
use super::{Difference, RawTensor, StateDict, WeightsError, keys, resize};
use crate::Clip;
use crate::config::ModelConfig;
use crate::params;
use crate::vision::swin_arch::SwinConfig;

/// Loads every parameter of `model` from `dict`, which came from `file`.
///
/// Positional embeddings of another size are resized and an absent `logit_bias` becomes zero, as in OpenCLIP; any other
/// missing, unexpected or differently shaped key is an error that lists them all and says whose family they are.
pub fn load(
    model: Clip,
    config: &ModelConfig,
    dict: StateDict,
    file: &Path,
) -> Result<Clip, WeightsError> {
    let mut dict = keys::with_text_prefix(dict, config.text_is_custom());
    let wanted = params::describe(&model);
    let known: std::collections::HashSet<&str> =
        wanted.iter().map(|param| param.key.as_str()).collect();
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
        match resize_positions(&param.key, tensor, &param.shape, &model, config) {
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
    if !(missing.is_empty() && unexpected.is_empty() && shapes.is_empty()) {
        return Err(WeightsError::Mismatch {
            file: file.to_path_buf(),
            difference: Box::new(Difference {
                families: other_families(dict.tensors.keys(), wanted.iter().map(|p| &p.key)),
                missing,
                unexpected,
                shapes,
            }),
        });
    }
    let mut failure = None;
    let model = params::assign(model, |key, shape| match dict.tensors.remove(key) {
        Some(tensor) => tensor.to_f32().map_err(|error| failure = Some(error)).ok(),
        None => Some(vec![0.0; shape.iter().product()]),
    });
    failure.map_or(Ok(model), Err)
}

/// Fits a positional embedding to the model's grid or context; `None` for every other key.
fn resize_positions(
    key: &str,
    tensor: &RawTensor,
    shape: &[usize],
    model: &Clip,
    config: &ModelConfig,
) -> Result<Option<RawTensor>, WeightsError> {
    if let (&[1, old, width], &[1, new, new_width]) = (tensor.shape.as_slice(), shape) {
        let (Some(grid), true) = (
            model.visual.timm_grid(),
            width == new_width && key == "visual.trunk.pos_embed",
        ) else {
            return Ok(None);
        };
        let prefix = new.saturating_sub(grid.0 * grid.1);
        let resized = resize::resize_grid(&tensor.to_f32()?, [old, width], prefix, grid)?;
        return Ok(Some(RawTensor::from_f32(resized, vec![1, new, width])));
    }
    let (&[old, width], &[new, new_width]) = (tensor.shape.as_slice(), shape) else {
        return Ok(None);
    };
    if width != new_width {
        return Ok(None);
    }
    let values = tensor.to_f32()?;
    let resized = match key {
        "visual.attnpool.positional_embedding" => {
            let Ok(sizes) = config.vision_cfg.resnet() else {
                return Ok(None);
            };
            resize::resize_image_pos_embed(&values, [old, width], (sizes.side, sizes.side))?
        }
        "visual.positional_embedding" => {
            let Ok(grid) = config.vision_cfg.grid() else {
                return Ok(None);
            };
            resize::resize_image_pos_embed(&values, [old, width], grid)?
        }
        "positional_embedding" | "text.positional_embedding" => {
            resize::resize_text_pos_embed(&values, [old, width], new)?
        }
        key => match swin_window(key, config) {
            Some(window) => resize::resize_displacements(&values, [old, width], window)?,
            None => return Ok(None),
        },
    };
    Ok(Some(RawTensor::from_f32(resized, vec![new, width])))
}

/// Rows and columns of the windows that a table of a Swin transformer is for.
fn swin_window(key: &str, config: &ModelConfig) -> Option<[usize; 2]> {
    let stage = key.strip_prefix("visual.trunk.layers.")?;
    let (stage, rest) = stage.split_once('.')?;
    if !rest.ends_with(".relative_position_bias_table") {
        return None;
    }
    let arch = SwinConfig::of(&config.vision_cfg.timm().ok()?).ok()?;
    let stages = arch.stages(config.vision_cfg.image_size).ok()?;
    Some(stages.get(stage.parse::<usize>().ok()?)?.window)
}
