//! Folders with a model: which file is taken, and what is said where none can be.

use std::fs;
use std::path::Path;

use openclip_model::config::{Interpolation, PreprocessConfig, ResizeMode};
use openclip_model::factory::{self, CreateOptions, Loaded};
use openclip_model::registry;
use openclip_model::{ModelError, hub::CacheDirs};
use openclip_tests::{Tensors, device};
use serde_json::json;

use super::{data, load, model_config, same_features, text};
use crate::loading::{NAMES, check_features};

fn local(folder: &Path) -> Result<Loaded, ModelError> {
    let name = format!("local-dir:{}", folder.display());
    factory::create(&name, None, &device(), &CreateOptions::default())
}

/// A folder with the small model's configuration.
fn described() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let hub = json!({"model_cfg": model_config(), "preprocess_cfg": {}});
    fs::write(folder.path().join("open_clip_config.json"), hub.to_string()).unwrap();
    folder
}

fn put(folder: &Path, name: &str) {
    fs::copy(data("model.safetensors"), folder.join(name)).unwrap();
}

#[test]
fn a_folders_only_weights_are_taken_whatever_their_name() {
    for name in [
        "my-clip.safetensors",
        "clip.bin",
        "epoch_3.pt",
        "last.pth",
        "run.ckpt",
    ] {
        let folder = described();
        put(folder.path(), name);
        for other in [
            "optimizer.bin",
            "scheduler.pt",
            "training_args.bin",
            "rng_state.pth",
        ] {
            fs::write(folder.path().join(other), "no weights").unwrap();
        }
        same_features(&local(folder.path()).unwrap(), "model");
        same_features(&load(&text(folder.path())).unwrap(), "model");
    }
    // The same in two formats is one.
    let folder = described();
    put(folder.path(), "clip.safetensors");
    fs::write(folder.path().join("clip.bin"), "no weights").unwrap();
    same_features(&local(folder.path()).unwrap(), "model");
    // What OpenCLIP prefers wins over what is there besides.
    put(folder.path(), "open_clip_model.safetensors");
    put(folder.path(), "other.safetensors");
    fs::write(folder.path().join("model.safetensors"), "no weights").unwrap();
    same_features(&local(folder.path()).unwrap(), "model");
}

#[test]
fn a_folder_without_weights_or_with_several_is_an_error_that_lists_what_is_there() {
    let folder = described();
    fs::write(folder.path().join("notes.txt"), "").unwrap();
    let error = local(folder.path()).unwrap_err().to_string();
    for words in ["no weights", "notes.txt", "open_clip_config.json"] {
        assert!(error.contains(words), "{error}");
    }
    put(folder.path(), "one.safetensors");
    put(folder.path(), "two.pt");
    let error = local(folder.path()).unwrap_err().to_string();
    for words in ["several", "one.safetensors, two.pt", "--pretrained FILE"] {
        assert!(error.contains(words), "{error}");
    }
    // Weights that are named do not need the folder's.
    let name = format!("local-dir:{}", folder.path().display());
    let one = text(&folder.path().join("one.safetensors"));
    let options = CreateOptions::default();
    same_features(
        &factory::create(&name, Some(&one), &device(), &options).unwrap(),
        "model",
    );
}

#[test]
fn shards_are_one_model_and_a_missing_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(data("clip")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let tensors = Tensors::read("checkpoints/transformers.safetensors");
    check_features(
        &local(folder.path()).unwrap().model,
        &tensors,
        "clip/",
        NAMES,
        true,
    );
    // Without the index, the names say that they belong together.
    let index = folder.path().join("model.safetensors.index.json");
    let listed = fs::read_to_string(&index).unwrap();
    fs::remove_file(&index).unwrap();
    check_features(
        &local(folder.path()).unwrap().model,
        &tensors,
        "clip/",
        NAMES,
        true,
    );
    let second = folder.path().join("model-00002-of-00003.safetensors");
    fs::remove_file(&second).unwrap();
    for index_is_there in [false, true] {
        if index_is_there {
            fs::write(&index, &listed).unwrap();
        }
        let error = local(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("of 3 shards, model-00002-of-00003.safetensors is missing"),
            "{error}"
        );
    }
    // An index that lies, or leads elsewhere.
    fs::copy(data("clip/model-00002-of-00003.safetensors"), &second).unwrap();
    let lie = listed.replace("\"logit_scale\"", "\"logit_scale_\"");
    fs::write(&index, lie).unwrap();
    let error = local(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("`logit_scale_`") && error.contains("not in the file"),
        "{error}"
    );
    for place in ["../secret.bin", "/etc/passwd", ".hidden", ""] {
        fs::write(&index, json!({"weight_map": {"a": place}}).to_string()).unwrap();
        let error = local(folder.path()).unwrap_err().to_string();
        assert!(error.contains("no file of the folder"), "{error}");
    }
    fs::write(&index, "{}").unwrap();
    let error = local(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("index.json") && error.contains("weight_map"),
        "{error}"
    );
}

