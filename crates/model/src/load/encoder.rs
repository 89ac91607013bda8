//! Weights that Hugging Face publishes for an encoder alone: what OpenCLIP's text towers start from.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::difference::other_families;
use super::state_dict::assign_places;
use crate::files::hub::{self, CacheDirs, HubError};
use crate::files::weights::{Difference, Part, StateDict, WeightsError};
use crate::network::clip::Clip;
use crate::network::params;

/// Names of the weights in a model's folder, the preferred first.
const FILES: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];

/// What stands before an encoder's keys, by the model that was published around it.
const PREFIXES: [&str; 5] = ["", "roberta.", "bert.", "model.encoder.", "encoder."];

/// Where a model keeps the vectors of its tokens when encoder and decoder share them.
const SHARED: [&str; 2] = ["shared.weight", "model.shared.weight"];

/// The file of the model `name`: in the folder of that name, where a user may have put it, or on the Hugging Face hub.
///
/// # Errors
/// When it is nowhere, with the place to put it.
pub(crate) fn find(name: &str, cache_dir: Option<&Path>) -> Result<PathBuf, HubError> {
    let own = hub::by_hand(name, cache_dir);
    let folders = [Path::new(name), &own];
    let mut files = folders
        .iter()
        .flat_map(|folder| FILES.map(|file| folder.join(file)));
    match files.find(|file| file.is_file()) {
        Some(file) => Ok(file),
        None => {
            let by_hand = format!("put {} into {}", FILES.join(" or "), own.display());
            hub::file(name, &FILES, &CacheDirs::new(cache_dir), &by_hand)
        }
    }
}

/// Loads the parameters under `text.transformer.` from `dict`, which came from `file`. What else is in the file, such as a
/// decoder or the head of a language model, is passed over. A layer on the first token that the file does not have keeps its value.
///
/// # Errors
/// Parameters that are not in the file or have another shape there, all of them.
pub(crate) fn load(model: Clip, dict: StateDict, file: &Path) -> Result<Clip, WeightsError> {
    let (mut missing, mut shapes) = (Vec::new(), Vec::new());
    let mut places = HashMap::new();
    let wanted = params::describe(&model);
    for param in &wanted {
        let Some(name) = param.key.strip_prefix("text.transformer.") else {
            continue;
        };
        let Some(place) = place(name, &dict) else {
            if !name.starts_with("pooler.") {
                missing.push(param.key.clone());
            }
            continue;
        };
        let found = dict.tensors.get(&place).map(|tensor| tensor.shape.clone());
        match found {
            Some(found) if found != param.shape => {
                shapes.push((param.key.clone(), param.shape.clone(), found));
            }
            _ => drop(places.insert(param.key.clone(), place)),
        }
    }
    let difference = Difference {
        missing,
        shapes,
        ..Difference::default()
    };
    difference.checked(file, || {
        let mut families = other_families(dict.tensors.keys(), wanted.iter().map(|p| &p.key));
        families.retain(|family| family.part == Part::Text);
        families
    })?;
    assign_places(model, dict, &places, file)
}

/// The key in `dict` of the encoder's parameter `name`.
fn place(name: &str, dict: &StateDict) -> Option<String> {
    // Names of LayerNorm's parameters in the oldest files.
    let old = name
        .replace("LayerNorm.weight", "LayerNorm.gamma")
        .replace("LayerNorm.bias", "LayerNorm.beta");
    let shared = SHARED.map(String::from).into_iter();
    let shared = shared.filter(|_| name == "embed_tokens.weight");
    let prefixed = PREFIXES
        .iter()
        .flat_map(|prefix| [name, &old].map(|name| format!("{prefix}{name}")));
    let mut candidates = prefixed.chain(shared);
    candidates.find(|key| dict.tensors.contains_key(key))
}
