//! CLIP's ResNets against `open_clip`: features, loss and gradients in both modes, running statistics, checkpoints, and the
//! shapes of the big ones. `tests/parity/export_resnet.py` made the fixtures.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use openclip_model::config::ModelConfig;
use openclip_model::factory::{self, CreateOptions, Loaded};
use openclip_model::weights::{StateDict, openai};
use openclip_model::{Clip, init, params};
use openclip_tests::family::{self, FEATURES, GRADIENTS};
use openclip_tests::{Tensors, device, fixture, json, max_difference, model, model_config, values};
use openclip_train::loss::clip_loss;
use openclip_train::optim::AdamW;
use openclip_train::relay::{self, MicroBatch, PickGradient};
use serde_json::Value;

/// Of each committed gradient about so many values are there.
const SAMPLES: usize = 48;

struct Case {
    config: ModelConfig,
    model: Clip,
    batch: MicroBatch,
    expected: Tensors,
    /// How far upstream's own gradients are from f64, in evaluation and training.
    noise: Value,
}

fn load(path: &str) -> Case {
    let description = json(&format!("{path}.json"));
    let config = model_config(&description["model_cfg"]);
    let device = device().autodiff();
    let file = format!("{path}.safetensors");
    let expected = Tensors::read(&file);
    Case {
        batch: MicroBatch {
            images: expected.tensor("input/image", &device),
            tokens: expected.tokens("input/text", &device),
            dropout: 0,
        },
        model: model(&config, &file, "weights/", &device),
        config,
        expected,
        noise: description["f32_against_f64"].clone(),
    }
}

/// Largest difference of a gradient, relative to its largest value or to a thousandth of the largest of the whole model.
fn gradient_difference(case: &Case, mode: &str, gradients: &GradientsParams) -> f32 {
    let found = params::export_with(&case.model, &mut PickGradient(gradients));
    let prefix = format!("{mode}/grad/");
    let all = case.expected.with_prefix(&prefix);
    let largest = all
        .flat_map(|(_, values)| values)
        .fold(0.0_f32, |max, x| max.max(x.abs()));
    // Batch statistics of a few values can be so ill-conditioned that upstream itself is further off.
    let noise = &case.noise[mode]["gradients_rel_to_tensor_max"];
    let tolerance = GRADIENTS.max(3.0 * noise.as_f64().unwrap() as f32);
    let mut worst = 0.0_f32;
    for param in &found {
        assert!(
            !param.key.contains("running_"),
            "{} has a gradient",
            param.key
        );
        let wanted = case.expected.get(&format!("{prefix}{}", param.key)).1;
        let step = match wanted.len() == param.values.len() {
            true => 1,
            false => (param.values.len() / SAMPLES).max(1),
        };
        let values: Vec<f32> = param.values.iter().copied().step_by(step).collect();
        let own = wanted.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
        let relative = max_difference(&values, wanted) / own.max(1e-3 * largest);
        assert!(relative <= tolerance, "{mode} {}: {relative:e}", param.key);
        worst = worst.max(relative);
    }
    let bias = usize::from(case.model.logit_bias.is_some());
    let wanted = case.expected.with_prefix(&prefix).count();
    assert!(
        found.len() + bias >= wanted,
        "{mode}: gradients are missing"
    );
    worst
}

/// Largest difference of the running statistics from `place`.
fn statistics_difference(model: &Clip, expected: &Tensors, place: &str) -> f32 {
    let found = params::export(model);
    let found = found.iter().filter(|param| param.key.contains("running_"));
    found.fold(0.0, |worst: f32, param| {
        let wanted = expected.get(&format!("{place}/{}", param.key)).1;
        worst.max(max_difference(&param.values, wanted))
    })
}

