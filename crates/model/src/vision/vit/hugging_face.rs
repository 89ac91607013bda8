//! The keys of Hugging Face's `CLIPModel`.

use crate::family::keys::Foreign;
use crate::files::weights::{RawTensor, StateDict, WeightsError};

/// A CLIP of Hugging Face's.
pub(super) const CLIP: Foreign = Foreign { recognise, convert };

fn recognise(dict: &StateDict) -> bool {
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

fn convert(mut dict: StateDict) -> Result<StateDict, WeightsError> {
    let tensors = std::mem::take(&mut dict.tensors);
    let converted = &mut dict.tensors;
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
                RawTensor::join(key, &[q, k, v])?,
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
    Ok(dict)
}
