//! Activation and preprocessing that belong to weights.

use std::fs;
use std::path::Path;

use openclip_model::ModelError;
use openclip_model::config::PreprocessConfig;
use openclip_model::factory::{self, CreateOptions, Loaded};
use openclip_model::weights::{CONFIG_METADATA, StateDict, TensorOut, write_safetensors};
use openclip_tests::{Tensors, device, fixture};
use serde_json::{Value, json};

use super::{data, model_config, text};
use crate::loading::{self, NAMES, check_features};

fn create(model: &Path, weights: &Path, options: &CreateOptions) -> Result<Loaded, ModelError> {
    factory::create(&text(model), Some(&text(weights)), &device(), options)
}

/// Writes the small model's weights with metadata.
fn write(path: &Path, hub: &Value) {
    let mut dict = StateDict::read(&data("model.safetensors")).unwrap();
    dict.metadata = [(CONFIG_METADATA.to_string(), hub.to_string())].into();
    loading::write(&dict, path);
}

#[test]
fn settings_beside_weights_win_over_the_configurations() {
    let tensors = Tensors::read("checkpoints/transformers.safetensors");
    // The same architecture with the other activation, as a user writes it down.
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("mine.json");
    let source =
        openclip_model::registry::resolve(&format!("local-dir:{}", data("clip").display()), None);
    let mut config = json!(source.unwrap().config);
    config["quick_gelu"] = false.into();
    fs::write(&model, config.to_string()).unwrap();
    let weights = data("clip").join("model.safetensors.index.json");
    let loaded = create(&model, &weights, &CreateOptions::default()).unwrap();
    check_features(&loaded.model, &tensors, "clip/", NAMES, true);
    assert_eq!(loaded.preprocess.mean, [0.4, 0.5, 0.6]);
    let [word] = loaded.warnings.as_slice() else {
        panic!("{:?}", loaded.warnings);
    };
    assert!(
        word.contains("config.json") && word.contains("QuickGELU"),
        "{word}"
    );
    // A flag wins over everything.
    let options = CreateOptions {
        force_quick_gelu: Some(false),
        ..CreateOptions::default()
    };
    let loaded = create(&model, &weights, &options).unwrap();
    assert!(!loaded.config.quick_gelu);
    assert!(
        loaded.warnings[0].contains("a flag asks for GELU"),
        "{:?}",
        loaded.warnings
    );
}

#[test]
fn settings_of_another_model_beside_weights_are_not_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let weights = folder.path().join("weights.safetensors");
    fs::copy(data("model.safetensors"), &weights).unwrap();
    let config = folder.path().join("config.json");
    let default = PreprocessConfig::default();
    for other in [
        fs::read_to_string(data("clip/config.json")).unwrap(),
        json!({"model_type": "bert", "vision_config": 1}).to_string(),
        "settings of something else".to_string(),
    ] {
        fs::write(&config, other).unwrap();
        let loaded = create(&data("model.json"), &weights, &CreateOptions::default()).unwrap();
        assert!(!loaded.config.quick_gelu && loaded.warnings.is_empty());
        assert_eq!(loaded.preprocess, default);
    }
}

#[test]
fn a_malformed_preprocessing_is_an_error_with_file_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let weights = folder.path().join("weights.safetensors");
    let attempt = || create(&data("model.json"), &weights, &CreateOptions::default());
    for (keys, key) in [
        (json!({"mean": [0.5, 0.5]}), "preprocess_cfg.mean"),
        (json!({"std": "0.5"}), "preprocess_cfg.std"),
        (
            json!({"interpolation": "lanczos"}),
            "preprocess_cfg.interpolation",
        ),
        (json!({"resize_mode": 1}), "preprocess_cfg.resize_mode"),
        (json!([]), "invalid type"),
    ] {
        write(
            &weights,
            &json!({"model_cfg": model_config(), "preprocess_cfg": keys}),
        );
        let error = attempt().unwrap_err().to_string();
        assert!(
            error.contains("weights.safetensors") && error.contains(key),
            "{error}"
        );
    }
    fs::copy(data("model.safetensors"), &weights).unwrap();
    let processor = folder.path().join("preprocessor_config.json");
    for (keys, key) in [
        (json!({"image_mean": [0.5, 0.5]}), "image_mean"),
        (json!({"resample": 1}), "resample"),
        (json!({"do_rescale": false}), "do_rescale"),
        (json!({"rescale_factor": 1.0}), "rescale_factor"),
        (
            json!({"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}),
            "size",
        ),
    ] {
        fs::write(&processor, keys.to_string()).unwrap();
        let error = attempt().unwrap_err().to_string();
        assert!(
            error.contains("preprocessor_config.json") && error.contains(key),
            "{error}"
        );
    }
}

#[test]
fn weights_by_path_are_seen_as_all_published_ones_of_their_model() {
    let folder = tempfile::tempdir().unwrap();
    // A SigLIP's weights under OpenCLIP's keys, without a word about pictures.
    let case: Value = openclip_tests::json("siglip/plain.json");
    let model = folder.path().join("own.json");
    fs::write(&model, case["model_cfg"].to_string()).unwrap();
    let loaded = openclip_tests::family::loaded("siglip/plain");
    let weights = folder.path().join("weights.safetensors");
    let params = openclip_tests::parameters_of(&loaded.model);
    let tensors = params
        .iter()
        .map(|p| TensorOut::f32(&p.key, &p.shape, &p.values));
    write_safetensors(&weights, tensors, &Default::default()).unwrap();
    let found = create(&model, &weights, &CreateOptions::default()).unwrap();
    assert_eq!(found.preprocess, PreprocessConfig::siglip());
    // From random weights training begins as OpenCLIP's does.
    let found = factory::create(&text(&model), None, &device(), &CreateOptions::default()).unwrap();
    assert_eq!(found.preprocess, PreprocessConfig::default());
}

#[test]
fn only_openais_archives_bring_quick_gelu_along() {
    let tensors = Tensors::read("checkpoints/features.safetensors");
    let loaded = create(
        &data("model.json"),
        &data("own_script.pt"),
        &CreateOptions::default(),
    );
    let loaded = loaded.unwrap();
    check_features(&loaded.model, &tensors, "model/", NAMES, false);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("openai.json");
    let config = json!({
        "embed_dim": 16,
        "vision_cfg": {"image_size": 8, "layers": 2, "width": 64, "patch_size": 4},
        "text_cfg": {"context_length": 5, "vocab_size": 30, "width": 64, "heads": 1, "layers": 1},
    });
    fs::write(&model, config.to_string()).unwrap();
    let archive = fixture("weights/openai.pt");
    for (force_quick_gelu, quick) in [(None, true), (Some(true), true), (Some(false), false)] {
        let options = CreateOptions {
            force_quick_gelu,
            ..CreateOptions::default()
        };
        let loaded = create(&model, &archive, &options).unwrap();
        assert_eq!(loaded.config.quick_gelu, quick, "{force_quick_gelu:?}");
    }
}