/// Differences of features and gradients, evaluation first, then training.
fn compare(path: &str) -> [f32; 4] {
    let case = load(path);
    let Case {
        model,
        batch,
        expected,
        ..
    } = &case;
    let apart = |found: Tensor<2>, name: &str| max_difference(&values(found), expected.get(name).1);
    let image = model.encode_image(batch.images.clone(), false);
    let text = model.encode_text(batch.tokens.clone(), false);
    let evaluated = apart(image, "eval/image_features").max(apart(text, "eval/text_features"));
    let loss = clip_loss(model.forward(batch.images.clone(), batch.tokens.clone()));
    let difference = max_difference(&values(loss.clone()), expected.get("eval/loss").1);
    assert!(
        difference <= FEATURES,
        "{path}: loss in evaluation differs by {difference:e}"
    );
    let gradients = GradientsParams::from_grads(loss.backward(), model);
    let evaluated_gradients = gradient_difference(&case, "eval", &gradients);

    let image = model.visual.forward(batch.images.clone(), Some(0));
    let trained = apart(image, "train/image_features");
    model.drop_pending_statistics();
    let (loss, gradients) = relay::step(model, std::slice::from_ref(batch)).unwrap();
    let difference = max_difference(&values(loss), expected.get("train/loss").1);
    assert!(
        difference <= FEATURES,
        "{path}: loss in training differs by {difference:e}"
    );
    let trained_gradients = gradient_difference(&case, "train", &gradients);

    // The pass of `relay::step`, then one over other pixels.
    let settled = model.clone().apply_pending_statistics();
    let difference = statistics_difference(&settled, expected, "once");
    assert!(difference <= FEATURES, "{path}: once {difference:e}");
    let images = batch.images.clone().flip([0]).mul_scalar(2.0);
    settled.encode_image_training(images, 0);
    let settled = settled.apply_pending_statistics();
    let difference = statistics_difference(&settled, expected, "twice");
    assert!(difference <= FEATURES, "{path}: twice {difference:e}");

    // Micro-batches are encoded twice, here and upstream.
    let [rows, ..] = batch.images.dims();
    let parts = [0..rows.div_ceil(2), rows.div_ceil(2)..rows].map(|rows| MicroBatch {
        images: batch.images.clone().slice_dim(0, rows.clone()),
        tokens: batch.tokens.clone().slice_dim(0, rows),
        dropout: 0,
    });
    relay::step(model, &parts).unwrap();
    let settled = model.clone().apply_pending_statistics();
    let noise = |of: &str| case.noise["train"][of].as_f64().unwrap() as f32;
    let difference = statistics_difference(&settled, expected, "halves");
    // Where a half has two values to a channel, a variance can be all rounding.
    assert!(
        difference <= FEATURES.max(3.0 * noise("halves_abs")),
        "{path}: halves {difference:e}"
    );
    let noise = noise("features_abs");
    assert!(
        evaluated <= FEATURES && trained <= FEATURES.max(3.0 * noise),
        "{path}: features differ by {evaluated:e} in evaluation, {trained:e} in training"
    );
    [evaluated, evaluated_gradients, trained, trained_gradients]
}

fn report(paths: &[String]) {
    let found = paths.iter().map(|path| compare(path));
    let worst = found.fold([0.0_f32; 4], |worst, found| {
        std::array::from_fn(|i| worst[i].max(found[i]))
    });
    let [evaluated, evaluated_gradients, trained, trained_gradients] = worst;
    println!(
        "{} ResNets: evaluation {evaluated:e}, gradients {evaluated_gradients:e}; training {trained:e}, gradients {trained_gradients:e}",
        paths.len()
    );
}

#[test]
fn features_gradients_and_running_statistics_in_both_modes() {
    report(&["resnet/odd_image".to_string()]);
}

/// `OPENCLIP_PARITY_DIR` is what `tests/parity/export_resnet.py --fuzz SEED COUNT --output DIR` wrote.
#[test]
#[ignore = "needs models of `export_resnet.py --fuzz`"]
fn random_resnets() {
    let folder = std::env::var("OPENCLIP_PARITY_DIR").expect("OPENCLIP_PARITY_DIR");
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let paths: Vec<String> = entries
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .map(|path| path.with_extension("").to_str().unwrap().to_string())
        .collect();
    assert!(!paths.is_empty());
    report(&paths);
}

#[test]
fn every_configuration_has_the_state_dict_of_open_clip() {
    family::same_state_dicts("resnet/parameters.json", 10);
}

