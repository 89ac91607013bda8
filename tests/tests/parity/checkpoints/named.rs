//! Files that hold something else than a whole model: each is named for what it is.

use openclip_model::ModelError;
use openclip_model::weights::{
    DType, RawTensor, StateDict, TensorOut, WeightsError, write_safetensors,
};

use super::{data, load, text, write};
use crate::loading;

#[test]
fn what_is_no_whole_model_is_named_for_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.safetensors");
    let cases: [(&[&str], &str); 11] = [
        (
            &[
                "embeddings.class_embedding",
                "embeddings.patch_embedding.weight",
                "encoder.layers.0.mlp.fc1.bias",
            ],
            "an image tower of transformers' CLIP or SigLIP alone",
        ),
        (
            &[
                "base_model.model.visual.proj.lora_A.weight",
                "base_model.model.visual.proj.lora_B.weight",
            ],
            "a LoRA adapter (2 tensors)",
        ),
        (
            &[
                "base_model.model.x.base_layer.weight",
                "base_model.model.x.lora_A.default.weight",
            ],
            "a model with 1 tensor of LoRA adapters beside its own",
        ),
        (
            &["_fsdp_wrapped_module._flat_param"],
            "FSDP's flat parameters",
        ),
        (
            &[
                "patch_embed.proj.weight",
                "blocks.0.attn.qkv.weight",
                "head.weight",
            ],
            "a vision transformer alone, as timm publishes it",
        ),
        (
            &[
                "conv1.weight",
                "bn1.weight",
                "layer1.0.conv1.weight",
                "layer4.0.conv1.weight",
                "fc.weight",
            ],
            "a ResNet alone",
        ),
        (
            &["encoder.layers.encoder_layer_0.ln_1.weight", "class_token"],
            "a vision transformer of torchvision's alone",
        ),
        (
            &[
                "bert.embeddings.word_embeddings.weight",
                "bert.encoder.layer.0.output.dense.weight",
            ],
            "a text encoder alone",
        ),
        (
            &[
                "vision_model.embeddings.class_embedding",
                "vision_model.post_layernorm.weight",
            ],
            "an image tower alone",
        ),
        (
            &["text_model.embeddings.token_embedding.weight"],
            "a text tower alone",
        ),
        (
            &[
                "vision_model.embeddings.class_embedding",
                "text_model.encoder.layer.0.attention.self.query.weight",
            ],
            "Chinese CLIP",
        ),
    ];
    for (keys, words) in cases {
        let tensors = keys.iter().map(|key| TensorOut::f32(key, &[1], &[0.0]));
        write_safetensors(&path, tensors, &Default::default()).unwrap();
        let error = load(&text(&path)).unwrap_err();
        assert!(
            matches!(
                &error,
                ModelError::Weights(WeightsError::NoWholeModel { .. })
            ),
            "{keys:?}: {error}"
        );
        let error = error.to_string();
        assert!(
            error.contains(words) && error.contains("other.safetensors"),
            "{error}"
        );
    }
    let part = |is_image: bool| {
        move |key: &str| match key.starts_with("visual.") == is_image {
            true => vec![key.to_string()],
            false => Vec::new(),
        }
    };
    let inner = |key: &str| {
        key.strip_prefix("visual.")
            .map(String::from)
            .into_iter()
            .collect()
    };
    write(&path, inner, &[]);
    let error = load(&text(&path)).unwrap_err().to_string();
    assert!(
        error.contains("an image tower of OpenCLIP's alone"),
        "{error}"
    );
    for (is_image, words) in [
        (true, "an image tower alone"),
        (false, "a text tower alone"),
    ] {
        write(&path, part(is_image), &[]);
        let error = load(&text(&path)).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn complex_weights_are_named_by_their_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("complex.safetensors");
    let mut dict = StateDict::read(&data("model.safetensors")).unwrap();
    let shape = dict.tensors["logit_scale"].shape.clone();
    let complex = RawTensor::from_bytes(DType::C64, vec![0; 8], shape);
    dict.tensors.insert("logit_scale".into(), complex);
    loading::write(&dict, &path);
    let error = load(&text(&path)).unwrap_err().to_string();
    for words in ["complex.safetensors", "`logit_scale`", "complex"] {
        assert!(error.contains(words), "{error}");
    }
}
