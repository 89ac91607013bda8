//! Checkpoints into models: features after the load against those of upstream's `load_checkpoint`, of `transformers`, and of
//! OpenAI's archives. `tests/parity/export_weights.py` made the fixtures.

use std::path::{Path, PathBuf};

use openclip_model::config::{ImageSize, Interpolation, ResizeMode};
use openclip_model::factory::{self, CreateOptions, Loaded};
use openclip_model::weights::{
    DType, Difference, RawTensor, StateDict, TensorOut, WeightsError, write_safetensors,
};
use openclip_model::{Clip, ModelError, params};
use openclip_tests::family::{self, create};
use openclip_tests::{
    Tensors, device, finite, fixture, json, max_difference, parameters_of, values,
};
use serde_json::json;

/// f32 sums in another order than PyTorch's, on weights with a deviation of 0.3 to 0.4.
const FEATURES: f32 = 1e-4;

fn load(config: &serde_json::Value, weights: &str) -> Loaded {
    create(
        config,
        &fixture(&format!("weights/{weights}")),
        &CreateOptions::default(),
    )
    .unwrap_or_else(|error| panic!("{weights}: {error}"))
}

pub fn check_features(
    model: &Clip,
    tensors: &Tensors,
    prefix: &str,
    names: [&str; 2],
    normalize: bool,
) {
    let image = model.encode_image(
        tensors.tensor(&format!("{prefix}input/image"), &device()),
        normalize,
    );
    let text = model.encode_text(
        tensors.tokens(&format!("{prefix}input/text"), &device()),
        normalize,
    );
    for (name, found) in names.into_iter().zip([image, text]) {
        let wanted = tensors.get(&format!("{prefix}{name}")).1;
        let difference = max_difference(&values(found), wanted);
        assert!(difference <= FEATURES, "{prefix}{name}: {difference:e}");
    }
}

pub const NAMES: [&str; 2] = ["image_features", "text_features"];

#[test]
fn checkpoints_of_other_sizes_load_as_in_open_clip() {
    let cases = json("weights/load.json");
    let cases = cases.as_object().unwrap();
    assert_eq!(cases.len(), 9);
    let tensors = Tensors::read("weights/load.safetensors");
    for (name, case) in cases {
        let loaded = load(&case["model_cfg"], case["checkpoint"].as_str().unwrap());
        check_features(&loaded.model, &tensors, &format!("{name}/"), NAMES, false);
        if let Some(bias) = &loaded.model.logit_bias {
            assert_eq!(
                values(bias.val()),
                tensors.get(&format!("{name}/logit_bias")).1,
                "{name}"
            );
        }
        assert!(loaded.warnings.is_empty(), "{name}: {:?}", loaded.warnings);
    }
}

#[test]
fn another_picture_size_may_be_forced() {
    let cases = json("weights/load.json");
    let tensors = Tensors::read("weights/load.safetensors");
    for (name, size) in [
        ("larger_picture", ImageSize::Square(22)),
        ("wide_picture", ImageSize::Rect([12, 28])),
    ] {
        let options = CreateOptions {
            force_image_size: Some(size),
            ..CreateOptions::default()
        };
        let path = fixture("weights/load_root.pt");
        let loaded = create(&cases["same"]["model_cfg"], &path, &options).unwrap();
        check_features(&loaded.model, &tensors, &format!("{name}/"), NAMES, false);
    }
}

#[test]
fn clip_model_of_transformers() {
    let config = json!({
        "embed_dim": 4,
        "vision_cfg": {"image_size": 8, "layers": 2, "width": 8, "head_width": 4, "patch_size": 4},
        "text_cfg": {"context_length": 6, "vocab_size": 20, "width": 8, "heads": 2, "layers": 2},
        "quick_gelu": true,
    });
    let loaded = load(&config, "hf.safetensors");
    check_features(
        &loaded.model,
        &Tensors::read("weights/hf_features.safetensors"),
        "",
        NAMES,
        true,
    );
}

#[test]
fn openai_archive_gets_quick_gelu() {
    let config = |quick_gelu: bool| {
        json!({
            "embed_dim": 16,
            "vision_cfg": {"image_size": 8, "layers": 2, "width": 64, "patch_size": 4},
            "text_cfg": {"context_length": 5, "vocab_size": 30, "width": 64, "heads": 1, "layers": 1},
            "quick_gelu": quick_gelu,
        })
    };
    let tensors = Tensors::read("weights/openai_features.safetensors");
    let loaded = load(&config(true), "openai.pt");
    check_features(&loaded.model, &tensors, "", NAMES, false);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let forced = load(&config(false), "openai.pt");
    check_features(&forced.model, &tensors, "", NAMES, false);
    assert!(
        forced.warnings[0].contains("QuickGELU"),
        "{:?}",
        forced.warnings
    );
    assert!(forced.config.quick_gelu);
}