fn create(config: &Value, weights: &Path, options: &CreateOptions) -> Result<Loaded, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.json");
    std::fs::write(&path, config.to_string()).unwrap();
    let path = path.to_str().unwrap();
    factory::create(path, weights.to_str(), &device(), options).map_err(|error| error.to_string())
}

#[test]
fn openai_archive() {
    let file = fixture("resnet/openai.pt");
    let mut wanted = json("resnet/openai_config.json");
    let config = openai::infer_openai_config(&StateDict::read(&file).unwrap()).unwrap();
    assert_eq!(config.vision_cfg.layers, wanted["vision_cfg"]["layers"]);
    assert_eq!(config.vision_cfg.image_size.dims(), (32, 32));
    wanted["quick_gelu"] = false.into();
    let expected = Tensors::read("resnet/openai.safetensors");
    for config in [wanted, serde_json::to_value(&config).unwrap()] {
        let loaded = create(&config, &file, &CreateOptions::default()).unwrap();
        assert!(loaded.config.quick_gelu);
        let image = expected.tensor("input/image", &device());
        let text = expected.tokens("input/text", &device());
        let image = values(loaded.model.encode_image(image, false));
        let text = values(loaded.model.encode_text(text, false));
        for (found, name) in [(image, "image_features"), (text, "text_features")] {
            let difference = max_difference(&found, expected.get(name).1);
            assert!(difference <= FEATURES, "{name}: {difference:e}");
        }
    }
}

/// Writes `DIR/resnet` for `tests/parity/check_resnet.py`.
fn save(folder: &Path) -> Case {
    let case = load("resnet/odd_image");
    let loaded = Loaded {
        model: case.model.valid(),
        name: "odd_image".into(),
        config: case.config.clone(),
        preprocess: Default::default(),
        warnings: Vec::new(),
    };
    std::fs::create_dir_all(folder).unwrap();
    loaded
        .save(&folder.join("open_clip_model.safetensors"))
        .unwrap();
    let hub = factory::hub_config(&loaded.config, &loaded.preprocess);
    std::fs::write(folder.join("open_clip_config.json"), hub.to_string()).unwrap();
    case
}

#[test]
#[ignore = "writes OPENCLIP_SAVED_DIR for `check_resnet.py`"]
fn write_for_python() {
    save(&PathBuf::from(std::env::var("OPENCLIP_SAVED_DIR").unwrap()));
}

#[test]
fn what_is_saved_loads_with_equal_values() {
    let folder = tempfile::tempdir().unwrap();
    let case = save(folder.path());
    let source = format!("local-dir:{}", folder.path().display());
    let loaded = factory::create(&source, None, &device(), &CreateOptions::default()).unwrap();
    for param in params::export(&loaded.model) {
        let wanted = case.expected.get(&format!("weights/{}", param.key)).1;
        assert_eq!(param.values, wanted, "{}", param.key);
    }
    // A larger picture: the pool's positions are resized.
    let options = CreateOptions {
        force_image_size: Some(openclip_model::config::ImageSize::Square(96)),
        ..Default::default()
    };
    let larger = factory::create(&source, None, &device(), &options).unwrap();
    let described = params::describe(&larger.model);
    let positions = described
        .iter()
        .find(|p| p.key.ends_with("attnpool.positional_embedding"));
    assert_eq!(positions.unwrap().shape, [10, 64]);
    let image = Tensor::ones([1, 3, 96, 96], &device());
    assert!(
        values(larger.model.encode_image(image, true))
            .iter()
            .all(|x| x.is_finite())
    );
}

