//! ConvNeXt against `open_clip`: outputs, gradients, state dicts, initial weights, stochastic depth, loading and saving.
//! `tests/parity/export_convnext.py` made the fixtures.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

use std::path::{Path, PathBuf};

use burn::tensor::Tensor;
use openclip_model::config::ModelConfig;
use openclip_model::layers::drop_path::{branch_seed, drop_path, drop_path_shares};
use openclip_model::layers::patch::patch_dropout;
use openclip_model::weights::{TensorOut, bind, write_safetensors};
use openclip_model::{Clip, init, params, registry};
use openclip_tests::{
    Tensors, device, fixture, fixture_tensors, json, max_difference, model, model_config, values,
};
use openclip_train::optim::{AdamW, decays};
use openclip_train::relay::{self, MicroBatch, PickGradient};

/// f32 sums of a few hundred terms in another order than PyTorch's.
const FEATURES: f32 = 1e-4;
/// Relative to the largest value of each gradient tensor.
const GRADIENTS: f32 = 1e-3;

/// The configuration of a case without stochastic depth, as upstream computed it.
fn evaluated(path: &str) -> ModelConfig {
    let mut config = model_config(&json(&format!("{path}.json"))["model_cfg"]);
    config.vision_cfg.extra["timm_drop_path"] = 0.0.into();
    config
}

