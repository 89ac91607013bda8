//! MobileCLIP against `open_clip`: outputs, gradients, BatchNorm in training, joined branches, state dicts, initial weights,
//! Apple's keys. `tests/parity/export_mobileclip.py` made the fixtures.

use std::time::Instant;

use burn::module::Module;
use burn::tensor::{DType, Distribution, Tensor};
use openclip_model::config::Interpolation;
use openclip_model::load::load_state_dict;
use openclip_model::weights::StateDict;
use openclip_model::{Clip, init, registry};
use openclip_tests::family::{self, FEATURES};
use openclip_tests::{
    Tensors, batch_norm, device, finite, fixture, fixture_tensors, max_difference, parameters_of,
    values,
};
use openclip_train::loss::ClipLoss;

fn committed() -> Vec<String> {
    family::cases(&fixture("mobileclip"))
}

fn compare(paths: &[String]) {
    batch_norm::same_models(paths);
    let folded = paths.iter().map(|path| family::same_when_folded(path));
    println!("folded: features {:e}", folded.fold(0.0, f32::max));
}

#[test]
fn features_loss_gradients_and_statistics() {
    compare(&committed());
}

/// `OPENCLIP_PARITY_DIR` is what `export_mobileclip.py --fuzz SEED COUNT --output DIR` wrote.
#[test]
#[ignore = "needs models of `export_mobileclip.py --fuzz`"]
fn random_models() {
    compare(&family::random_cases());
}

#[test]
fn every_configuration_has_the_state_dict_of_open_clip() {
    family::same_state_dicts("mobileclip/parameters.json", 9);
}

#[test]
fn initial_weights_are_distributed_as_timm_s() {
    family::same_initial_weights("mobileclip/init.json");
}

/// Upstream's `convert_state_dict` gives the case's weights back, but for the bias that Apple's projection does not have.
#[test]
fn apple_s_keys_are_read_as_open_clip_s() {
    for (name, bias) in [
        ("mci0", "visual.trunk.head.fc.bias"),
        ("vit", "visual.trunk.head.bias"),
    ] {
        let file = fixture(&format!("mobileclip/apple_{name}.safetensors"));
        let dict = StateDict::read(&file).unwrap();
        let wanted = fixture_tensors(&format!("mobileclip/{name}.safetensors"), "weights/");
        let keys: Vec<_> = dict.tensors.keys().collect();
        assert_eq!(keys, wanted.tensors.keys().collect::<Vec<_>>(), "{name}");
        for (key, tensor) in &wanted.tensors {
            let found = &dict.tensors[key];
            assert_eq!(found.shape, tensor.shape, "{key}");
            let values = finite(tensor.to_f32().unwrap());
            let wanted = match key == bias {
                true => vec![0.0; values.len()],
                false => values,
            };
            assert_eq!(found.to_f32().unwrap(), wanted, "{key}");
        }
        let preprocess = dict.preprocess.as_ref().unwrap();
        assert_eq!(preprocess.interpolation, Interpolation::Bilinear);
        let config = family::config(&format!("mobileclip/{name}"));
        load_state_dict(Clip::new(&config, &device()).unwrap(), &config, dict, &file).unwrap();
    }
}

/// Prints what joining the branches gains: the image tower of `OPENCLIP_BENCH_MODEL`, by default MobileCLIP2-S0, with random
/// weights on eight pictures, both ways in turn; medians of five.
#[test]
#[ignore = "measures"]
fn folding_speed() {
    let name = std::env::var("OPENCLIP_BENCH_MODEL").unwrap_or("MobileCLIP2-S0".into());
    let mut config = registry::builtin(&name).unwrap();
    (config.text_cfg.vocab_size, config.text_cfg.layers) = (8, 1);
    let plain = init::initialise(Clip::new(&config, &device()).unwrap(), &config, 1);
    let folded = plain.clone().folded();
    let (height, width) = config.vision_cfg.image_size.dims();
    let shape = [8, 3, height, width];
    let image = Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device());
    let mut seconds = [Vec::new(), Vec::new()];
    let mut features = [Vec::new(), Vec::new()];
    for _ in 0..6 {
        for (i, model) in [&plain, &folded].into_iter().enumerate() {
            let start = Instant::now();
            features[i] = values(model.encode_image(image.clone(), true));
            seconds[i].push(start.elapsed().as_secs_f64());
        }
    }
    let [plain, folded] = seconds.map(|mut all| {
        // The first pass allocates.
        all.remove(0);
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    });
    println!(
        "{name}: {:.1} pictures/s with branches, {:.1} folded, {:.2} times; features differ by {:e}",
        8.0 / plain,
        8.0 / folded,
        plain / folded,
        max_difference(&features[0], &features[1])
    );
}