#[test]
fn a_checkpoint_of_another_family_is_refused_by_its_keys() {
    let vit = json("models/vit_plain.json")["model_cfg"].clone();
    let error = create(
        &vit,
        &fixture("resnet/openai.pt"),
        &CreateOptions::default(),
    )
    .unwrap_err();
    for key in ["visual.class_embedding", "visual.layer1.0.conv1.weight"] {
        assert!(error.contains(key), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let vit = Loaded {
        model: Clip::new(&model_config(&vit), &device()).unwrap(),
        name: "vit".into(),
        config: model_config(&vit),
        preprocess: Default::default(),
        warnings: Vec::new(),
    };
    let path = folder.path().join("vit.safetensors");
    vit.save(&path).unwrap();
    let resnet = json("resnet/openai_config.json");
    let error = create(&resnet, &path, &CreateOptions::default()).unwrap_err();
    for key in ["visual.class_embedding", "visual.layer1.0.conv1.weight"] {
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn sizes_that_no_resnet_has_are_refused() {
    let build = |key: &str, value: Value| {
        let mut cfg = json("resnet/openai_config.json");
        cfg["vision_cfg"][key] = value;
        Clip::new(&model_config(&cfg), &device())
            .map(drop)
            .map_err(|error| error.to_string())
    };
    assert!(build("image_size", 65.into()).is_ok());
    for (key, value) in [
        ("image_size", serde_json::json!(63)),
        ("image_size", serde_json::json!(16)),
        ("image_size", serde_json::json!([32, 64])),
        ("layers", serde_json::json!([1, 2, 3])),
        ("layers", serde_json::json!([1, 2, 3, 0])),
        ("layers", serde_json::json!([1, 2, 3, "x"])),
        ("width", serde_json::json!(1)),
        ("width", serde_json::json!(1_u64 << 40)),
        ("head_width", serde_json::json!(0)),
        ("head_width", serde_json::json!(11)),
        ("attentionalpool", serde_json::json!(true)),
    ] {
        let error = build(key, value.clone()).expect_err(key);
        assert!(error.contains("vision_cfg"), "{error}");
    }
}

/// From initial weights, where the last norm of every block is zero: the loss falls, no statistic is trained.
#[test]
fn a_few_steps_lower_the_loss() {
    let case = load("resnet/odd_image");
    let device = device().autodiff();
    let model = Clip::new(&case.config, &device).unwrap();
    let mut model = init::initialise(model, &case.config, 3);
    let hyper = AdamW {
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.1,
    };
    let mut optimizer = hyper.optimizer(&model);
    let mut losses = Vec::new();
    for _ in 0..6 {
        let (loss, gradients) = relay::step(&model, std::slice::from_ref(&case.batch)).unwrap();
        losses.push(values(loss)[0]);
        let before = params::export(&model);
        model = optimizer.step(3e-3, model, gradients);
        let after = params::export(&model);
        for (before, after) in before.iter().zip(&after) {
            let statistic = before.key.contains("running_");
            assert!(
                !statistic || before.values == after.values,
                "{}",
                before.key
            );
        }
        model = model.apply_pending_statistics();
        let moved = params::export(&model);
        let mean = |all: &[params::ParamValues]| {
            let found = all.iter().find(|p| p.key == "visual.bn1.running_mean");
            found.unwrap().values.clone()
        };
        assert_ne!(mean(&after), mean(&moved));
    }
    assert!(losses[5] < losses[0], "{losses:?}");
}

#[test]
fn initial_weights_are_those_of_open_clip() {
    let config = model_config(&json("resnet/openai_config.json"));
    let model = init::initialise(Clip::new(&config, &device()).unwrap(), &config, 1);
    for param in params::export(&model) {
        let all = |value: f32| param.values.iter().all(|x| *x == value);
        let within = |bound: f32| param.values.iter().all(|x| x.abs() <= bound) && !all(0.0);
        let key = param.key.as_str();
        let Some(name) = key.strip_prefix("visual.") else {
            continue;
        };
        let norm = name.contains("bn") || name.contains("downsample.1");
        let as_expected = match name.rsplit('.').next().unwrap() {
            "running_mean" => all(0.0),
            "running_var" => all(1.0),
            "weight" if norm => all(f32::from(
                !(name.starts_with("layer") && name.contains("bn3")),
            )),
            "bias" if norm => all(0.0),
            "weight" if !name.starts_with("attnpool") => {
                within((param.shape.iter().skip(1).product::<usize>() as f32).powf(-0.5))
            }
            "bias" => within(64_f32.powf(-0.5)),
            _ => {
                let square = param.values.iter().map(|x| x * x).sum::<f32>();
                (0.7..1.4).contains(&(square / param.values.len() as f32 * 64.0))
            }
        };
        assert!(as_expected, "{key}");
    }
}
