//! The names and layouts of big_vision's SigLIP checkpoints, which are JAX's.

use std::collections::BTreeMap;

use crate::family::keys::Foreign;
use crate::files::config::PreprocessConfig;
use crate::files::weights::{RawTensor, StateDict, WeightsError};

/// Blocks that are stacked in one array, at most.
const MAX_BLOCKS: usize = 1 << 12;

/// A SigLIP of big_vision's.
pub(super) const BIG_VISION: Foreign = Foreign {
    recognise: |dict| dict.tensors.contains_key("img/embedding/kernel"),
    convert,
};

fn convert(mut dict: StateDict) -> Result<StateDict, WeightsError> {
    dict.tensors = rename(&unstack(dict.tensors)?)?;
    dict.preprocess = Some(PreprocessConfig::siglip());
    Ok(dict)
}

fn bad(key: &str, reason: impl Into<String>) -> WeightsError {
    WeightsError::Tensor {
        file: Default::default(),
        key: key.chars().take(200).collect(),
        reason: reason.into(),
    }
}

type Arrays = BTreeMap<String, RawTensor>;

/// Gives every block arrays of its own where all blocks are stacked along the first axis.
fn unstack(arrays: Arrays) -> Result<Arrays, WeightsError> {
    let mut apart = BTreeMap::new();
    for (key, tensor) in arrays {
        let Some((before, after)) = key.split_once("/encoderblock/") else {
            apart.insert(key, tensor);
            continue;
        };
        let blocks = tensor.shape.first().copied().unwrap_or(0);
        if blocks > MAX_BLOCKS {
            let reason = format!("{blocks} blocks, expected at most {MAX_BLOCKS}");
            return Err(bad(&key, reason));
        }
        for block in 0..blocks {
            let one = tensor.rows(block..block + 1);
            let one = one.and_then(|one| one.reshaped(tensor.shape[1..].to_vec()));
            let one = one.ok_or_else(|| bad(&key, "cannot be taken apart"))?;
            apart.insert(format!("{before}/encoderblock_{block}/{after}"), one);
        }
    }
    Ok(apart)
}

