//! CLIP's ResNets against `open_clip`: features, loss and gradients in both modes, running statistics, checkpoints, and the
//! shapes of the big ones. `tests/parity/export_resnet.py` made the fixtures.

use burn::tensor::Tensor;
use openclip_model::factory::{self, CreateOptions, Loaded};
use openclip_model::{Clip, init, params};
use openclip_tests::family::{self, FEATURES, create};
use openclip_tests::{
    Tensors, batch_norm, device, fixture, json, max_difference, model_config, parameters_of, values,
};
use openclip_train::optim::AdamW;
use openclip_train::relay::{self, MicroBatch};
use serde_json::Value;

/// Both modes, and statistics after further passes.
fn compare(paths: &[String]) {
    batch_norm::same_models(paths);
    for path in paths {
        family::same_when_folded(path);
        let expected = Tensors::read(&format!("{path}.safetensors"));
        let (model, batch) = (family::model(path), family::batch(&expected, 0));
        let mut settled = model.clone();
        for images in [
            batch.images.clone(),
            batch.images.clone().flip([0]).mul_scalar(2.0),
        ] {
            settled.encode_image_training(images, 0);
            settled = settled.apply_pending_statistics();
        }
        batch_norm::same_statistics(path, "twice", &settled, &expected, FEATURES);

        // Micro-batches are encoded twice, here and upstream.
        let [rows, ..] = batch.images.dims();
        let parts = [0..rows.div_ceil(2), rows.div_ceil(2)..rows].map(|rows| MicroBatch {
            images: batch.images.clone().slice_dim(0, rows.clone()),
            tokens: batch.tokens.clone().slice_dim(0, rows),
            dropout: 0,
        });
        relay::step(&model, &parts).unwrap();
        let settled = model.apply_pending_statistics();
        // Where a half has two values to a channel, a variance can be all rounding.
        let tolerance = batch_norm::tolerance(path, "halves_abs", FEATURES).unwrap();
        batch_norm::same_statistics(path, "halves", &settled, &expected, tolerance);
    }
}

#[test]
fn features_gradients_and_running_statistics_in_both_modes() {
    compare(&family::cases(&fixture("resnet")));
}

/// `OPENCLIP_PARITY_DIR` is what `tests/parity/export_resnet.py --fuzz SEED COUNT --output DIR` wrote.
#[test]
#[ignore = "needs models of `export_resnet.py --fuzz`"]
fn random_models() {
    compare(&family::random_cases());
}

#[test]
fn every_configuration_has_the_state_dict_of_open_clip() {
    family::same_state_dicts("resnet/parameters.json", 10);
}

#[test]
fn openai_archive() {
    let file = fixture("resnet/openai.pt");
    let mut config = json("resnet/openai_config.json");
    config["quick_gelu"] = false.into();
    let expected = Tensors::read("resnet/openai.safetensors");
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

#[test]
fn what_is_saved_loads_with_equal_values() {
    let folder = tempfile::tempdir().unwrap();
    family::save_folder(&family::loaded("resnet/odd_image"), folder.path());
    let expected = Tensors::read("resnet/odd_image.safetensors");
    let source = format!("local-dir:{}", folder.path().display());
    let loaded = factory::create(&source, None, &device(), &CreateOptions::default()).unwrap();
    for param in parameters_of(&loaded.model) {
        let wanted = expected.get(&format!("weights/{}", param.key)).1;
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
    let file = fixture("resnet/openai.pt");
    let error = create(&vit, &file, &CreateOptions::default()).unwrap_err();
    let error = error.to_string();
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
    let error = error.to_string();
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
    let path = "resnet/odd_image";
    let (config, expected) = (
        family::config(path),
        Tensors::read(&format!("{path}.safetensors")),
    );
    let batch = family::batch(&expected, 0);
    let fresh = Clip::new(&config, &device().autodiff()).unwrap();
    let mut model = init::initialise(fresh, &config, 3);
    let hyper = AdamW {
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.1,
    };
    let mut optimizer = hyper.optimizer(&model);
    let mut losses = Vec::new();
    for _ in 0..6 {
        let (loss, gradients) = relay::step(&model, std::slice::from_ref(&batch)).unwrap();
        losses.push(values(loss)[0]);
        let before = parameters_of(&model);
        model = optimizer.step(3e-3, model, gradients);
        let after = parameters_of(&model);
        for (before, after) in before.iter().zip(&after) {
            let statistic = before.key.contains("running_");
            assert!(
                !statistic || before.values == after.values,
                "{}",
                before.key
            );
        }
        model = model.apply_pending_statistics();
        let moved = parameters_of(&model);
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
    for param in parameters_of(&model) {
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
