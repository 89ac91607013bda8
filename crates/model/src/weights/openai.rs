//! The configuration of an OpenAI state dict, read off its shapes.

use super::StateDict;
use crate::config::{ImageSize, ModelConfig, REDUCTION, TextConfig, VisionConfig};

/// Width of an attention head in every OpenAI model.
const HEAD_WIDTH: usize = 64;

/// Configuration of OpenAI's models from the shapes of their weights; `None` for anything else.
///
/// The dict has its text tower at the root (see [`keys::with_text_prefix`](super::keys::with_text_prefix)).
pub fn infer_openai_config(dict: &StateDict) -> Option<ModelConfig> {
    let shape = |key: &str| dict.tensors.get(key).map(|tensor| tensor.shape.as_slice());
    let layers = |prefix: &str| {
        let blocks = dict.tensors.keys().filter(|key| key.starts_with(prefix));
        blocks
            .filter(|key| key.ends_with(".attn.in_proj_weight"))
            .count()
    };
    let &[context_length, text_width] = shape("positional_embedding")? else {
        return None;
    };
    let &[vocab_size, _] = shape("token_embedding.weight")? else {
        return None;
    };
    let &[_, embed_dim] = shape("text_projection")? else {
        return None;
    };
    let vision_cfg = match dict.tensors.contains_key("visual.proj") {
        true => transformer(dict, layers("visual."))?,
        false => resnet(dict)?,
    };
    Some(ModelConfig {
        embed_dim,
        vision_cfg,
        text_cfg: TextConfig {
            context_length,
            vocab_size,
            width: text_width,
            heads: text_width / HEAD_WIDTH,
            layers: layers("transformer."),
            ..TextConfig::default()
        },
        quick_gelu: true,
        custom_text: false,
        init_logit_scale: None,
        init_logit_bias: None,
        extra: Default::default(),
    })
}

fn transformer(dict: &StateDict, layers: usize) -> Option<VisionConfig> {
    let &[width, _, _, patch] = dict.tensors.get("visual.conv1.weight")?.shape.as_slice() else {
        return None;
    };
    let grid = side(dict, "visual.positional_embedding")?;
    Some(VisionConfig {
        layers: layers.into(),
        width,
        head_width: HEAD_WIDTH,
        patch_size: Some(patch),
        image_size: ImageSize::Square(patch.checked_mul(grid)?),
        ..VisionConfig::default()
    })
}

fn resnet(dict: &StateDict) -> Option<VisionConfig> {
    let width = *dict
        .tensors
        .get("visual.layer1.0.conv1.weight")?
        .shape
        .first()?;
    let side = side(dict, "visual.attnpool.positional_embedding")?;
    // Bottlenecks of a stage are counted without gaps.
    let blocks = |stage: usize| {
        let first = |block: &usize| format!("visual.layer{stage}.{block}.conv1.weight");
        (0..)
            .take_while(|block| dict.tensors.contains_key(&first(block)))
            .count()
    };
    Some(VisionConfig {
        layers: [1, 2, 3, 4].map(blocks).to_vec().into(),
        width,
        head_width: HEAD_WIDTH,
        patch_size: None,
        image_size: ImageSize::Square(side.checked_mul(REDUCTION)?),
        ..VisionConfig::default()
    })
}

/// Side of the square that positions behind a first one are for.
fn side(dict: &StateDict, key: &str) -> Option<usize> {
    let rows = dict.tensors.get(key)?.shape.first()?;
    Some(rows.checked_sub(1)?.isqrt())
}