/// What OpenCLIP calls the parts of a block or of the attention pool.
struct Names {
    norms: [&'static str; 2],
    mlp: [&'static str; 2],
    out: &'static str,
    /// Which of query, key and value lie in one tensor, and the beginning of its name.
    packed: &'static [(&'static [&'static str], &'static str)],
}

const TRUNK: Names = Names {
    norms: ["norm1.", "norm2."],
    mlp: ["mlp.fc1.", "mlp.fc2."],
    out: "attn.proj.",
    packed: &[(&["query", "key", "value"], "attn.qkv.")],
};

const TEXT: Names = Names {
    norms: ["ln_1.", "ln_2."],
    mlp: ["mlp.c_fc.", "mlp.c_proj."],
    out: "attn.out_proj.",
    packed: &[(&["query", "key", "value"], "attn.in_proj_")],
};

const POOL: Names = Names {
    norms: ["norm.", "norm."],
    mlp: ["mlp.fc1.", "mlp.fc2."],
    out: "proj.",
    packed: &[(&["query"], "q."), (&["key", "value"], "kv.")],
};

/// Layers outside the blocks, big_vision's beginning of the name first.
const LAYERS: [(&str, &str); 4] = [
    ("img/embedding/", "visual.trunk.patch_embed.proj."),
    ("img/Transformer/encoder_norm/", "visual.trunk.norm."),
    ("txt/Encoder_0/encoder_norm/", "text.ln_final."),
    ("txt/head/", "text.text_projection."),
];

/// Parameters that are no layer's.
const FIXED: [(&str, &str); 7] = [
    ("img/pos_embedding", "visual.trunk.pos_embed"),
    ("img/cls", "visual.trunk.cls_token"),
    ("img/MAPHead_0/probe", "visual.trunk.attn_pool.latent"),
    ("txt/Embed_0/embedding", "text.token_embedding.weight"),
    ("txt/pos_embedding", "text.positional_embedding"),
    ("t", "logit_scale"),
    ("b", "logit_bias"),
];

fn rename(arrays: &Arrays) -> Result<Arrays, WeightsError> {
    let mut out = BTreeMap::new();
    for (key, tensor) in arrays {
        if let Some((_, name)) = FIXED.iter().find(|(theirs, _)| key == theirs) {
            let tensor = match (*name, tensor.shape.as_slice()) {
                ("text.positional_embedding", &[1, length, width]) => {
                    tensor.clone().reshaped(vec![length, width])
                }
                _ => None,
            }
            .unwrap_or_else(|| tensor.clone());
            out.insert(name.to_string(), tensor);
            continue;
        }
        if let Some((theirs, name)) = LAYERS.iter().find(|(theirs, _)| key.starts_with(theirs)) {
            let (leaf, tensor) = layer(&key[theirs.len()..], tensor);
            out.insert(format!("{name}{leaf}"), tensor);
            continue;
        }
        let Some((prefix, inner, names, place)) = place(key) else {
            out.insert(key.clone(), tensor.clone());
            continue;
        };
        let Some(part) = inner.strip_prefix("MultiHeadDotProductAttention_0/") else {
            let layers = [
                ("LayerNorm_0/", names.norms[0]),
                ("LayerNorm_1/", names.norms[1]),
                ("MlpBlock_0/Dense_0/", names.mlp[0]),
                ("MlpBlock_0/Dense_1/", names.mlp[1]),
            ];
            match layers.iter().find(|(theirs, _)| inner.starts_with(theirs)) {
                Some((theirs, name)) => {
                    let (leaf, tensor) = layer(&inner[theirs.len()..], tensor);
                    out.insert(format!("{place}{name}{leaf}"), tensor);
                }
                None => {
                    out.insert(key.clone(), tensor.clone());
                }
            }
            continue;
        };
        let unfit = || bad(key, format!("shape {:?} is no attention's", tensor.shape));
        if let Some(leaf) = part.strip_prefix("out/") {
            // [heads, head width, width]
            let flat = match tensor.shape.as_slice() {
                &[heads, head, width] => {
                    product(heads, head).and_then(|rows| tensor.clone().reshaped(vec![rows, width]))
                }
                _ => Some(tensor.clone()),
            };
            let (leaf, tensor) = layer(leaf, &flat.ok_or_else(unfit)?);
            out.insert(format!("{place}{}{leaf}", names.out), tensor);
            continue;
        }
        let Some((role, leaf)) = part.split_once('/') else {
            out.insert(key.clone(), tensor.clone());
            continue;
        };
        let Some((roles, name)) = names
            .packed
            .iter()
            .find(|(roles, _)| roles.first() == Some(&role))
        else {
            // Joined with the first of its group, if that is there.
            let group = names.packed.iter().find(|(roles, _)| roles.contains(&role));
            let first = group.and_then(|(roles, _)| roles.first());
            let first =
                first.map(|first| format!("{prefix}MultiHeadDotProductAttention_0/{first}/{leaf}"));
            if !first.is_some_and(|first| arrays.contains_key(&first)) {
                out.insert(key.clone(), tensor.clone());
            }
            continue;
        };
        let mut parts = Vec::new();
        for role in *roles {
            let key = format!("{prefix}MultiHeadDotProductAttention_0/{role}/{leaf}");
            let Some(tensor) = arrays.get(&key) else {
                return Err(bad(&key, "is missing"));
            };
            parts.push(heads_joined(leaf, tensor).ok_or_else(unfit)?);
        }
        let leaf = if leaf == "kernel" { "weight" } else { leaf };
        let parts: Vec<_> = parts.iter().collect();
        let joined = match parts.as_slice() {
            [one] => (*one).clone(),
            many => RawTensor::join(key, many)?,
        };
        out.insert(format!("{place}{name}{leaf}"), joined);
    }
    Ok(out)
}

/// The block or pool that a key belongs to: its beginning, the rest, the names inside, and OpenCLIP's beginning.
fn place(key: &str) -> Option<(&str, &str, &'static Names, String)> {
    let pool = "img/MAPHead_0/";
    if let Some(inner) = key.strip_prefix(pool) {
        return Some((
            &key[..pool.len()],
            inner,
            &POOL,
            "visual.trunk.attn_pool.".into(),
        ));
    }
    let stacks = [
        (
            "img/Transformer/encoderblock_",
            &TRUNK,
            "visual.trunk.blocks.",
        ),
        (
            "txt/Encoder_0/encoderblock_",
            &TEXT,
            "text.transformer.resblocks.",
        ),
    ];
    stacks.into_iter().find_map(|(theirs, names, ours)| {
        let (block, inner) = key.strip_prefix(theirs)?.split_once('/')?;
        let prefix = &key[..key.len() - inner.len()];
        Some((prefix, inner, names, format!("{ours}{block}.")))
    })
}

/// A dense layer's, convolution's or norm's parameter in PyTorch's name and layout.
fn layer(leaf: &str, tensor: &RawTensor) -> (String, RawTensor) {
    let tensor = tensor.clone();
    match leaf {
        "kernel" if tensor.shape.len() == 4 => ("weight".into(), tensor.permuted([3, 2, 0, 1])),
        "kernel" => ("weight".into(), tensor.transposed()),
        "scale" => ("weight".into(), tensor),
        leaf => (leaf.into(), tensor),
    }
}

/// `[width, heads, head width]` → `[heads·head width, width]`, and a bias `[heads, head width]` to one axis.
fn heads_joined(leaf: &str, tensor: &RawTensor) -> Option<RawTensor> {
    match (leaf, tensor.shape.as_slice()) {
        ("kernel", &[width, heads, head]) => {
            let columns = product(heads, head)?;
            Some(tensor.clone().reshaped(vec![width, columns])?.transposed())
        }
        ("bias", &[heads, head]) => tensor.clone().reshaped(vec![product(heads, head)?]),
        _ => None,
    }
}

fn product(a: usize, b: usize) -> Option<usize> {
    a.checked_mul(b)
}
