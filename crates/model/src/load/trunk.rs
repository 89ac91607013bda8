//! Weights that timm publishes for an image tower by itself: what `--pretrained-image` starts from.

use std::collections::HashMap;
use std::path::Path;

use super::encoder;
use super::state_dict::{assign_places, resized};
use crate::files::ModelError;
use crate::files::config::ModelConfig;
use crate::files::weights::{Difference, StateDict, WeightsError};
use crate::network::clip::Clip;
use crate::network::params;
use crate::vision::timm::repository;

/// The flag that asks for them.
const FLAG: &str = "--pretrained-image";

/// Where a tower's parameters are in a whole model.
const TRUNK: &str = "visual.trunk.";

/// What stands before them in the file: nothing, or the same as here where a whole model was published.
const PREFIXES: [&str; 2] = ["", TRUNK];

/// The layer of the classes, which has as many outputs as there are.
const CLASSES: [&str; 4] = ["head.weight", "head.bias", "head.fc.weight", "head.fc.bias"];

/// Norms that a tower has with one pool and not with another.
const NORMS: [&str; 2] = ["norm.", "fc_norm."];

/// Gives the image tower of `model` the weights that timm publishes for it, and says what starts as it was.
///
/// # Errors
/// When the tower is none of timm's, its weights are nowhere, or they do not fit.
pub(super) fn load(
    model: Clip,
    config: &ModelConfig,
    cache_dir: Option<&Path>,
) -> Result<(Clip, Vec<String>), ModelError> {
    let Some(name) = config.vision_cfg.timm_model_name() else {
        let reason = "the image tower is OpenCLIP's own, for which there are no weights but those of whole models (--pretrained)";
        return Err(ModelError::invalid(FLAG, reason));
    };
    let Some(repository) = repository(name) else {
        let reason = format!(
            "which weights timm has for {name} is not known here; expected one of the built-in models' towers"
        );
        return Err(ModelError::invalid(FLAG, reason));
    };
    let path = encoder::find(&repository, cache_dir)?;
    let (model, kept) = assign(model, StateDict::read(&path)?, &path)?;
    let mut warnings = Vec::new();
    if !kept.is_empty() {
        warnings.push(format!(
            "{FLAG}: {} are not in {} or have other classes there; they start from random weights",
            kept.join(", "),
            path.display()
        ));
    }
    Ok((model, warnings))
}

/// Loads the trunk from `dict`; returns the keys of what keeps its value.
fn assign(
    model: Clip,
    mut dict: StateDict,
    file: &Path,
) -> Result<(Clip, Vec<String>), WeightsError> {
    let (mut missing, mut shapes, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    let mut places = HashMap::new();
    let wanted = params::describe(&model);
    for param in &wanted {
        let Some(name) = param.key.strip_prefix(TRUNK) else {
            continue;
        };
        let is_of_classes = CLASSES.contains(&name);
        let mut candidates = PREFIXES.iter().map(|prefix| format!("{prefix}{name}"));
        let Some((place, tensor)) =
            candidates.find_map(|place| dict.tensors.get(&place).map(|tensor| (place, tensor)))
        else {
            match is_of_classes || NORMS.iter().any(|norm| name.starts_with(norm)) {
                true => kept.push(param.key.clone()),
                false => missing.push(param.key.clone()),
            }
            continue;
        };
        if tensor.shape != param.shape && is_of_classes {
            kept.push(param.key.clone());
            continue;
        }
        if tensor.shape != param.shape {
            let found = tensor.shape.clone();
            match resized(&model, &param.key, tensor, &param.shape) {
                Ok(Some(resized)) => {
                    dict.tensors.insert(place.clone(), resized);
                }
                Ok(None) => {
                    shapes.push((param.key.clone(), param.shape.clone(), found));
                    continue;
                }
                Err(error) => return Err(error.in_tensor(&place).in_file(file)),
            }
        }
        places.insert(param.key.clone(), place);
    }
    let difference = Difference {
        missing,
        shapes,
        ..Difference::default()
    };
    difference.checked(file, Vec::new)?;
    Ok((assign_places(model, dict, &places, file)?, kept))
}
