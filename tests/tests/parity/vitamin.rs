//! ViTamin against `open_clip`: outputs, gradients, state dicts, initial weights, stochastic depth, other picture sizes, loading
//! and saving. `tests/parity/export_vitamin.py` made the fixtures.

use openclip_model::{Clip, params, registry};
use openclip_tests::family::{self, cases, config as evaluated, kinds_of_rows};
use openclip_tests::{Tensors, device, fixture, model, values};
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
    family::same_for_other_pictures("vitamin");
}

#[test]
fn positions_are_resized() {
    family::same_when_resized("vitamin");
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
    family::same_drop_path_shares("vitamin", |name| panic!("{name} is given no rate"));
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
    let forward = |training| model.visual.forward(image.clone(), training);
    assert_eq!(kinds_of_rows(forward(None)), 1, "evaluation drops nothing");
    // Attention and MLP, each there or not.
    assert_eq!(kinds_of_rows(forward(Some(5))), 4);
    assert_eq!(values(forward(Some(5))), values(forward(Some(5))));
    assert_ne!(values(forward(Some(5))), values(forward(Some(6))));
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
        family::refuses("vitamin/linear", key, value, key);
    }
}

#[test]
fn half_precision_is_near() {
    for name in ["linear", "odd_image", "no_positions"] {
        family::near_in_bf16(&format!("vitamin/{name}"), 3e-2);
    }
}

/// Writes files for `export_vitamin.py --saved DIR` into `OPENCLIP_PARITY_DIR`.
#[test]
#[ignore = "writes files for Python to load"]
fn save_for_open_clip() {
    family::save_for_python("vitamin");
}
