//! ViTamin against `open_clip`: outputs, gradients, state dicts, initial weights, stochastic depth, other picture sizes, loading
//! and saving. `tests/parity/export_vitamin.py` made the fixtures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use burn::tensor::DType;
use openclip_model::layers::drop_path::drop_path_shares;
use openclip_model::{Clip, params, registry};
use openclip_tests::family::{self, FEATURES, cases, config as evaluated};
use openclip_tests::{
    Tensors, device, fixture, json, max_difference, model, relative_difference, values,
};
use openclip_train::loss::ClipLoss;

#[test]
fn features_loss_and_gradients() {
    family::same_models(&cases(&fixture("vitamin")));
}

#[test]
#[ignore = "needs models of `export_vitamin.py --fuzz`"]
fn random_models() {
    family::same_models(&family::random_cases());
}

/// Without positional embedding a model takes pictures of any size.
#[test]
fn pictures_of_other_sizes() {
    let expected = Tensors::read("vitamin/sizes.safetensors");
    let model = model(
        &evaluated("vitamin/no_positions"),
        "vitamin/no_positions.safetensors",
        "weights/",
        &device(),
    );
    for size in ["16x16", "41x7", "49x33"] {
        let image = expected.tensor(&format!("{size}/image"), &device());
        let wanted = expected.get(&format!("{size}/features")).1;
        let apart = max_difference(&values(model.encode_image(image, false)), wanted);
        assert!(apart <= FEATURES, "{size}: {apart:e}");
    }
}

/// Weights of one size in a model of another, as timm's `set_input_size` fits them.
#[test]
fn positions_are_resized() {
    let expected = Tensors::read("vitamin/resize.safetensors");
    for size in [[40, 40], [49, 20], [16, 16]] {
        let mut config = evaluated("vitamin/linear");
        config.vision_cfg.image_size = serde_json::from_value(serde_json::json!(size)).unwrap();
        let model = model(&config, "vitamin/linear.safetensors", "weights/", &device());
        let name = format!("{}x{}", size[0], size[1]);
        let params = params::export(&model);
        let found = params.iter().find(|p| p.key == "visual.trunk.pos_embed");
        let (shape, wanted) = expected.get(&format!("{name}/pos_embed"));
        assert_eq!(found.unwrap().shape, shape, "{name}");
        assert!(
            max_difference(&found.unwrap().values, wanted) <= 1e-5,
            "{name}"
        );
        let image = expected.tensor(&format!("{name}/image"), &device());
        let wanted = expected.get(&format!("{name}/features")).1;
        let apart = max_difference(&values(model.encode_image(image, false)), wanted);
        assert!(apart <= FEATURES, "{name}: {apart:e}");
    }
}

#[test]
fn every_configuration_has_the_state_dict_of_open_clip() {
    family::same_state_dicts("vitamin/parameters.json", 15);
}

/// OpenCLIP's `ViTamin-XL-384` says 256; its towers have no positions, so that 384 is a matter of the picture alone.
#[test]
fn the_size_in_the_configuration_counts() {
    let config = registry::builtin("ViTamin-XL-384").unwrap();
    assert_eq!(config.vision_cfg.image_size.dims(), (256, 256));
    let mut larger = config.clone();
    larger.vision_cfg.image_size = serde_json::from_value(384.into()).unwrap();
    let shapes = |config| {
        let all = params::describe(&Clip::new(config, &device()).unwrap());
        all.into_iter()
            .map(|p| (p.key, p.shape))
            .collect::<Vec<_>>()
    };
    assert_eq!(shapes(&config), shapes(&larger));
}

#[test]
fn initial_weights_are_distributed_as_timm_s() {
    family::same_initial_weights("vitamin/init.json");
}

#[test]
fn shares_of_stochastic_depth_are_timm_s() {
    for (name, case) in json("vitamin/drop_path.json").as_object().unwrap() {
        let wanted: Vec<f64> = serde_json::from_value(case["shares"].clone()).unwrap();
        let found = drop_path_shares(case["rate"].as_f64().unwrap(), wanted.len());
        for (found, wanted) in found.iter().zip(&wanted) {
            assert!((found - wanted).abs() <= 1e-7, "{name}: {found}, {wanted}");
        }
    }
}

