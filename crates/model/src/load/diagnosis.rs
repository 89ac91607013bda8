//! What a file is that is no whole model, by its keys.

use crate::files::weights::{Part, StateDict};

/// Parts of the keys of adapters.
const LORA: [&str; 4] = ["lora_A", "lora_B", "lora_embedding", "lora_down"];

/// Models of other kinds: strings that are all in keys, and what has them. The first that fits counts.
const KINDS: [(&[&str], &str); 19] = [
    (
        &["class_embedding", "conv1.weight", "transformer.resblocks."],
        "an image tower of OpenCLIP's alone, without a text tower",
    ),
    (
        &["flat_param"],
        "a part of FSDP's flat parameters, not a state dict: save it again with the state dict type FULL_STATE_DICT",
    ),
    (
        &[
            "text_model.encoder.layer.0.attention.self.",
            "vision_model.",
        ],
        "a Chinese CLIP or AltCLIP of transformers', which is not built here",
    ),
    (
        &["text_model.roberta.", "vision_model."],
        "an AltCLIP of transformers', which is not built here",
    ),
    (
        &["visual_encoder.", "text_encoder."],
        "a BLIP or ALBEF, which is not built here",
    ),
    (
        &["audio_branch."],
        "a CLAP, a model of sound and text, which is not built here",
    ),
    (
        &["prompt_learner."],
        "learned prompts of CoOp and its like, which belong to another model's weights",
    ),
    (
        &["down_blocks.", "up_blocks."],
        "a denoiser of diffusers', which is no contrastive model",
    ),
    (
        &["first_stage_model."],
        "a whole diffusion model, which is no contrastive model",
    ),
    (
        &[
            "embed_tokens.weight",
            "layers.0.self_attn.q_proj.weight",
            "mlp.gate_proj.weight",
        ],
        "a language model, without a tower for pictures",
    ),
    (
        &["embeddings.patch_embedding.weight", "encoder.layers.0."],
        "an image tower of transformers' CLIP or SigLIP alone, without a text tower",
    ),
    (
        &["patch_embed.proj.weight", "blocks.0."],
        "a vision transformer alone, as timm publishes it, without a text tower",
    ),
    (
        &["encoder.layers.encoder_layer_0."],
        "a vision transformer of torchvision's alone, without a text tower",
    ),
    (
        &["embeddings.patch_embeddings.projection.weight"],
        "a vision transformer of transformers' alone, without a text tower",
    ),
    (
        &[
            "layer1.0.conv1.weight",
            "layer4.0.conv1.weight",
            "bn1.weight",
        ],
        "a ResNet alone, as torchvision and timm publish it, without a text tower",
    ),
    (
        &["stages.0.blocks.0.", "head."],
        "an image classifier alone, as timm publishes it, without a text tower",
    ),
    (
        &["features.0.", "classifier."],
        "an image classifier of torchvision's alone, without a text tower",
    ),
    (
        &["embeddings.word_embeddings.weight", "encoder.layer.0."],
        "a text encoder alone, without a tower for pictures",
    ),
    (
        &["shared.weight", "encoder.block.0."],
        "a T5 alone, without a tower for pictures",
    ),
];

/// In words, what holds such tensors and what to do about it; `None` for a whole model, be it another one. `raw` has the file's keys,
/// `normal` OpenCLIP's.
pub(super) fn what(raw: &StateDict, normal: &StateDict) -> Option<String> {
    let has = |part: &str| raw.tensors.keys().any(|key| key.contains(part));
    let adapters = raw.tensors.keys();
    let adapters = adapters.filter(|key| LORA.iter().any(|part| key.contains(part)));
    let adapters = match adapters.count() {
        0 => None,
        1 => Some("1 tensor".to_string()),
        count => Some(format!("{count} tensors")),
    };
    if let Some(adapters) = adapters {
        let merge = "merge them with PEFT's merge_and_unload() and save the whole model";
        return Some(match has(".base_layer.") {
            true => {
                format!("a model with {adapters} of LoRA adapters beside its own: {merge}")
            }
            false => format!(
                "a LoRA adapter ({adapters}), which changes another model's weights: {merge}"
            ),
        });
    }
    let of = |part: Part| {
        let keys = normal.tensors.keys();
        keys.filter(move |key| part.owns(key)).count()
    };
    let (vision, text) = (has("vision_model."), has("text_model."));
    if of(Part::Image) > 0 && of(Part::Text) == 0 || vision && !text {
        return Some("an image tower alone, without a text tower".into());
    }
    if of(Part::Image) == 0 && has("token_embedding.weight") || text && !vision {
        return Some("a text tower alone, without an image tower".into());
    }
    // With a tower of OpenCLIP's it is a model of pictures and text, of whatever families.
    if of(Part::Image) > 0 {
        return None;
    }
    let fits = |(parts, _): &&(&[&str], &str)| parts.iter().all(|part| has(part));
    KINDS.iter().find(fits).map(|(_, what)| what.to_string())
}