fn cases(folder: PathBuf) -> Vec<String> {
    let entries = std::fs::read_dir(&folder).unwrap();
    let mut paths: Vec<String> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
        .filter(|path| path.with_extension("json").is_file())
        .map(|path| path.with_extension("").to_str().unwrap().to_string())
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

fn committed() -> Vec<String> {
    cases(fixture("convnext"))
}

/// Largest differences of features and gradients, the latter relative to the tensor's largest value, or to a thousandth of the
/// model's where the tensor's is smaller.
fn compare(path: &str) -> [f32; 2] {
    let file = format!("{path}.safetensors");
    let expected = Tensors::read(&file);
    let device = device().autodiff();
    let model = model(&evaluated(path), &file, "weights/", &device);
    let batch = MicroBatch {
        images: expected.tensor("input/image", &device),
        tokens: expected.tokens("input/text", &device),
        dropout: 0,
    };
    let mut features = 0.0_f32;
    for (suffix, normalize) in [("", false), ("_norm", true)] {
        let image = model.encode_image(batch.images.clone(), normalize);
        let text = model.encode_text(batch.tokens.clone(), normalize);
        for (kind, found) in [("image", image), ("text", text)] {
            let wanted = expected.get(&format!("output/{kind}_features{suffix}")).1;
            let apart = max_difference(&values(found), wanted);
            assert!(apart <= FEATURES, "{path}: {kind} differs by {apart:e}");
            features = features.max(apart);
        }
    }
    let (loss, gradients) = relay::step(&model, std::slice::from_ref(&batch));
    let apart = max_difference(&values(loss), expected.get("output/loss").1);
    assert!(apart <= FEATURES, "{path}: loss differs by {apart:e}");
    let found = params::export_with(&model, &mut PickGradient(&gradients));
    let largest = |values: &[f32]| values.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    let wanted: Vec<_> = expected.with_prefix("grad/").collect();
    let scale = wanted
        .iter()
        .fold(0.0_f32, |max, (_, g)| max.max(largest(g)));
    let mut worst = 0.0_f32;
    for (key, wanted) in wanted {
        let found = found.iter().find(|param| param.key == key);
        let Some(found) = found else {
            assert_eq!(largest(wanted), 0.0, "{path}: no gradient of {key}");
            continue;
        };
        let apart = max_difference(&found.values, wanted) / largest(wanted).max(1e-3 * scale);
        assert!(
            apart <= GRADIENTS,
            "{path}: gradient of {key} differs by {apart:e}"
        );
        worst = worst.max(apart);
    }
    [features, worst]
}

fn compare_all(paths: &[String]) {
    let mut worst = [0.0_f32; 2];
    for path in paths {
        let found = compare(path);
        worst = std::array::from_fn(|i| worst[i].max(found[i]));
    }
    println!(
        "{} models: features {:e}, gradients {:e} relative",
        paths.len(),
        worst[0],
        worst[1]
    );
}

#[test]
fn features_loss_and_gradients() {
    compare_all(&committed());
}

/// `OPENCLIP_PARITY_DIR` is what `export_convnext.py --fuzz SEED COUNT --output DIR` wrote.
#[test]
#[ignore = "needs models of `export_convnext.py --fuzz`"]
fn random_models() {
    let folder = std::env::var("OPENCLIP_PARITY_DIR").expect("OPENCLIP_PARITY_DIR");
    compare_all(&cases(folder.into()));
}

/// A model takes pictures of any size, not only its configuration's.
#[test]
fn pictures_of_other_sizes() {
    let file = "convnext/sizes.safetensors";
    let expected = Tensors::read(file);
    let model = model(
        &evaluated("convnext/linear"),
        "convnext/linear.safetensors",
        "weights/",
        &device(),
    );
    let image = expected.tensor("39x63/image", &device());
    let found = values(model.encode_image(image, false));
    let apart = max_difference(&found, expected.get("39x63/features").1);
    assert!(apart <= FEATURES, "{apart:e}");
}

/// FNV-1a of the sorted lines, each with its line end, as in `export_profile.py`.
fn digest(mut lines: Vec<String>) -> String {
    lines.sort();
    let bytes = lines.iter().flat_map(|line| line.bytes().chain([b'\n']));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[test]
fn every_configuration_has_the_state_dict_of_open_clip() {
    let table = json("convnext/parameters.json");
    let table = table.as_object().unwrap();
    assert_eq!(table.len(), 11);
    for (name, expected) in table {
        let config = registry::builtin(name).unwrap();
        let params = params::describe(&Clip::new(&config, &device()).unwrap());
        let count = |prefix: &str| -> usize {
            let under = params.iter().filter(|param| param.key.starts_with(prefix));
            under.map(params::ParamInfo::numel).sum()
        };
        assert_eq!(expected["total"], count(""), "{name}");
        assert_eq!(expected["visual"], count("visual."), "{name}");
        assert_eq!(expected["keys"], params.len(), "{name}");
        let shapes = params.iter().map(|p| format!("{} {:?}", p.key, p.shape));
        assert_eq!(expected["shapes"], digest(shapes.collect()), "{name}");
        let decayed = params.iter().filter(|p| decays(&p.key, &p.shape));
        let decayed = decayed.map(|param| param.key.clone()).collect();
        assert_eq!(expected["decayed"], digest(decayed), "{name}");
    }
}

#[test]
fn initial_weights_are_distributed_as_timm_s() {
    for (name, case) in json("convnext/init.json").as_object().unwrap() {
        let config = model_config(&case["model_cfg"]);
        let expected = case["parameters"].as_object().unwrap();
        let models: Vec<_> = (0..case["seeds"].as_u64().unwrap())
            .map(|seed| {
                let model = Clip::new(&config, &device()).unwrap();
                params::export(&init::initialise(model, &config, seed))
            })
            .collect();
        assert_eq!(models[0].len(), expected.len(), "{name}");
        for i in 0..models[0].len() {
            let key = &models[0][i].key;
            let expected = &expected[key];
            let drawn: Vec<f64> = models
                .iter()
                .flat_map(|model| model[i].values.iter().map(|&x| f64::from(x)))
                .collect();
            if let Some(constant) = expected["constant"].as_f64() {
                let same = drawn.iter().all(|&x| x as f32 == constant as f32);
                assert!(same, "{name}, {key}: not all {constant}");
                continue;
            }
            let count = drawn.len() as f64;
            let [mean, square] =
                [1, 2].map(|power| drawn.iter().map(|x| x.powi(power)).sum::<f64>() / count);
            let std = (square - mean * mean).sqrt();
            let wanted = expected["std"].as_f64().unwrap();
            // Five standard deviations of two samples' error; 3 is the kurtosis of a normal distribution.
            let noise = |variance: f64| 5.0 * (2.0 * variance / count).sqrt();
            let kurtosis = expected["kurtosis"].as_f64().unwrap();
            assert!(
                (std / wanted - 1.0).abs() <= noise((kurtosis - 1.0).max(0.8) / 4.0),
                "{name}, {key}: deviation {std} and {wanted}"
            );
            let apart = mean - expected["mean"].as_f64().unwrap();
            assert!(
                apart.abs() <= noise(wanted * wanted),
                "{name}, {key}: mean {mean}"
            );
        }
    }
}

#[test]
fn shares_of_stochastic_depth_are_timm_s() {
    for (name, case) in json("convnext/drop_path.json").as_object().unwrap() {
        let wanted: Vec<f64> = serde_json::from_value(case["shares"].clone()).unwrap();
        let found = drop_path_shares(case["rate"].as_f64().unwrap(), wanted.len());
        for (found, wanted) in found.iter().zip(&wanted) {
            assert!((found - wanted).abs() <= 1e-7, "{name}: {found}, {wanted}");
        }
    }
    assert_eq!(drop_path_shares(0.3, 1), [0.0]);
    assert!(drop_path_shares(0.3, 0).is_empty());
}

#[test]
fn stochastic_depth_drops_whole_samples_and_keeps_the_expectation() {
    let batch = 4000;
    let branch = Tensor::<3>::ones([batch, 2, 3], &device());
    for share in [0.1, 0.5] {
        let found = values(drop_path(branch.clone(), share, 11));
        let kept = (1.0 / (1.0 - share)) as f32;
        for sample in found.chunks(6) {
            assert!(sample.iter().all(|x| *x == sample[0]));
            assert!(sample[0] == 0.0 || sample[0] == kept, "{}", sample[0]);
        }
        let dropped = found.iter().filter(|x| **x == 0.0).count() as f64 / found.len() as f64;
        // Five standard deviations of a binomial share.
        let noise = 5.0 * (share * (1.0 - share) / batch as f64).sqrt();
        assert!((dropped - share).abs() <= noise, "{dropped} of {share}");
    }
    let draw = |seed| values(drop_path(branch.clone(), 0.5, seed));
    assert_eq!(draw(3), draw(3));
    assert_ne!(draw(3), draw(4));
    assert_eq!(
        values(drop_path(branch.clone(), 0.0, 3)),
        values(branch.clone())
    );
    // Branches of one pass are independent: they agree on half of the samples.
    let [a, b] = [0, 1].map(|i| draw(branch_seed(3, i)));
    let agree = a.iter().zip(&b).filter(|(a, b)| a == b).count() as f64 / a.len() as f64;
    assert!(
        (agree - 0.5).abs() <= 5.0 * 0.5 / (batch as f64).sqrt(),
        "{agree}"
    );
}

/// The first block is never left out, the last one for the configured share.
#[test]
fn a_tower_in_training_drops_branches_by_its_seed() {
    let mut config = evaluated("convnext/linear");
    config.vision_cfg.extra["timm_drop_path"] = 0.5.into();
    let file = "convnext/linear.safetensors";
    let model = model(&config, file, "weights/", &device());
    let image = Tensors::read(file).tensor::<4>("input/image", &device());
    let image = image.slice_dim(0, 0..1).repeat_dim(0, 32);
    let forward = |training| values(model.visual.forward(image.clone(), training));
    let rows = |features: &[f32]| -> std::collections::BTreeSet<Vec<u32>> {
        let rows = features.chunks(8);
        rows.map(|row| row.iter().map(|x| x.to_bits()).collect())
            .collect()
    };
    let (evaluated, trained) = (forward(None), forward(Some(5)));
    assert_eq!(rows(&evaluated).len(), 1, "evaluation drops nothing");
    // Six blocks of which five may be left out.
    let kinds = rows(&trained).len();
    assert!((8..=32).contains(&kinds), "{kinds} kinds of samples");
    assert_eq!(trained, forward(Some(5)));
    assert_ne!(trained, forward(Some(6)));
}

/// Each patch is kept equally often.
#[test]
fn patch_dropout_prefers_no_patch() {
    let (batch, n) = (3000, 10);
    let index: Vec<f32> = (0..batch * n).map(|i| (i % n) as f32).collect();
    let tokens = Tensor::<1>::from_floats(index.as_slice(), &device()).reshape([batch, n, 1]);
    let kept = patch_dropout(tokens.clone(), 0.37, 9);
    assert_eq!(kept.dims(), [batch, 6, 1]);
    let kept = values(kept);
    let mut counts = [0_usize; 10];
    for row in kept.chunks(6) {
        let mut row: Vec<usize> = row.iter().map(|x| *x as usize).collect();
        row.sort_unstable();
        row.dedup();
        assert_eq!(row.len(), 6, "a patch is kept twice");
        row.into_iter().for_each(|patch| counts[patch] += 1);
    }
    let noise = 5.0 * (0.6 * 0.4 * batch as f64).sqrt();
    for count in counts {
        assert!(
            (count as f64 - 0.6 * batch as f64).abs() <= noise,
            "{counts:?}"
        );
    }
    assert_ne!(kept, values(patch_dropout(tokens, 0.37, 10)));
}

/// A few steps on one batch, with stochastic depth: the loss falls.
#[test]
fn training_reduces_the_loss() {
    let device = device().autodiff();
    let mut config = evaluated("convnext/mlp");
    config.vision_cfg.extra["timm_drop_path"] = 0.1.into();
    let fresh = Clip::new(&config, &device).unwrap();
    let mut model = init::initialise(fresh, &config, 1);
    let file = Tensors::read("convnext/mlp.safetensors");
    let adamw = AdamW {
        beta1: 0.9,
        beta2: 0.98,
        eps: 1e-6,
        weight_decay: 0.1,
    };
    let mut optimizer = adamw.optimizer(&model);
    let mut losses = Vec::new();
    for step in 0..30 {
        let batch = MicroBatch {
            images: file.tensor("input/image", &device),
            tokens: file.tokens("input/text", &device),
            dropout: step,
        };
        let (loss, gradients) = relay::step(&model, &[batch]);
        losses.push(values(loss)[0]);
        model = optimizer.step(5e-3, model, gradients);
    }
    println!("loss {} to {}", losses[0], losses[29]);
    assert!(losses[29] < 0.7 * losses[0], "{losses:?}");
}

/// Weights of another family are refused with their keys, and so are these by another family.
#[test]
fn another_family_s_weights_are_refused() {
    let refusal = |config: &ModelConfig, file: &str| {
        let weights = fixture_tensors(file, "weights/");
        let model = Clip::new(config, &device()).unwrap();
        let error = bind::load(model, config, weights, &fixture(file)).unwrap_err();
        error.to_string()
    };
    let vit = model_config(&json("models/vit_plain.json")["model_cfg"]);
    let convnext = evaluated("convnext/linear");
    let error = refusal(&convnext, "models/vit_plain.safetensors");
    for word in ["visual.trunk.", "visual."] {
        assert!(error.contains(word), "{error}");
    }
    let error = refusal(&vit, "convnext/linear.safetensors");
    assert!(error.contains("visual.trunk."), "{error}");
}

#[test]
fn what_no_convnext_has_is_refused_by_name() {
    for (key, value) in [
        ("timm_drop", serde_json::json!(0.5)),
        ("timm_drop_path", serde_json::json!(1.0)),
        ("timm_pool", serde_json::json!("map")),
        ("timm_proj", serde_json::json!("conv")),
        ("patch_dropout", serde_json::json!(0.5)),
        ("image_size", serde_json::json!(31)),
        ("timm_kwargs", serde_json::json!({"dims": [0, 1, 1, 1]})),
        ("timm_kwargs", serde_json::json!({"dpeths": [1, 1, 1, 1]})),
    ] {
        let mut cfg = json("convnext/linear.json")["model_cfg"].clone();
        cfg["vision_cfg"][key] = value;
        let error = Clip::new(&model_config(&cfg), &device()).unwrap_err();
        assert!(error.to_string().contains(key), "{key}: {error}");
    }
}

/// Writes files for `export_convnext.py --check DIR` into `OPENCLIP_PARITY_DIR`.
#[test]
#[ignore = "writes files for Python to load"]
fn save_for_open_clip() {
    let folder = std::env::var("OPENCLIP_PARITY_DIR").expect("OPENCLIP_PARITY_DIR");
    for path in committed() {
        let file = format!("{path}.safetensors");
        let model = model(&evaluated(&path), &file, "weights/", &device());
        let name = Path::new(&path).file_name().unwrap().to_str().unwrap();
        let saved = Path::new(&folder).join(format!("{name}.saved.safetensors"));
        let params = params::export(&model);
        let tensors = params
            .iter()
            .map(|p| TensorOut::f32(&p.key, &p.shape, &p.values));
        write_safetensors(&saved, tensors, &Default::default()).unwrap();
    }
}
