//! Key names: from wrappers, other libraries and the other text layout to the model's own.

use std::path::Path;

use crate::files::weights::{StateDict, WeightsError};
use crate::vision;

impl StateDict {
    /// Reads the index of a weights file ([`Self::open`]) and brings its keys into OpenCLIP's form ([`normalise`]).
    ///
    /// # Errors
    /// Those of both, naming the file.
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        normalise(Self::open(path)?).map_err(|error| error.in_file(path))
    }
}

/// First parts of the text tower's keys, which lie at the root in `CLIP` and under `text.` in `CustomTextCLIP` and `CoCa`.
const TEXT_ROOTS: [&str; 6] = [
    "text_projection",
    "cls_emb",
    "positional_embedding",
    "token_embedding",
    "transformer",
    "ln_final",
];

/// Brings a file's keys into OpenCLIP's form.
///
/// * `module.` (DistributedDataParallel), `_orig_mod.` (`torch.compile`), and the wrappers of FSDP and of checkpointing are taken
///   off
/// * constants that are saved as if they were weights are dropped: `position_ids`, and OpenAI's `input_resolution`,
///   `context_length` and `vocab_size`
/// * the counters `num_batches_tracked` of BatchNorm are dropped: with a momentum they change nothing
/// * the keys of other libraries become OpenCLIP's: each family of image towers knows those of its own (`ImageFamily::foreign`)
///
/// # Errors
/// A tensor that has to be joined or turned cannot be read, or has an unfit shape.
pub fn normalise(dict: StateDict) -> Result<StateDict, WeightsError> {
    let mut dict = strip_wrappers(dict);
    dict.tensors.retain(|key, _| {
        let constant = [
            "position_ids",
            "input_resolution",
            "context_length",
            "vocab_size",
        ];
        let counter = key.ends_with(".num_batches_tracked");
        !constant.contains(&key.as_str()) && !key.ends_with(".position_ids") && !counter
    });
    match vision::foreign().find(|form| (form.recognise)(&dict)) {
        Some(form) => (form.convert)(dict),
        None => Ok(dict),
    }
}

fn rename(mut dict: StateDict, name: impl Fn(String) -> String) -> StateDict {
    dict.tensors = dict
        .tensors
        .into_iter()
        .map(|(key, tensor)| (name(key), tensor))
        .collect();
    dict
}

/// Names of modules around modules, which can be anywhere in a key.
const WRAPPERS: [&str; 3] = [
    "_orig_mod.",
    "_fsdp_wrapped_module.",
    "_checkpoint_wrapped_module.",
];

fn strip_wrappers(mut dict: StateDict) -> StateDict {
    for wrapper in WRAPPERS {
        if dict.tensors.keys().any(|key| key.contains(wrapper)) {
            dict = rename(dict, |key| key.replace(wrapper, ""));
        }
    }
    while !dict.tensors.is_empty() && dict.tensors.keys().all(|key| key.starts_with("module.")) {
        dict = rename(dict, |key| key["module.".len()..].to_string());
    }
    dict
}

/// Moves the text tower's keys under `text.` when `custom_text`, and to the root otherwise.
///
/// As in OpenCLIP the place of `positional_embedding` tells where they are; a dict that already fits comes back unchanged.
pub fn with_text_prefix(dict: StateDict, custom_text: bool) -> StateDict {
    let is_text = |key: &str| TEXT_ROOTS.iter().any(|root| key.starts_with(root));
    let at_root = dict.tensors.contains_key("positional_embedding");
    let under_text = dict.tensors.contains_key("text.positional_embedding");
    match (at_root, under_text) {
        (true, false) if custom_text => rename(dict, |key| match is_text(&key) {
            true => format!("text.{key}"),
            false => key,
        }),
        (false, true) if !custom_text => rename(dict, |key| match key.strip_prefix("text.") {
            Some(inner) if is_text(inner) => inner.to_string(),
            _ => key,
        }),
        _ => dict,
    }
}