#[test]
fn folders_of_transformers_are_models() {
    let tensors = Tensors::read("checkpoints/transformers.safetensors");
    for name in ["clip", "clip_gelu", "siglip"] {
        let loaded = local(&data(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        check_features(&loaded.model, &tensors, &format!("{name}/"), NAMES, true);
        assert!(loaded.warnings.is_empty(), "{name}: {:?}", loaded.warnings);
        assert_eq!(loaded.config.quick_gelu, name == "clip", "{name}");
        let wanted = match name {
            "siglip" => PreprocessConfig::siglip(),
            _ => PreprocessConfig {
                mean: [0.4, 0.5, 0.6],
                std: [0.2, 0.3, 0.4],
                interpolation: Interpolation::Bilinear,
                resize_mode: ResizeMode::Shortest,
            },
        };
        assert_eq!(loaded.preprocess, wanted, "{name}");
    }
}

#[test]
fn repositories_of_the_cache_are_read_in_every_form() {
    let cache = tempfile::tempdir().unwrap();
    let options = CreateOptions {
        cache_dir: Some(cache.path().to_path_buf()),
        ..CreateOptions::default()
    };
    let caches = CacheDirs::new(Some(cache.path()));
    let tensors = Tensors::read("checkpoints/transformers.safetensors");
    for name in ["clip", "siglip"] {
        let repository = format!("org/{name}");
        let snapshot = caches.repository(&repository).join("snapshots/one");
        fs::create_dir_all(&snapshot).unwrap();
        for entry in fs::read_dir(data(name)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), snapshot.join(entry.file_name())).unwrap();
        }
        let model = format!("hf-hub:{repository}");
        let loaded = factory::create(&model, None, &device(), &options);
        let loaded = loaded.unwrap_or_else(|error| panic!("{name}: {error}"));
        check_features(&loaded.model, &tensors, &format!("{name}/"), NAMES, true);
    }
}

#[test]
fn models_of_transformers_that_are_not_built_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.json");
    for (json, words) in [
        (json!({"model_type": "chinese_clip"}), "`chinese_clip`"),
        (json!({"model_type": "altclip"}), "`altclip`"),
        (json!({"model_type": "siglip2"}), "NaFlex"),
        (
            json!({"architecture": "resnet50", "num_classes": 10}),
            "timm's image tower resnet50",
        ),
        (
            json!({"model_type": "clip", "vision_config": {"hidden_act": "relu"}}),
            "vision_config.hidden_act",
        ),
        (
            json!({"model_type": "clip", "vision_config": {"num_channels": 1}}),
            "num_channels",
        ),
        (
            json!({"model_type": "clip", "text_config": {"num_attention_heads": 0}}),
            "num_attention_heads",
        ),
        (
            json!({"model_type": "clip", "text_config": {"hidden_size": "8"}}),
            "text_config",
        ),
        (
            json!({"model_type": "siglip", "vision_config": {"vision_use_head": false}}),
            "vision_use_head",
        ),
    ] {
        fs::write(&config, json.to_string()).unwrap();
        let error = local(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains(words) && error.contains("config.json"),
            "{error}"
        );
    }
    let adapter = json!({"base_model_name_or_path": "org/clip", "peft_type": "LORA"});
    fs::write(
        folder.path().join("adapter_config.json"),
        adapter.to_string(),
    )
    .unwrap();
    let error = local(folder.path()).unwrap_err().to_string();
    assert!(
        error.contains("an adapter (LoRA) that changes org/clip"),
        "{error}"
    );
}

#[test]
fn a_configuration_with_a_missing_field_is_named_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let hub = folder.path().join("open_clip_config.json");
    let model = json!(model_config());
    for (json, words) in [
        (model.clone(), "missing field `model_cfg`"),
        (
            json!({"model_cfg": {"embed_dim": 2, "vision_cfg": {}}}),
            "missing field `text_cfg`",
        ),
        (
            json!({"model_cfg": model, "preprocess_cfg": {"mean": [1, 2]}}),
            "preprocess_cfg.mean",
        ),
    ] {
        fs::write(&hub, json.to_string()).unwrap();
        let error = local(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains(words) && error.contains("open_clip_config.json"),
            "{error}"
        );
    }
    // A value that no model has is named with the file as well.
    let file = folder.path().join("mine.json");
    let mut config = json!(model_config());
    config["vision_cfg"]["patch_size"] = 0.into();
    fs::write(&file, config.to_string()).unwrap();
    let options = CreateOptions::default();
    let error = factory::create(&text(&file), None, &device(), &options).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("mine.json: vision_cfg.patch_size"),
        "{error}"
    );
    // The configuration of a folder is one without its weights.
    put(folder.path(), "model.safetensors");
    let json = json!({"model_cfg": model_config(), "preprocess_cfg": {"resize_mode": "squash"}});
    fs::write(&hub, json.to_string()).unwrap();
    let source = registry::resolve(&text(&hub), None).unwrap();
    assert_eq!((source.config, source.weights), (model_config(), None));
    assert_eq!(source.preprocess.unwrap().resize_mode, ResizeMode::Squash);
}
