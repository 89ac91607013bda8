//! The configuration of an OpenAI state dict, read off its shapes.

use super::StateDict;
use crate::config::{ImageSize, ModelConfig, TextConfig, VisionConfig};

/// Width of an attention head in every OpenAI model.
const HEAD_WIDTH: usize = 64;

/// Configuration of OpenAI's ViT models from the shapes of their weights; `None` for anything else, their ResNets included.
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
    let &[_, embed_dim] = shape("visual.proj")? else {
        return None;
    };
    let &[width, _, _, patch] = shape("visual.conv1.weight")? else {
        return None;
    };
    let &[rows, _] = shape("visual.positional_embedding")? else {
        return None;
    };
    let &[context_length, text_width] = shape("positional_embedding")? else {
        return None;
    };
    let &[vocab_size, _] = shape("token_embedding.weight")? else {
        return None;
    };
    let grid = rows.checked_sub(1)?.isqrt();
    Some(ModelConfig {
        embed_dim,
        vision_cfg: VisionConfig {
            layers: layers("visual.").into(),
            width,
            head_width: HEAD_WIDTH,
            patch_size: Some(patch),
            image_size: ImageSize::Square(patch.checked_mul(grid)?),
            ..VisionConfig::default()
        },
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
