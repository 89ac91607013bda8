//! EVA-CLIP and the Perception Encoder against `open_clip` and timm. `tests/parity/export_eva.py` made the fixtures.

use burn::tensor::Tensor;
use openclip_model::config::ModelConfig;
use openclip_model::layers::drop_path::{branch_seed, drop_path, drop_path_shares};
use openclip_model::layers::patch::KeptPatches;
use openclip_tests::family::{self, FEATURES, GRADIENTS};
use openclip_tests::{
    Tensors, device, fixture, gradients_of, json, max_difference, model, model_config, values,
};
use openclip_train::loss::ClipLoss;
use serde_json::json;

const CASES: usize = 9;

#[test]
fn features_loss_and_gradients() {
    let paths = family::cases(&fixture("eva"));
    assert_eq!(paths.len(), CASES);
    family::same_models(&paths);
}

#[test]
#[ignore = "needs models of `export_eva.py --fuzz`"]
fn random_models() {
    family::same_models(&family::random_cases());
}

#[test]
fn every_configuration_has_the_state_dict_of_open_clip() {
    family::same_state_dicts("eva/parameters.json", 12);
}

#[test]
fn initial_weights_are_distributed_as_timm_s() {
    family::same_initial_weights("eva/init.json");
}

/// Weights of one size in a model of another, as timm's `set_input_size` fits them: positions are interpolated, and angles follow
/// the new grid.
#[test]
fn positions_and_angles_are_fitted_to_another_size() {
    family::same_when_resized("eva");
}

/// The draws of a pass with `seed`: patches that each picture keeps, and for both branches of each block the samples that keep
/// them.
fn draws(
    batch: usize,
    patches: usize,
    share: f64,
    depth: usize,
    drop: f64,
    seed: u64,
) -> [serde_json::Value; 2] {
    let kept = KeptPatches::draw(batch, patches, share, seed);
    let each = kept.numbers().len() / batch;
    let kept: Vec<_> = kept.numbers().chunks(each).collect();
    let samples = |branch: usize, share: f64| -> Vec<usize> {
        let ones = Tensor::<1>::ones([batch], &device());
        let factors = values(drop_path(ones, share, branch_seed(seed, branch)));
        (0..batch).filter(|i| factors[*i] > 0.0).collect()
    };
    let shares = drop_path_shares(drop, depth).into_iter().enumerate();
    let branches: Vec<_> = shares
        .map(|(i, share)| [samples(2 * i, share), samples(2 * i + 1, share)])
        .collect();
    [json!(kept), json!(branches)]
}

/// A pass in training mode against upstream with the same patches and branches left out.
#[test]
fn training_mode_drops_patches_with_their_angles_and_branches() {
    let expected = Tensors::read("eva/training.safetensors");
    for (name, case) in json("eva/training_draws.json").as_object().unwrap() {
        let path = format!("eva/{name}");
        let mut config = family::config(&path);
        let share = |key: &str| case[key].as_f64().unwrap();
        config.vision_cfg.patch_dropout = share("patch_dropout");
        let drop = share("timm_drop_path");
        config
            .vision_cfg
            .extra
            .insert("timm_drop_path".into(), drop.into());
        let seed = case["seed"].as_u64().unwrap();
        let (height, width) = config.vision_cfg.image_size.dims();
        let kwargs = &config.vision_cfg.extra["timm_kwargs"];
        let [patch, depth] =
            ["patch_size", "depth"].map(|key| kwargs[key].as_u64().unwrap() as usize);
        let images = Tensors::read(&format!("{path}.safetensors"));
        let patches = (height / patch) * (width / patch);
        let [batch, ..] = images.tensor::<4>("input/image", &device()).dims();
        let found = draws(
            batch,
            patches,
            config.vision_cfg.patch_dropout,
            depth,
            drop,
            seed,
        );
        assert_eq!(found[0], case["kept"], "{name}");
        assert_eq!(found[1], case["kept_branches"], "{name}");

        let file = format!("{path}.safetensors");
        let device = device().autodiff();
        let model = model(&config, &file, "weights/", &device);
        let image = images.tensor("input/image", &device);
        let features = model.visual.forward(image, Some(seed));
        let wanted = expected.get(&format!("{name}/features")).1;
        let apart = max_difference(&values(features.clone()), wanted);
        assert!(apart <= FEATURES, "{name}: {apart:e}");
        let gradients = features.square().sum().backward();
        let gradients = burn::optim::GradientsParams::from_grads(gradients, &model);
        let found = gradients_of(&model, &gradients);
        family::same_gradients(
            &path,
            &format!("{name}/grad/"),
            &found,
            &expected,
            GRADIENTS,
        );
    }
}

