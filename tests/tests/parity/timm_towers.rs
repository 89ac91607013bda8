//! timm's towers that have one configuration each (ViT with the mean of its patches, ViT with relative positions, Swin) against
//! `open_clip`: outputs, gradients, state dicts, initial weights, stochastic depth, other picture sizes, loading and saving.
//! `tests/parity/export_timm_towers.py` made the fixtures.

use openclip_model::vision::swin::DROP_PATH;
use openclip_model::{Clip, params, registry};
use openclip_tests::family::{self, cases, config as evaluated, kinds_of_rows};
use openclip_tests::{Tensors, device, fixture, model, values};
use openclip_train::loss::ClipLoss;

#[test]
fn features_loss_and_gradients() {
    family::same_models(&cases(&fixture("timm_towers")));
}

#[test]
#[ignore = "needs models of `export_timm_towers.py --fuzz`"]
fn random_models() {
    family::same_models(&family::random_cases());
}

/// Relative positions are for pictures of any size.
#[test]
fn pictures_of_other_sizes() {
    family::same_for_other_pictures("timm_towers");
}

#[test]
fn every_configuration_has_the_state_dict_of_open_clip() {
    family::same_state_dicts("timm_towers/parameters.json", 3);
}

#[test]
fn initial_weights_are_distributed_as_timm_s() {
    family::same_initial_weights("timm_towers/init.json");
}

#[test]
fn shares_of_stochastic_depth_are_timm_s() {
    family::same_drop_path_shares("timm_towers", |name| match name.starts_with("swin") {
        true => DROP_PATH,
        false => 0.0,
    });
}

/// Kinds of feature rows of copies of one picture.
fn kinds(name: &str, drop_path: f64, seed: Option<u64>) -> usize {
    let path = format!("timm_towers/{name}");
    let file = format!("{path}.safetensors");
    let mut config = evaluated(&path);
    config.vision_cfg.extra["timm_drop_path"] = drop_path.into();
    let model = model(&config, &file, "weights/", &device());
    let image = Tensors::read(&file).tensor::<4>("input/image", &device());
    let image = image.slice_dim(0, 0..1).repeat_dim(0, 64);
    let features = model.visual.forward(image.clone(), seed);
    let again = model.visual.forward(image, seed);
    assert_eq!(values(features.clone()), values(again));
    kinds_of_rows(features)
}

/// A tower's first block is never left out, each branch of the others for its share.
#[test]
fn towers_in_training_drop_branches_by_their_seed() {
    assert_eq!(kinds("swin", 0.5, None), 1);
    assert!(kinds("swin", 0.5, Some(5)) > 16);
    assert_eq!(kinds("swin", 0.0, Some(5)), 1);
    // Two blocks: attention and MLP of the second, each there or not.
    assert_eq!(kinds("relpos", 0.5, Some(5)), 4);
}

/// Scores of displacements lose hidden values in training, the same for all pictures of a batch.
#[test]
fn scores_of_displacements_drop_out_by_the_seed() {
    assert_eq!(kinds("relpos", 0.0, Some(5)), 1);
    let file = "timm_towers/relpos.safetensors";
    let config = evaluated("timm_towers/relpos");
    let model = model(&config, file, "weights/", &device());
    let image = Tensors::read(file).tensor::<4>("input/image", &device());
    let forward = |training| values(model.visual.forward(image.clone(), training));
    assert_eq!(forward(Some(5)), forward(Some(5)));
    assert_ne!(forward(Some(5)), forward(Some(6)));
    assert_ne!(forward(Some(5)), forward(None));
}

/// A few steps on one batch: the loss falls.
#[test]
fn training_reduces_the_loss() {
    for name in ["gap", "relpos", "swin"] {
        let path = format!("timm_towers/{name}");
        let mut config = evaluated(&path);
        config.vision_cfg.extra["timm_drop_path"] = 0.1.into();
        let losses = family::losses(&path, &config, 30, 5e-3, &ClipLoss);
        assert!(losses[29] < 0.7 * losses[0], "{name}: {losses:?}");
    }
}

#[test]
fn what_the_towers_do_not_have_is_refused_by_name() {
    for (name, key, value) in [
        ("relpos", "timm_drop", serde_json::json!(0.5)),
        ("relpos", "timm_pool", serde_json::json!("map")),
        ("relpos_no_class", "timm_pool", serde_json::json!("token")),
        ("relpos", "patch_dropout", serde_json::json!(0.5)),
        ("relpos", "image_size", serde_json::json!(4)),
        ("relpos", "timm_kwargs", serde_json::json!({"num_heads": 3})),
        ("swin", "timm_drop_path", serde_json::json!(1.0)),
        ("swin", "timm_pool", serde_json::json!("token")),
        ("swin", "patch_dropout", serde_json::json!(0.5)),
        ("swin", "image_size", serde_json::json!(1)),
        ("swin", "timm_kwargs", serde_json::json!({"window_size": 0})),
        (
            "swin",
            "timm_kwargs",
            serde_json::json!({"num_heads": [1, 1, 1, 7]}),
        ),
        ("swin", "timm_kwargs", serde_json::json!({"head_dim": 4})),
        ("gap", "timm_drop", serde_json::json!(0.1)),
        ("gap", "timm_pool", serde_json::json!("token")),
    ] {
        family::refuses(&format!("timm_towers/{name}"), key, value, key);
    }
}

/// `--force-image-size` scales the windows of a Swin transformer, as timm does.
#[test]
fn windows_grow_with_the_picture() {
    let mut config = registry::builtin("swin_base_patch4_window7_224").unwrap();
    config.vision_cfg.image_size = serde_json::from_value(448.into()).unwrap();
    let model = Clip::new(&config, &device()).unwrap();
    let params = params::describe(&model);
    let table = params.iter().find(|p| {
        p.key
            .ends_with("layers.2.blocks.5.attn.relative_position_bias_table")
    });
    assert_eq!(table.unwrap().shape, [27 * 27, 16]);
}

/// Weights for windows of one size in a model with windows of another.
#[test]
fn scores_of_displacements_are_resized() {
    family::same_when_resized("timm_towers");
}

#[test]
fn half_precision_is_near() {
    for name in ["gap", "swin", "swin_odd", "relpos"] {
        family::near_in_bf16(&format!("timm_towers/{name}"), 3e-2);
    }
}

/// Writes files for `export_timm_towers.py --saved DIR` into `OPENCLIP_PARITY_DIR`.
#[test]
#[ignore = "writes files for Python to load"]
fn save_for_open_clip() {
    family::save_for_python("timm_towers");
}
