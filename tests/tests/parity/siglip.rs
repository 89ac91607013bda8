//! SigLIP and SigLIP2 against `open_clip` and timm. `tests/parity/export_siglip.py` made the fixtures.

use std::path::Path;

use openclip_data::tokenizer::for_model;
use openclip_model::config::ModelConfig;
use openclip_model::factory::{CreateOptions, create};
use openclip_model::load::load_state_dict;
use openclip_model::weights::{StateDict, WeightsError};
use openclip_model::{Clip, registry};
use openclip_tests::family::{self, FEATURES, GRADIENTS, cases};
use openclip_tests::runs::{losses, small_run};
use openclip_tests::{
    Tensors, device, fixture, gradients_of, json, max_difference, model_config, named_values,
    parameters_of, values,
};
use openclip_train::loss::{ClipLoss, Objective, PairLoss, SigLipLoss};
use openclip_train::relay::{self, MicroBatch};
use serde_json::json;

fn gradients(
    path: &str,
    model: &Clip,
    batches: &[MicroBatch],
    expected: &Tensors,
    loss: (&str, &'static dyn PairLoss),
) -> f32 {
    let (kind, objective) = loss;
    let (losses, gradients) =
        relay::step_toward(model, batches, &Objective::of(objective)).unwrap();
    let wanted = expected.get(&format!("output/{kind}loss")).1;
    let apart = max_difference(&values(losses.total), wanted);
    assert!(
        apart <= 2e-5 * wanted[0].abs().max(1.0),
        "{path}: {kind}loss differs by {apart:e}"
    );
    let found = gradients_of(model, &gradients);
    let prefix = format!("{kind}grad/");
    // Committed for some cases alone.
    if kind == "siglip_" && expected.with_prefix(&prefix).next().is_none() {
        return 0.0;
    }
    family::same_gradients(path, &prefix, &found, expected, GRADIENTS)
}

fn compare(paths: &[String]) {
    let (mut features, mut worst) = (0.0_f32, 0.0_f32);
    for path in paths {
        let expected = Tensors::read(&format!("{path}.safetensors"));
        let (model, batch) = (family::model(path), family::batch(&expected, 0));
        features = features.max(family::same_features(path, &model, &batch, &expected));
        let [rows, ..] = batch.images.dims();
        let part = |rows: std::ops::Range<usize>| MicroBatch {
            images: batch.images.clone().slice_dim(0, rows.clone()),
            tokens: batch.tokens.clone().slice_dim(0, rows),
            dropout: 0,
        };
        let mut splits = vec![vec![batch.clone()]];
        if rows > 1 {
            splits.push(vec![part(0..1), part(1..rows)]);
        }
        for batches in &splits {
            for loss in [("", &ClipLoss as &dyn PairLoss), ("siglip_", &SigLipLoss)] {
                worst = worst.max(gradients(path, &model, batches, &expected, loss));
            }
        }
    }
    println!(
        "{} models: features {features:e}, gradients {worst:e} relative",
        paths.len()
    );
}

#[test]
fn features_losses_and_gradients() {
    let paths = cases(&fixture("siglip"));
    assert_eq!(paths.len(), 8);
    compare(&paths);
}

#[test]
#[ignore = "needs models of `export_siglip.py --fuzz`"]
fn random_models() {
    compare(&family::random_cases());
}

#[test]
fn every_configuration_has_the_state_dict_of_open_clip() {
    family::same_state_dicts("siglip/parameters.json", 26);
}

fn plain() -> (ModelConfig, Tensors) {
    (
        family::config("siglip/plain"),
        Tensors::read("siglip/plain.safetensors"),
    )
}

fn read(config: &ModelConfig, file: &Path) -> Result<Clip, WeightsError> {
    load_state_dict(
        Clip::new(config, &device()).unwrap(),
        config,
        StateDict::read(file)?,
        file,
    )
}

#[test]
fn big_vision_archives_are_read() {
    let (config, expected) = plain();
    for name in ["siglip/big_vision.npz", "siglip/big_vision_stacked.npz"] {
        let model = read(&config, &fixture(name)).unwrap_or_else(|error| panic!("{error}"));
        let params = parameters_of(&model);
        assert!(params.len() > 50);
        for param in params {
            let wanted = expected.get(&format!("weights/{}", param.key)).1;
            assert_eq!(param.values, wanted, "{name}: {}", param.key);
        }
    }
}

/// Damage anywhere is an error or, where it hits numbers alone, other numbers; never a panic.
#[test]
fn damaged_archives_are_refused() {
    let (config, _) = plain();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("damaged.npz");
    for name in ["siglip/big_vision.npz", "siglip/big_vision_stacked.npz"] {
        let whole = std::fs::read(fixture(name)).unwrap();
        for cut in [0, 3, 64, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(read(&config, &path).is_err(), "{name} cut at {cut}");
        }
        let mut random = 1_u32;
        for _ in 0..200 {
            let mut bytes = whole.clone();
            for _ in 0..8 {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Mostly names and headers, which the first kilobytes and the directory at the end hold.
                let at = random as usize % 4096;
                let at = if random & 0x1_0000 == 0 {
                    at
                } else {
                    whole.len() - 1 - at
                };
                bytes[at] = (random >> 24) as u8;
            }
            std::fs::write(&path, &bytes).unwrap();
            let _ = read(&config, &path);
        }
    }
}

#[test]
fn hugging_face_siglip_becomes_openclip() {
    let expected = Tensors::read("siglip/hf_features.safetensors");
    let dict = StateDict::read(&fixture("siglip/hf.safetensors")).unwrap();
    let [width, layers] = [dict.tensors["text.ln_final.weight"].shape[0], 1];
    let hidden = dict.tensors["visual.trunk.blocks.0.mlp.fc1.weight"].shape[0];
    let ratio = hidden as f64 / width as f64;
    let config = model_config(&json!({
        "embed_dim": width, "init_logit_bias": 0, "custom_text": true,
        "vision_cfg": {
            "image_size": 20, "timm_model_name": "vit_base_patch32_siglip_256", "timm_pool": "map", "timm_proj": "none",
            "timm_kwargs": {"patch_size": 6, "embed_dim": width, "depth": layers, "num_heads": 2, "mlp_ratio": ratio},
        },
        "text_cfg": {
            "context_length": 6, "vocab_size": 30, "width": width, "heads": 2, "layers": layers, "mlp_ratio": ratio,
            "no_causal_mask": true, "proj_bias": true, "pool_type": "last", "norm_kwargs": {"eps": 1e-6},
            "act_kwargs": {"approximate": "tanh"},
        },
    }));
    let model =
        read(&config, &fixture("siglip/hf.safetensors")).unwrap_or_else(|error| panic!("{error}"));
    let image = expected.tensor("input/image", &device());
    let tokens = expected.tokens("input/text", &device());
    let found = model.forward(image, tokens);
    for (found, kind) in [
        (&found.image_features, "image_features"),
        (&found.text_features, "text_features"),
    ] {
        let apart = max_difference(&values(found.clone()), expected.get(kind).1);
        assert!(apart <= FEATURES, "{kind}: {apart:e}");
    }
    let wanted = expected.get("logits_per_image").1;
    assert!(max_difference(&values(found.logits()), wanted) <= 1e-3);
}

#[test]
fn positions_are_resized() {
    family::same_when_resized("siglip");
}

/// Preprocessing that a file cannot but have comes with it.
#[test]
fn weights_bring_their_preprocessing() {
    let dir = tempfile::tempdir().unwrap();
    let (config, _) = plain();
    let path = dir.path().join("small.json");
    std::fs::write(&path, serde_json::to_vec(&config).unwrap()).unwrap();
    let npz = fixture("siglip/big_vision.npz");
    let options = CreateOptions::default();
    let loaded = create(path.to_str().unwrap(), npz.to_str(), &device(), &options).unwrap();
    assert_eq!(
        (loaded.preprocess.mean, loaded.preprocess.std),
        ([0.5; 3], [0.5; 3])
    );
    assert_eq!(
        loaded.preprocess.resize_mode,
        openclip_model::config::ResizeMode::Squash
    );
}

#[test]
fn configurations_that_make_no_tower_are_refused() {
    for (key, value, word) in [
        ("timm_pool", json!("token"), "timm_pool"),
        ("timm_pool", json!("abs_attn"), "abs_attn"),
        ("timm_proj", json!("cubic"), "cubic"),
        ("timm_drop_path", json!(1.5), "timm_drop_path"),
        ("timm_kwargs", json!({"num_heads": 5}), "num_heads"),
        ("timm_kwargs", json!({"embed_dims": 5}), "embed_dims"),
        (
            "timm_kwargs",
            json!({"patch_size": 4, "embed_dim": 24}),
            "embed_dim",
        ),
        ("image_size", json!(3), "image_size"),
    ] {
        family::refuses("siglip/plain", key, value, word);
    }
}

#[test]
fn tokens_are_those_of_open_clip() {
    let file = json("siglip/tokens.json");
    let captions: Vec<String> = serde_json::from_value(file["captions"].clone()).unwrap();
    for (name, rows) in file["rows"].as_object().unwrap() {
        let config = registry::builtin(name).unwrap();
        let tokenizer = for_model(&config, Some(&fixture("siglip/tokenizer"))).unwrap();
        let rows: Vec<Vec<i32>> = serde_json::from_value(rows.clone()).unwrap();
        for (caption, wanted) in captions.iter().zip(rows) {
            assert_eq!(
                tokenizer.tokenize(caption).unwrap(),
                wanted,
                "{name}: {caption:?}"
            );
        }
    }
}

#[test]
fn every_parameter_starts_as_in_timm() {
    family::same_initial_weights("siglip/init.json");
}

/// The loss of a tiny model falls, with either objective.
#[test]
fn training_steps_lower_the_loss() {
    let (mut config, _) = plain();
    config.init_logit_scale = Some(10_f64.ln());
    config.init_logit_bias = Some(-10.0);
    for loss in [&ClipLoss as &dyn PairLoss, &SigLipLoss] {
        let losses = family::losses("siglip/plain", &config, 12, 3e-3, loss);
        assert!(losses[11] < 0.9 * losses[0], "{losses:?}");
    }
}

#[test]
fn half_precision_is_close() {
    for name in ["plain", "siglip2", "class_token"] {
        family::near_in_bf16(&format!("siglip/{name}"), 3e-2);
    }
}

/// `--siglip`: a whole run with the sigmoid loss, stopped and resumed, of a model whose configuration has no logit bias.
#[test]
fn a_run_with_the_sigmoid_loss() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = json("siglip/plain.json")["model_cfg"].clone();
    for key in ["init_logit_scale", "init_logit_bias"] {
        config.as_object_mut().unwrap().remove(key);
    }
    config["text_cfg"]["vocab_size"] = 49408.into();
    let run = |name: &str, max_steps, resume: Option<&str>| {
        small_run(dir.path(), &config, name, |run| {
            run.siglip = true;
            run.lr = 1e-3;
            run.max_steps = max_steps;
            run.resume = resume.map(Into::into);
        })
    };
    let (folder, straight) = run("straight", None, None);
    run("halved", Some(3), None);
    let (_, resumed) = run("halved", None, Some("latest"));
    let pairs = named_values(&straight)
        .into_iter()
        .zip(named_values(&resumed));
    for (straight, resumed) in pairs {
        assert_eq!(straight, resumed);
    }
    let value = |key: &str| straight.tensors[key].to_f32().unwrap()[0];
    assert!(
        (value("logit_scale") - 10_f32.ln()).abs() < 0.05,
        "{}",
        value("logit_scale")
    );
    let bias = value("logit_bias");
    assert!((bias + 10.0).abs() < 0.05 && bias != -10.0, "{bias}");
    // A pair that belongs together costs about ten nats where the bias is −10, far from the ln 4 of CLIP's loss.
    let losses = losses(&folder);
    assert!(
        losses.len() == 8 && losses[0] > 5.0 && losses[7] < losses[0],
        "{losses:?}"
    );
}

#[test]
#[ignore = "writes files for `export_siglip.py --saved`"]
fn save_for_open_clip() {
    family::save_for_python("siglip");
}