/// Steps on one batch, with everything random on: the loss falls below that of towers that see nothing.
#[test]
fn training_reduces_the_loss() {
    for name in ["eva02", "enormous", "perception"] {
        let path = format!("eva/{name}");
        let mut config = family::config(&path);
        config.vision_cfg.patch_dropout = 0.2;
        let extra = &mut config.vision_cfg.extra;
        extra.insert("timm_drop_path".into(), 0.1.into());
        for (key, value) in [
            ("embed_dim", 32),
            ("num_heads", 4),
            ("attn_pool_num_heads", 4),
        ] {
            extra["timm_kwargs"][key] = value.into();
        }
        let losses = family::losses(&path, &config, 60, 5e-4, &ClipLoss);
        println!("{name}: loss {} to {}", losses[0], losses[59]);
        let blind = 3_f32.ln();
        assert!(losses[59] < 0.2 * blind, "{name}: {losses:?}");
    }
}

#[test]
fn half_precision_is_close() {
    for name in ["eva02", "enormous", "perception"] {
        family::near_in_bf16(&format!("eva/{name}"), 3e-2);
    }
}

/// A refusal names keys of both families.
#[test]
fn another_family_s_weights_are_refused() {
    let vit = model_config(&json("models/custom_text.json")["model_cfg"]);
    let siglip = family::config("siglip/plain");
    let eva = family::config("eva/eva02");
    let perception = family::config("eva/perception");
    let refusals: [(&ModelConfig, &str, [&str; 2]); 5] = [
        (
            &eva,
            "models/custom_text.safetensors",
            [
                "visual.trunk.blocks.0.attn.k_proj.weight",
                "visual.class_embedding",
            ],
        ),
        (
            &vit,
            "eva/eva02.safetensors",
            [
                "visual.class_embedding",
                "visual.trunk.blocks.0.attn.k_proj.weight",
            ],
        ),
        (
            &eva,
            "eva/enormous.safetensors",
            ["attn.k_proj.weight", "attn.q_bias"],
        ),
        (
            &perception,
            "siglip/plain.safetensors",
            [
                "visual.trunk.norm_pre.bias",
                "visual.trunk.patch_embed.proj.bias",
            ],
        ),
        (
            &siglip,
            "eva/perception.safetensors",
            [
                "visual.trunk.patch_embed.proj.bias",
                "visual.trunk.norm_pre.bias",
            ],
        ),
    ];
    for (config, file, words) in refusals {
        let text = family::refusal(config, file);
        for word in words {
            assert!(text.contains(word), "{file}: no {word} in {text}");
        }
    }
}

#[test]
fn configurations_that_make_no_tower_are_refused() {
    for (case, key, value, word) in [
        ("eva02", "timm_drop", json!(0.5), "timm_drop"),
        ("eva02", "timm_drop_path", json!(1.0), "timm_drop_path"),
        ("eva02", "timm_pool", json!(""), "timm_pool"),
        ("gigantic", "timm_pool", json!("token"), "timm_pool"),
        ("eva02", "timm_proj", json!("none"), "embed_dim"),
        ("eva02", "patch_dropout", json!(-0.1), "patch_dropout"),
        ("eva02", "image_size", json!([40, 4]), "image_size"),
        ("eva02", "timm_kwargs", json!({"num_heads": 5}), "num_heads"),
        (
            "eva02",
            "timm_kwargs",
            json!({"embed_dim": 6, "num_heads": 2}),
            "multiple of 4",
        ),
        (
            "eva02",
            "timm_kwargs",
            json!({"scale_mlp": false}),
            "scale_mlp",
        ),
        (
            "eva02",
            "timm_kwargs",
            json!({"attn_pool_num_heads": 0}),
            "attn_pool_num_heads",
        ),
        ("eva02", "timm_kwargs", json!({"widht": 8}), "widht"),
    ] {
        family::refuses(&format!("eva/{case}"), key, value, word);
    }
}

#[test]
#[ignore = "writes files for `export_eva.py --saved`"]
fn save_for_open_clip() {
    family::save_for_python("eva");
}
