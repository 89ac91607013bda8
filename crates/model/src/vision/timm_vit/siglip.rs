//! The keys of Hugging Face's `SiglipModel`.

use std::collections::BTreeMap;

use crate::family::keys::Foreign;
use crate::files::config::PreprocessConfig;
use crate::files::weights::{RawTensor, StateDict, WeightsError};

/// A SigLIP of Hugging Face's.
pub(super) const SIGLIP: Foreign = Foreign {
    recognise: is_hugging_face,
    convert,
};

fn convert(mut dict: StateDict) -> Result<StateDict, WeightsError> {
    dict.tensors = rename(&dict)?;
    dict.preprocess = Some(PreprocessConfig::siglip());
    Ok(dict)
}

/// Whether the keys are those of a `SiglipModel`.
fn is_hugging_face(dict: &StateDict) -> bool {
    let has = |key: &str| dict.tensors.contains_key(key);
    has("vision_model.head.probe") && has("text_model.embeddings.token_embedding.weight")
}

/// Beginnings of keys, Hugging Face's name first.
const PREFIXES: [(&str, &str); 12] = [
    (
        "vision_model.embeddings.patch_embedding.",
        "visual.trunk.patch_embed.proj.",
    ),
    (
        "vision_model.embeddings.position_embedding.weight",
        "visual.trunk.pos_embed",
    ),
    ("vision_model.encoder.layers.", "visual.trunk.blocks."),
    ("vision_model.post_layernorm.", "visual.trunk.norm."),
    ("vision_model.head.probe", "visual.trunk.attn_pool.latent"),
    (
        "vision_model.head.attention.out_proj.",
        "visual.trunk.attn_pool.proj.",
    ),
    (
        "vision_model.head.layernorm.",
        "visual.trunk.attn_pool.norm.",
    ),
    ("vision_model.head.mlp.", "visual.trunk.attn_pool.mlp."),
    (
        "text_model.embeddings.token_embedding.",
        "text.token_embedding.",
    ),
    (
        "text_model.embeddings.position_embedding.weight",
        "text.positional_embedding",
    ),
    ("text_model.final_layer_norm.", "text.ln_final."),
    ("text_model.head.", "text.text_projection."),
];

const TEXT_LAYERS: (&str, &str) = ("text_model.encoder.layers.", "text.transformer.resblocks.");

/// Parts of a block's keys: Hugging Face's, then those of the image and of the text tower.
const IN_BLOCK: [(&str, [&str; 2]); 5] = [
    (".self_attn.out_proj.", [".attn.proj.", ".attn.out_proj."]),
    (".layer_norm1.", [".norm1.", ".ln_1."]),
    (".layer_norm2.", [".norm2.", ".ln_2."]),
    (".mlp.fc1.", [".mlp.fc1.", ".mlp.c_fc."]),
    (".mlp.fc2.", [".mlp.fc2.", ".mlp.c_proj."]),
];

fn rename(dict: &StateDict) -> Result<BTreeMap<String, RawTensor>, WeightsError> {
    let mut out = BTreeMap::new();
    for (key, tensor) in &dict.tensors {
        if let Some(kind) = key.strip_prefix("vision_model.head.attention.in_proj_") {
            // Query, key and value of the pool: the query goes to a layer of its own.
            let width = tensor.shape.first().map_or(0, |rows| rows / 3);
            let (q, kv) = (tensor.rows(0..width), tensor.rows(width..3 * width));
            if let (Some(q), Some(kv)) = (q, kv) {
                out.insert(format!("visual.trunk.attn_pool.q.{kind}"), q);
                out.insert(format!("visual.trunk.attn_pool.kv.{kind}"), kv);
                continue;
            }
        }
        let prefix = PREFIXES
            .iter()
            .chain([&TEXT_LAYERS])
            .find(|(theirs, _)| key.starts_with(theirs));
        let Some((theirs, ours)) = prefix else {
            out.insert(key.clone(), tensor.clone());
            continue;
        };
        let name = format!("{ours}{}", &key[theirs.len()..]);
        let text = usize::from(key.starts_with(TEXT_LAYERS.0));
        let block = IN_BLOCK.iter().find(|(part, _)| name.contains(part));
        if let Some((part, ours)) = block.filter(|_| key.contains(".layers.")) {
            out.insert(name.replace(part, ours[text]), tensor.clone());
        } else if let Some((block, part)) = name.split_once(".self_attn.") {
            let Some((role, kind)) = part.split_once("_proj.") else {
                out.insert(key.clone(), tensor.clone());
                continue;
            };
            let part = |other: &str| {
                dict.tensors
                    .get(&key.replace(&format!(".{role}_proj."), &format!(".{other}_proj.")))
            };
            match (part("q"), part("k"), part("v")) {
                (Some(q), Some(k), Some(v)) if role == "q" => {
                    let packed = [format!("attn.qkv.{kind}"), format!("attn.in_proj_{kind}")];
                    out.insert(
                        format!("{block}.{}", packed[text]),
                        RawTensor::join(key, &[q, k, v])?,
                    );
                }
                (Some(_), Some(_), Some(_)) => {}
                _ => {
                    out.insert(key.clone(), tensor.clone());
                }
            }
        } else {
            let tensor = match (name.as_str(), tensor.shape.as_slice()) {
                ("visual.trunk.pos_embed", &[rows, width]) => {
                    tensor.clone().reshaped(vec![1, rows, width])
                }
                _ => None,
            }
            .unwrap_or_else(|| tensor.clone());
            out.insert(name, tensor);
        }
    }
    Ok(out)
}