/// Training mode does not use the joined branches, and what is saved stays as it was.
#[test]
fn folding_leaves_training_and_parameters_alone() {
    for name in ["mci0", "vit"] {
        let path = format!("mobileclip/{name}");
        let expected = Tensors::read(&format!("{path}.safetensors"));
        let model = family::model(&path).folded();
        let image = family::batch(&expected, 0).images;
        let found = values(model.visual.forward(image, Some(0)));
        let apart = max_difference(&found, expected.get("train/image_features").1);
        assert!(apart <= FEATURES, "{apart:e}");
        let plain = parameters_of(&family::model(&path));
        let folded = parameters_of(&model);
        assert_eq!(plain.len(), folded.len());
        for (plain, folded) in plain.iter().zip(&folded) {
            assert_eq!((&plain.key, &plain.values), (&folded.key, &folded.values));
        }
    }
}

/// In bf16 the joined branches are as near to f32 as the parallel ones.
#[test]
fn folded_in_half_precision() {
    let path = "mobileclip/mci0";
    let expected = Tensors::read(&format!("{path}.safetensors"));
    let plain = family::model(path).valid();
    let folded = plain.clone().folded();
    let image = expected
        .tensor::<4>("input/image", &device())
        .cast(DType::BF16);
    let wanted = expected.get("output/image_features_norm").1;
    for model in [plain, folded] {
        let apart = max_difference(&values(model.encode_image(image.clone(), true)), wanted);
        assert!(apart <= 0.05, "{apart:e}");
    }
}

#[test]
fn training_reduces_the_loss() {
    for name in ["mci0", "vit"] {
        let path = format!("mobileclip/{name}");
        let mut config = family::config(&path);
        config.vision_cfg.extra["timm_drop_path"] = 0.1.into();
        let losses = family::losses(&path, &config, 40, 5e-3, &ClipLoss);
        println!("{name}: loss {} to {}", losses[0], losses[39]);
        assert!(losses[39] < 0.8 * losses[0], "{losses:?}");
    }
}

/// The first branch is never left out, later ones more and more often.
#[test]
fn stochastic_depth_follows_the_seed() {
    for name in ["mci0", "vit_large"] {
        let path = format!("mobileclip/{name}");
        let mut config = family::config(&path);
        config.vision_cfg.extra["timm_drop_path"] = 0.6.into();
        let depth = match name {
            "mci0" => "layers",
            _ => "depth",
        };
        let kwargs = &mut config.vision_cfg.extra["timm_kwargs"];
        kwargs[depth] = match name {
            "mci0" => serde_json::json!([2, 1, 1, 2]),
            _ => serde_json::json!(4),
        };
        let expected = Tensors::read(&format!("{path}.safetensors"));
        let fresh = Clip::new(&config, &device()).unwrap();
        let model = init::initialise(fresh, &config, 3);
        let image = expected.tensor::<4>("input/image", &device());
        let draw = |seed| values(model.visual.forward(image.clone(), Some(seed)));
        assert_eq!(draw(5), draw(5), "{name}");
        assert!((6..16).any(|seed| draw(5) != draw(seed)), "{name}");
    }
}

#[test]
fn what_no_fastvit_has_is_refused_by_name() {
    for (key, value) in [
        ("timm_drop", serde_json::json!(0.5)),
        ("timm_drop_path", serde_json::json!(1.0)),
        ("timm_pool", serde_json::json!("map")),
        ("timm_proj", serde_json::json!("conv")),
        ("patch_dropout", serde_json::json!(0.5)),
        ("image_size", serde_json::json!(0)),
        (
            "timm_kwargs",
            serde_json::json!({"embed_dims": [0, 1, 1, 32]}),
        ),
        (
            "timm_kwargs",
            serde_json::json!({"embed_dims": [1, 1, 1, 33]}),
        ),
        (
            "timm_kwargs",
            serde_json::json!({"embed_dims": [2, 3, 3, 96]}),
        ),
        ("timm_kwargs", serde_json::json!({"layers": [1, 1]})),
        ("timm_kwargs", serde_json::json!({"depths": [1, 1, 1, 1]})),
    ] {
        family::refuses("mobileclip/mci0", key, value, key);
    }
}

/// Writes files for `export_mobileclip.py --saved DIR` into `OPENCLIP_PARITY_DIR`.
#[test]
#[ignore = "writes files for Python to load"]
fn save_for_open_clip() {
    family::save_for_python("mobileclip");
}
