//! Sizes and keys that no model has.

use serde_json::{Map, Value};

use crate::files::error::ModelError;

/// Variants of the native blocks, in either tower.
const FOREIGN_BLOCK_KEYS: [&str; 6] = [
    "qk_norm",
    "scaled_cosine_attn",
    "scale_heads",
    "scale_attn_inner",
    "scale_attn",
    "scale_fc",
];

/// Far beyond any model; a file that says more is damaged, and its sizes could not even be multiplied.
pub(crate) const MAX_EXTENT: usize = 1 << 24;

/// Most patches of a picture, each of which sees all others.
pub(crate) const MAX_PATCHES: usize = 1 << 16;

/// Most tokens of a caption, each of which sees all others.
const MAX_TOKENS: usize = 1 << 14;

/// Most residual blocks of a tower.
const MAX_LAYERS: usize = 1 << 12;

pub(crate) fn check_extent(field: &'static str, extent: usize) -> Result<(), ModelError> {
    match extent {
        1..=MAX_EXTENT => Ok(()),
        _ => Err(ModelError::invalid(
            field,
            format!("{extent}, expected 1 to {MAX_EXTENT}"),
        )),
    }
}

/// Tokens of a caption.
pub(crate) fn check_context(length: usize) -> Result<(), ModelError> {
    match length {
        1..=MAX_TOKENS => Ok(()),
        _ => Err(ModelError::invalid(
            "text_cfg.context_length, or --force-context-length",
            format!("{length}, expected 1 to {MAX_TOKENS} tokens"),
        )),
    }
}

pub(crate) fn check_layers(field: &'static str, layers: usize) -> Result<(), ModelError> {
    match layers {
        ..=MAX_LAYERS => Ok(()),
        _ => Err(ModelError::invalid(
            field,
            format!("{layers}, expected at most {MAX_LAYERS}"),
        )),
    }
}

/// Hidden width of an MLP.
pub(crate) fn check_hidden(
    field: &'static str,
    width: usize,
    ratio: f64,
) -> Result<(), ModelError> {
    match (width as f64 * ratio) as usize {
        1..=MAX_EXTENT => Ok(()),
        hidden => Err(ModelError::invalid(
            field,
            format!("{ratio} gives a hidden width of {hidden}"),
        )),
    }
}

/// Goes through keys that have no field of their own: a key of another family is refused, and so is one that OpenCLIP does not
/// know, unless it is null or false. `inert` tells keys that change nothing in a native tower.
pub(crate) fn check_extra(
    extra: &Map<String, Value>,
    place: &'static str,
    foreign: &[&'static str],
    inert: impl Fn(&str, &Value) -> bool,
) -> Result<(), ModelError> {
    let set = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
    for (key, value) in extra.iter().filter(|(_, value)| set(value)) {
        let families = foreign.iter().chain(&FOREIGN_BLOCK_KEYS);
        if let Some(field) = families.into_iter().find(|known| *known == key) {
            return Err(ModelError::Family {
                field,
                value: value.to_string(),
            });
        }
        if !inert(key, value) {
            return Err(ModelError::invalid(place, format!("unknown key `{key}`")));
        }
    }
    Ok(())
}

/// Which part of an attention block's kind changes nothing.
pub(crate) fn plain_block(key: &str, value: &Value) -> bool {
    key == "output_tokens" || key == "block_type" && value == "default"
}

/// Heads of a timm attention over `width` features.
pub(crate) fn check_heads(heads: usize, width: usize) -> Result<(), ModelError> {
    match heads > 0 && width.is_multiple_of(heads) {
        true => Ok(()),
        false => Err(ModelError::invalid(
            "vision_cfg.timm_kwargs.num_heads",
            format!("{heads} does not divide the width {width}"),
        )),
    }
}