/// The first of the two blocks is never left out, each branch of the second for the configured share.
#[test]
fn a_tower_in_training_drops_branches_by_its_seed() {
    let mut config = evaluated("vitamin/linear");
    config.vision_cfg.extra["timm_drop_path"] = 0.5.into();
    let file = "vitamin/linear.safetensors";
    let model = model(&config, file, "weights/", &device());
    let image = Tensors::read(file).tensor::<4>("input/image", &device());
    let image = image.slice_dim(0, 0..1).repeat_dim(0, 64);
    let forward = |training| values(model.visual.forward(image.clone(), training));
    let kinds = |features: &[f32]| {
        let rows = features.chunks(8);
        let rows = rows.map(|row| row.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
        rows.collect::<BTreeSet<_>>().len()
    };
    assert_eq!(kinds(&forward(None)), 1, "evaluation drops nothing");
    let trained = forward(Some(5));
    // Attention and MLP, each there or not.
    assert_eq!(kinds(&trained), 4);
    assert_eq!(trained, forward(Some(5)));
    assert_ne!(trained, forward(Some(6)));
}

/// A few steps on one batch, with stochastic depth and patch dropout: the loss falls.
#[test]
fn training_reduces_the_loss() {
    let mut config = evaluated("vitamin/linear");
    config.vision_cfg.extra["timm_drop_path"] = 0.1.into();
    config.vision_cfg.patch_dropout = 0.25;
    let losses = family::losses("vitamin/linear", &config, 30, 5e-3, &ClipLoss);
    assert!(losses[29] < 0.7 * losses[0], "{losses:?}");
}

#[test]
fn what_no_vitamin_has_is_refused_by_name() {
    for (key, value) in [
        ("timm_drop", serde_json::json!(0.5)),
        ("timm_drop_path", serde_json::json!(1.0)),
        ("timm_pool", serde_json::json!("map")),
        ("timm_proj", serde_json::json!("conv")),
        ("patch_dropout", serde_json::json!(1.0)),
        ("image_size", serde_json::json!(0)),
        ("timm_kwargs", serde_json::json!({"num_heads": 5})),
        ("timm_kwargs", serde_json::json!({"embed_dim": 16})),
        (
            "timm_kwargs",
            serde_json::json!({"embed_cfg": {"depths": [0, 1, 1]}}),
        ),
        ("timm_kwargs", serde_json::json!({"dpeth": 1})),
    ] {
        let mut cfg = json("vitamin/linear.json")["model_cfg"].clone();
        cfg["vision_cfg"][key] = value;
        let error = serde_json::from_value(cfg)
            .map_err(|error| error.to_string())
            .and_then(|config| Clip::new(&config, &device()).map_err(|error| error.to_string()));
        let error = error.err().unwrap();
        assert!(error.contains(key), "{key}: {error}");
    }
}

/// Half precision stays near single precision.
#[test]
fn half_precision_is_near() {
    for name in ["linear", "odd_image", "no_positions"] {
        let path = format!("vitamin/{name}");
        let file = format!("{path}.safetensors");
        let model = model(&evaluated(&path), &file, "weights/", &device());
        let image = Tensors::read(&file).tensor::<4>("input/image", &device());
        let exact = values(model.visual.forward(image.clone(), None));
        let half = model.visual.forward(image.cast(DType::BF16), Some(3));
        let apart = relative_difference(&values(half.cast(DType::F32)), &exact);
        assert!(apart <= 0.1, "{name}: {apart}");
    }
}

/// Writes files for `export_vitamin.py --saved DIR` into `OPENCLIP_PARITY_DIR`.
#[test]
#[ignore = "writes files for Python to load"]
fn save_for_open_clip() {
    family::save_for_python("vitamin");
}
