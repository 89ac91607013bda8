//! The keys of Apple's own MobileCLIP checkpoints (`convert.py::convert_mobile_clip_state_dict`, timm's
//! `checkpoint_filter_fn`).

use std::collections::{BTreeMap, BTreeSet};

use crate::family::keys::Foreign;
use crate::files::config::{Interpolation, PreprocessConfig};
use crate::files::weights::{RawTensor, StateDict, WeightsError};

const IMAGE: &str = "image_encoder.model.";
const TEXT: &str = "text_encoder.";

/// A MobileCLIP of Apple's, with either of its image towers.
pub(super) const APPLE: Foreign = Foreign {
    recognise: |dict| tower(dict).is_some(),
    convert,
};

fn convert(mut dict: StateDict) -> Result<StateDict, WeightsError> {
    if let Some(tower) = tower(&dict) {
        dict.preprocess = Some(preprocessing(&dict));
        dict.tensors = rename(&dict, tower)?;
    }
    Ok(dict)
}

/// Image towers in Apple's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tower {
    FastVit,
    Vit,
}

/// Which tower the keys belong to, where they are Apple's.
fn tower(dict: &StateDict) -> Option<Tower> {
    let has = |key: &str| dict.tensors.contains_key(&format!("{IMAGE}{key}"));
    if has("patch_embed.0.rbr_conv.0.conv.weight") {
        Some(Tower::FastVit)
    } else if has("patch_emb.0.block.conv.weight") {
        Some(Tower::Vit)
    } else {
        None
    }
}

/// Parts of FastViT's keys, Apple's name first.
const FASTVIT_PARTS: [(&str, &str); 9] = [
    ("patch_embed", "stem"),
    ("rbr_conv", "conv_kxk"),
    ("rbr_scale", "conv_scale"),
    ("rbr_skip", "identity"),
    ("conv_exp", "final_conv"),
    ("lkb_origin", "large_conv"),
    ("convffn", "mlp"),
    ("se.reduce", "se.fc1"),
    ("se.expand", "se.fc2"),
];

/// Parts of the ViT's keys.
const VIT_PARTS: [(&str, &str); 11] = [
    ("patch_emb.", "patch_embed.backbone."),
    ("block.conv", "conv"),
    ("block.norm", "bn"),
    ("post_transformer_norm.", "norm."),
    ("pre_norm_mha.0", "norm1"),
    ("pre_norm_mha.1", "attn"),
    ("pre_norm_ffn.0", "norm2"),
    ("pre_norm_ffn.1", "mlp.fc1"),
    ("pre_norm_ffn.4", "mlp.fc2"),
    ("qkv_proj.", "qkv."),
    ("out_proj.", "proj."),
];

/// Parts of the text tower's keys.
const TEXT_PARTS: [(&str, &str); 10] = [
    ("projection_layer", "text_projection"),
    ("embedding_layer", "token_embedding"),
    ("final_layer_norm", "ln_final"),
    ("pre_norm_mha.0", "ln_1"),
    ("pre_norm_mha.1", "attn"),
    ("pre_norm_ffn.0", "ln_2"),
    ("pre_norm_ffn.1", "mlp.c_fc"),
    ("pre_norm_ffn.4", "mlp.c_proj"),
    ("qkv_proj.weight", "in_proj_weight"),
    ("qkv_proj.bias", "in_proj_bias"),
];

/// Apple's name of the positions in either tower, behind the tower's prefix.
const VIT_POSITIONS: &str = "pos_embed.pos_embed.pos_embed";
const TEXT_POSITIONS: &str = "positional_embedding.pos_embed.pos_embed";

fn renamed(key: &str, parts: &[(&str, &str)]) -> String {
    let key = key.to_string();
    parts
        .iter()
        .fold(key, |key, (theirs, ours)| key.replace(theirs, ours))
}