/// The tensors of the small checkpoint under OpenCLIP's keys.
pub fn small() -> (serde_json::Value, StateDict) {
    let cases = json("weights/load.json");
    let dict = StateDict::read(&fixture("weights/load_root.pt")).unwrap();
    (cases["same"]["model_cfg"].clone(), dict)
}

pub fn write(dict: &StateDict, path: &Path) {
    let bytes: Vec<_> = dict
        .tensors
        .iter()
        .map(|(key, tensor)| (key, tensor, tensor.to_bytes().unwrap()))
        .collect();
    let tensors = bytes.into_iter().map(|(key, tensor, bytes)| TensorOut {
        key,
        dtype: tensor.dtype,
        shape: &tensor.shape,
        bytes: bytes.into(),
    });
    write_safetensors(path, tensors, &dict.metadata).unwrap();
}

#[test]
fn a_checkpoint_that_does_not_fit_lists_every_key() {
    let (config, mut dict) = small();
    let mut missing = ["ln_final.bias", "logit_scale", "visual.class_embedding"].map(String::from);
    for key in &missing {
        dict.tensors.remove(key).unwrap();
    }
    let mut unexpected = ["visual.extra", "optimizer.state"].map(String::from);
    for key in &unexpected {
        dict.tensors
            .insert(key.clone(), RawTensor::from_f32(vec![0.0; 2], vec![2]));
    }
    let reshaped = [
        ("visual.proj", vec![6, 5], vec![5, 6]),
        ("token_embedding.weight", vec![20, 4], vec![21, 4]),
    ];
    for (key, _, shape) in &reshaped {
        let count = shape.iter().product();
        dict.tensors.insert(
            key.to_string(),
            RawTensor::from_f32(vec![0.0; count], shape.clone()),
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.safetensors");
    write(&dict, &path);
    let error = create(&config, &path, &CreateOptions::default()).unwrap_err();
    let text = error.to_string();
    let ModelError::Weights(WeightsError::Mismatch { file, difference }) = error else {
        panic!("{text}");
    };
    let Difference {
        families,
        missing: no,
        unexpected: extra,
        mut shapes,
    } = *difference;
    assert_eq!(file, path);
    assert_eq!(families, [], "the same family");
    let sorted = |mut keys: Vec<String>| {
        keys.sort();
        keys
    };
    missing.sort();
    unexpected.sort();
    assert_eq!(sorted(no), missing);
    assert_eq!(sorted(extra), unexpected);
    shapes.sort();
    let wanted = reshaped
        .clone()
        .map(|(key, model, file)| (key.to_string(), model, file));
    assert_eq!(shapes, [wanted[1].clone(), wanted[0].clone()]);
    for (key, ..) in reshaped {
        assert!(text.contains(key), "{text}");
    }
    for key in missing.iter().chain(&unexpected) {
        assert!(text.contains(key.as_str()), "{text}");
    }
}

/// The features of a fixture, from weights in a file and a configuration that lacks what `options` force.
#[test]
fn forced_options_are_those_of_open_clip() {
    let case = json("models/vit_quickgelu.json");
    let tensors = Tensors::read("models/vit_quickgelu.safetensors");
    let names = ["output/image_features", "output/text_features"];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    write(
        &openclip_tests::fixture_tensors("models/vit_quickgelu.safetensors", "weights/"),
        &path,
    );
    let mut config = case["model_cfg"].clone();
    config["quick_gelu"] = false.into();
    for force_custom_text in [false, true] {
        let options = CreateOptions {
            force_quick_gelu: Some(true),
            force_custom_text,
            force_patch_dropout: Some(0.5),
            ..CreateOptions::default()
        };
        let loaded = create(&config, &path, &options).unwrap();
        check_features(&loaded.model, &tensors, "", names, false);
        assert_eq!(loaded.config.vision_cfg.patch_dropout, 0.5);
        let keys: Vec<_> = params::describe(&loaded.model)
            .into_iter()
            .map(|param| param.key)
            .collect();
        assert_eq!(
            keys.contains(&"text.ln_final.bias".to_string()),
            force_custom_text
        );
        assert_eq!(
            keys.contains(&"ln_final.bias".to_string()),
            !force_custom_text
        );
    }
}

#[test]
fn the_activation_that_weights_were_trained_with_wins_loudly() {
    let folder = tempfile::tempdir().unwrap();
    for (name, quick_gelu) in [("vit_plain", false), ("vit_quickgelu", true)] {
        let loaded = family::loaded(&format!("models/{name}"));
        let path = folder.path().join(format!("{name}.safetensors"));
        loaded.save(&path).unwrap();
        let mut config = serde_json::to_value(&loaded.config).unwrap();
        for (asked, warned) in [(quick_gelu, false), (!quick_gelu, true)] {
            config["quick_gelu"] = asked.into();
            let again = create(&config, &path, &CreateOptions::default()).unwrap();
            assert_eq!(
                again.warnings.len(),
                usize::from(warned),
                "{name}: {:?}",
                again.warnings
            );
            assert_eq!(again.config.quick_gelu, quick_gelu, "{name}");
            let options = CreateOptions {
                force_quick_gelu: Some(asked),
                ..CreateOptions::default()
            };
            let forced = create(&config, &path, &options).unwrap();
            assert_eq!(forced.config.quick_gelu, asked, "{name}");
            assert_eq!(forced.warnings.len(), usize::from(warned), "{name}");
        }
    }
}

/// The folder that `open_clip.push_to_hf_hub` writes.
#[test]
fn a_hub_folder_is_a_model() {
    let cases = json("weights/load.json");
    let tensors = Tensors::read("weights/load.safetensors");
    let folder = tempfile::tempdir().unwrap();
    let hub = json!({
        "model_cfg": cases["same"]["model_cfg"],
        "preprocess_cfg": {
            "size": [12, 12], "mode": "RGB", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3],
            "interpolation": "bilinear", "resize_mode": "squash", "fill_color": 0,
        },
    });
    std::fs::write(folder.path().join("open_clip_config.json"), hub.to_string()).unwrap();
    let name = format!("local-dir:{}", folder.path().display());
    let create =
        |pretrained| factory::create(&name, pretrained, &device(), &CreateOptions::default());
    std::fs::copy(
        fixture("weights/load_root.pt"),
        folder.path().join("open_clip_pytorch_model.bin"),
    )
    .unwrap();
    let loaded = create(None).unwrap();
    check_features(&loaded.model, &tensors, "same/", NAMES, false);
    let preprocess = &loaded.preprocess;
    assert_eq!(
        (preprocess.mean, preprocess.std),
        ([0.5, 0.4, 0.3], [0.2, 0.25, 0.3])
    );
    assert_eq!(
        (preprocess.interpolation, preprocess.resize_mode),
        (Interpolation::Bilinear, ResizeMode::Squash)
    );
    // The safetensors file comes first.
    let dict = StateDict::read(&fixture("weights/load_root.pt")).unwrap();
    std::fs::write(
        folder.path().join("open_clip_pytorch_model.bin"),
        b"no weights",
    )
    .unwrap();
    assert!(create(None).is_err());
    write(&dict, &folder.path().join("open_clip_model.safetensors"));
    check_features(
        &create(None).unwrap().model,
        &tensors,
        "same/",
        NAMES,
        false,
    );
    let error = create(Some("laion2b")).unwrap_err().to_string();
    assert!(error.contains("--pretrained laion2b"), "{error}");
}

/// A width that differs cannot be fitted by resizing.
#[test]
fn positions_of_another_width_are_not_resized() {
    let (config, mut dict) = small();
    for (key, shape) in [
        ("visual.positional_embedding", [10, 7]),
        ("positional_embedding", [8, 5]),
    ] {
        let count = shape.iter().product();
        dict.tensors.insert(
            key.into(),
            RawTensor::from_f32(vec![0.0; count], shape.to_vec()),
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wide.safetensors");
    write(&dict, &path);
    let text = create(&config, &path, &CreateOptions::default())
        .unwrap_err()
        .to_string();
    assert!(text.contains("2 of another shape"), "{text}");
    assert!(
        text.contains(
            "\n  shape       visual.positional_embedding: the model has [10, 6], the file [10, 7]"
        ),
        "{text}"
    );
}

#[test]
fn half_precision_files_load_as_their_rounded_values() {
    let (config, dict) = small();
    let folder = tempfile::tempdir().unwrap();
    for dtype in [DType::F16, DType::BF16] {
        let path = folder.path().join(format!("{dtype:?}.safetensors"));
        let rounded: Vec<(String, Vec<usize>, Vec<u8>)> = dict
            .tensors
            .iter()
            .map(|(key, tensor)| {
                let values = tensor.to_f32().unwrap();
                let bytes = values.iter().flat_map(|value| match dtype {
                    DType::F16 => f16_bits(*value).to_le_bytes(),
                    _ => ((value.to_bits() >> 16) as u16).to_le_bytes(),
                });
                (key.clone(), tensor.shape.clone(), bytes.collect())
            })
            .collect();
        let tensors = rounded.iter().map(|(key, shape, bytes)| TensorOut {
            key,
            dtype,
            shape,
            bytes: bytes.into(),
        });
        write_safetensors(&path, tensors, &Default::default()).unwrap();
        let loaded = create(&config, &path, &CreateOptions::default()).unwrap();
        for param in parameters_of(&loaded.model) {
            let exact = finite(dict.tensors[&param.key].to_f32().unwrap());
            // Eleven and eight bits.
            let step = if dtype == DType::F16 {
                1.0 / 1024.0
            } else {
                1.0 / 128.0
            };
            for (found, exact) in param.values.iter().zip(exact) {
                assert!(
                    (found - exact).abs() <= step * exact.abs() + 1e-7,
                    "{}: {found} from {exact}",
                    param.key
                );
            }
        }
    }
}

/// Truncation to f16 of values in its normal range, else zero.
fn f16_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    let exponent = ((bits >> 23) & 0xff) as i32 - 127 + 15;
    if !(1..31).contains(&exponent) {
        return 0;
    }
    ((bits >> 16) & 0x8000) as u16 | ((exponent as u16) << 10) | ((bits >> 13) & 0x3ff) as u16
}

#[test]
fn what_is_saved_loads_with_equal_values() {
    let names = [
        "vit_plain",
        "vit_clipa",
        "custom_text_proj_bias",
        "logit_bias_root",
        "text_pool_eos",
        "vit_sin_cos",
    ];
    for name in names {
        let loaded = family::loaded(&format!("models/{name}"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        loaded.save(&path).unwrap();
        let config = serde_json::to_value(&loaded.config).unwrap();
        let again = create(&config, &path, &CreateOptions::default()).unwrap();
        assert_eq!(again.config, loaded.config);
        assert_eq!(again.preprocess, loaded.preprocess);
        let (before, after) = (parameters_of(&loaded.model), parameters_of(&again.model));
        assert_eq!(before.len(), after.len());
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(
                (&before.key, &before.shape, &before.values),
                (&after.key, &after.shape, &after.values),
                "{name}"
            );
        }
        // A Burn record holds the same.
        let record = folder.path().join("model.bpk");
        loaded.save_record(&record).unwrap();
        let again = create(&config, &record, &CreateOptions::default()).unwrap();
        for (before, after) in before.iter().zip(&parameters_of(&again.model)) {
            assert_eq!(
                (&before.key, &before.values),
                (&after.key, &after.values),
                "{name}, record"
            );
        }
    }
}

/// Writes what `tests/parity/check_saved.py` loads into Python's OpenCLIP: `OPENCLIP_SAVED_DIR/FAMILY/CASE/` in the hub layout with
/// features beside it.
#[test]
#[ignore = "writes to OPENCLIP_SAVED_DIR for check_saved.py"]
fn write_for_python() {
    let folder = PathBuf::from(std::env::var("OPENCLIP_SAVED_DIR").expect("OPENCLIP_SAVED_DIR"));
    let cases = ["models", "resnet"].map(|family| family::cases(&fixture(family)));
    for path in cases.concat() {
        let loaded = family::loaded(&path);
        let place = Path::new(&path).strip_prefix(fixture("")).unwrap();
        let folder = folder.join(place);
        family::save_folder(&loaded, &folder);
        let tensors = Tensors::read(&format!("{path}.safetensors"));
        let image = tensors.tensor("input/image", &device());
        let text = tensors.tokens("input/text", &device());
        let features = [
            ("image_features", loaded.model.encode_image(image, true)),
            ("text_features", loaded.model.encode_text(text, true)),
        ]
        .map(|(name, features)| (name, features.dims(), values(features)));
        let out = features
            .iter()
            .map(|(name, shape, values)| TensorOut::f32(name, shape, values));
        let file = folder.join("features.safetensors");
        write_safetensors(&file, out, &Default::default()).unwrap();
    }
}
