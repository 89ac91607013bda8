//! Key names: from wrappers, other libraries and the other text layout to the model's own.

use std::collections::BTreeMap;

use super::{RawTensor, StateDict, WeightsError, mobileclip, siglip};

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
/// * `module.` (DistributedDataParallel) and `_orig_mod.` (`torch.compile`) are taken off
/// * constants that are saved as if they were weights are dropped: `position_ids`, and OpenAI's `input_resolution`,
///   `context_length` and `vocab_size`
/// * the counters `num_batches_tracked` of BatchNorm are dropped: with a momentum they change nothing
/// * the keys of Hugging Face's `CLIPModel` and `SiglipModel` become OpenCLIP's, and so do Apple's of MobileCLIP
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
    if is_hugging_face_clip(&dict) {
        dict.tensors = from_hugging_face_clip(dict.tensors)?;
    } else if siglip::is_hugging_face(&dict) {
        dict.tensors = siglip::from_hugging_face(&dict)?;
        dict.metadata.extend(siglip::preprocessing());
    } else if let Some(tower) = mobileclip::tower(&dict) {
        dict.metadata.extend(mobileclip::preprocessing(&dict));
        dict.tensors = mobileclip::from_apple(&dict, tower)?;
    }
    Ok(dict)
}

fn rename(mut dict: StateDict, name: impl Fn(String) -> String) -> StateDict {
    dict.tensors = dict
        .tensors
        .into_iter()
        .map(|(key, tensor)| (name(key), tensor))
        .collect();
    dict
}

fn strip_wrappers(mut dict: StateDict) -> StateDict {
    if dict.tensors.keys().any(|key| key.contains("_orig_mod.")) {
        dict = rename(dict, |key| key.replace("_orig_mod.", ""));
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

fn is_hugging_face_clip(dict: &StateDict) -> bool {
    dict.tensors
        .contains_key("vision_model.embeddings.class_embedding")
        && dict
            .tensors
            .contains_key("text_model.embeddings.token_embedding.weight")
}

/// Keys outside the blocks, Hugging Face's name first. Both projections are transposed.
const FIXED: [(&str, &str); 9] = [
    (
        "text_model.embeddings.token_embedding.weight",
        "token_embedding.weight",
    ),
    (
        "text_model.embeddings.position_embedding.weight",
        "positional_embedding",
    ),
    ("text_projection.weight", "text_projection"),
    (
        "vision_model.embeddings.class_embedding",
        "visual.class_embedding",
    ),
    (
        "vision_model.embeddings.patch_embedding.weight",
        "visual.conv1.weight",
    ),
    (
        "vision_model.embeddings.position_embedding.weight",
        "visual.positional_embedding",
    ),
    ("visual_projection.weight", "visual.proj"),
    ("logit_scale", "logit_scale"),
    ("logit_bias", "logit_bias"),
];

/// Beginnings of keys, Hugging Face's name first. `pre_layrnorm` is that library's spelling.
const PREFIXES: [(&str, &str); 5] = [
    ("text_model.encoder.layers.", "transformer.resblocks."),
    ("text_model.final_layer_norm.", "ln_final."),
    (
        "vision_model.encoder.layers.",
        "visual.transformer.resblocks.",
    ),
    ("vision_model.pre_layrnorm.", "visual.ln_pre."),
    ("vision_model.post_layernorm.", "visual.ln_post."),
];

/// Parts of a block's keys.
const IN_BLOCK: [(&str, &str); 5] = [
    (".self_attn.out_proj.", ".attn.out_proj."),
    (".layer_norm1.", ".ln_1."),
    (".layer_norm2.", ".ln_2."),
    (".mlp.fc1.", ".mlp.c_fc."),
    (".mlp.fc2.", ".mlp.c_proj."),
];

/// A key that has no counterpart keeps its name, so that the strict load reports it.
fn from_hugging_face_clip(
    tensors: BTreeMap<String, RawTensor>,
) -> Result<BTreeMap<String, RawTensor>, WeightsError> {
    let mut converted = BTreeMap::new();
    for (key, tensor) in &tensors {
        if let Some((_, name)) = FIXED.iter().find(|(theirs, _)| key == theirs) {
            let tensor = match *name {
                "text_projection" | "visual.proj" => tensor.clone().transposed(),
                _ => tensor.clone(),
            };
            converted.insert(name.to_string(), tensor);
            continue;
        }
        let Some((theirs, ours)) = PREFIXES.iter().find(|(theirs, _)| key.starts_with(theirs))
        else {
            converted.insert(key.clone(), tensor.clone());
            continue;
        };
        let name = format!("{ours}{}", &key[theirs.len()..]);
        if let Some((block, kind)) = name.split_once(".self_attn.q_proj.") {
            let parts =
                ["q", "k", "v"].map(|part| key.replace(".q_proj.", &format!(".{part}_proj.")));
            let [Some(q), Some(k), Some(v)] = parts.each_ref().map(|part| tensors.get(part)) else {
                converted.insert(key.clone(), tensor.clone());
                continue;
            };
            converted.insert(
                format!("{block}.attn.in_proj_{kind}"),
                join(key, &[q, k, v])?,
            );
        } else if name.contains(".self_attn.k_proj.") || name.contains(".self_attn.v_proj.") {
            let q = key
                .replace(".k_proj.", ".q_proj.")
                .replace(".v_proj.", ".q_proj.");
            if !tensors.contains_key(&q) {
                converted.insert(key.clone(), tensor.clone());
            }
        } else {
            let name = IN_BLOCK
                .iter()
                .fold(name, |name, (theirs, ours)| name.replace(theirs, ours));
            converted.insert(name, tensor.clone());
        }
    }
    Ok(converted)
}

/// Joins `parts` along the first axis; in `f32` when their types differ.
pub(super) fn join(key: &str, parts: &[&RawTensor]) -> Result<RawTensor, WeightsError> {
    let Some(first) = parts.first() else {
        return Ok(RawTensor::from_f32(Vec::new(), vec![0]));
    };
    if first.shape.is_empty() || parts.iter().any(|part| part.shape != first.shape) {
        let shapes: Vec<_> = parts.iter().map(|part| &part.shape).collect();
        return Err(WeightsError::Tensor {
            file: Default::default(),
            key: key.to_string(),
            reason: format!("query, key and value of different shapes {shapes:?} cannot be joined"),
        });
    }
    let mut shape = first.shape.clone();
    shape[0] *= parts.len();
    if parts.iter().all(|part| part.dtype == first.dtype) {
        let mut bytes = Vec::new();
        for part in parts {
            bytes.extend(part.to_bytes()?);
        }
        return Ok(RawTensor::from_bytes(first.dtype, bytes, shape));
    }
    let mut values = Vec::new();
    for part in parts {
        values.extend(part.to_f32()?);
    }
    Ok(RawTensor::from_f32(values, shape))
}