/// To OpenCLIP's keys. What belongs to neither tower is left out, as in OpenCLIP.
///
/// # Errors
/// A projection of the image tower is no matrix.
fn rename(dict: &StateDict, tower: Tower) -> Result<BTreeMap<String, RawTensor>, WeightsError> {
    let ends = stage_ends(dict);
    let mut out = BTreeMap::new();
    for (key, tensor) in &dict.tensors {
        if key == "logit_scale" {
            out.insert(key.clone(), tensor.clone());
        } else if let Some(name) = key.strip_prefix(TEXT) {
            let (name, tensor) = text(name, tensor);
            out.insert(name, tensor);
        } else if let Some(name) = key.strip_prefix(IMAGE) {
            let (projection, layer, converted) = match tower {
                Tower::FastVit => ("head.proj", "head.fc", fastvit(name, &ends)),
                Tower::Vit => ("classifier.proj", "head", vit(name)),
            };
            if name == projection {
                let &[_, features] = tensor.shape.as_slice() else {
                    return Err(WeightsError::Tensor {
                        file: Default::default(),
                        key: key.clone(),
                        reason: format!("a projection is a matrix, not {:?}", tensor.shape),
                    });
                };
                let place = format!("visual.trunk.{layer}");
                out.insert(format!("{place}.weight"), tensor.clone().transposed());
                let zeros = RawTensor::from_f32(vec![0.0; features], vec![features]);
                out.insert(format!("{place}.bias"), zeros);
                continue;
            }
            let squeezed = match name {
                VIT_POSITIONS => squeezed(tensor),
                _ => tensor.clone(),
            };
            out.insert(format!("visual.trunk.{converted}"), squeezed);
        }
    }
    Ok(out)
}

fn text(name: &str, tensor: &RawTensor) -> (String, RawTensor) {
    if name == TEXT_POSITIONS {
        let mut tensor = tensor.clone();
        while tensor.shape.first() == Some(&1) && tensor.shape.len() > 2 {
            tensor = squeezed(&tensor);
        }
        return ("text.positional_embedding".into(), tensor);
    }
    let name = renamed(name, &TEXT_PARTS).replace("transformer.", "transformer.resblocks.");
    (format!("text.{name}"), tensor.clone())
}

/// Without a first axis of length one.
fn squeezed(tensor: &RawTensor) -> RawTensor {
    let reshaped = match tensor.shape.split_first() {
        Some((1, rest)) => tensor.clone().reshaped(rest.to_vec()),
        _ => None,
    };
    reshaped.unwrap_or_else(|| tensor.clone())
}

fn vit(name: &str) -> String {
    match name {
        VIT_POSITIONS => "pos_embed".into(),
        _ => renamed(name, &VIT_PARTS).replace("transformer.", "blocks."),
    }
}

/// Apple numbers downsampling, position encoding and blocks through; `ends` are the numbers of the downsamplings.
fn fastvit(name: &str, ends: &BTreeSet<usize>) -> String {
    let mut name = renamed(name, &FASTVIT_PARTS);
    let last = name.rsplit('.').next().unwrap_or_default();
    if ["layer_scale", "layer_scale_1", "layer_scale_2"].contains(&last) {
        name.push_str(".gamma");
    }
    let Some((number, rest)) = layer_number(&name) else {
        return name;
    };
    let stage = ends.range(..=number).count();
    if let Some(rest) = rest.strip_prefix("proj.") {
        format!("stages.{stage}.downsample.proj.{rest}")
    } else if let Some(rest) = rest.strip_prefix("pe.") {
        format!("stages.{stage}.pos_emb.pos_enc.{rest}")
    } else {
        format!("stages.{stage}.blocks.{rest}")
    }
}

/// `network.7.0.norm.weight` → 7 and `0.norm.weight`.
fn layer_number(name: &str) -> Option<(usize, &str)> {
    let (number, rest) = name.strip_prefix("network.")?.split_once('.')?;
    Some((number.parse().ok()?, rest))
}

fn stage_ends(dict: &StateDict) -> BTreeSet<usize> {
    let names = dict
        .tensors
        .keys()
        .filter_map(|key| key.strip_prefix(IMAGE));
    let layers = names.filter_map(layer_number);
    layers
        .filter(|(_, rest)| rest.starts_with("proj."))
        .map(|(number, _)| number)
        .collect()
}

/// How the models see a picture. Those of five stages, MobileCLIP2's larger ones, see it as OpenAI's.
fn preprocessing(dict: &StateDict) -> PreprocessConfig {
    let own = PreprocessConfig {
        interpolation: Interpolation::Bilinear,
        ..PreprocessConfig::default()
    };
    match stage_ends(dict).len() {
        ..4 => PreprocessConfig {
            mean: [0.0; 3],
            std: [1.0; 3],
            ..own
        },
        _ => own,
    }
}
