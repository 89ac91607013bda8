//! What the parity tests of every model family compare: outputs, gradients, state dicts, initial weights, saved files.
//!
//! A case is a pair `<case>.json`, `<case>.safetensors` that `tests/parity/family.py` describes.

use std::collections::BTreeSet;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{DType, Tensor};
use openclip_model::config::ModelConfig;
use openclip_model::factory::{self, CreateOptions, Loaded};
use openclip_model::layers::drop_path::drop_path_shares;
use openclip_model::load::load_state_dict;
use openclip_model::weights::{StateDict, TensorOut, write_safetensors};
use openclip_model::{Clip, ModelError, init, params, registry};
use openclip_train::loss::{Objective, PairLoss};
use openclip_train::optim::{AdamW, decays};
use openclip_train::relay::{self, MicroBatch};
use serde_json::Value;

use crate::{
    Tensors, device, finite, fixture, fixture_tensors, gradients_of, json, largest, max_difference,
    model_config, parameters_of, relative_difference, values,
};

/// Absolute: f32 sums of a few hundred terms in another order than PyTorch's.
pub const FEATURES: f32 = 1e-4;
/// Relative to the largest value of a gradient, or to a thousandth of the model's largest where that is more: there the gradient
/// is a sum of large terms that cancel.
pub const GRADIENTS: f32 = 1e-3;
/// Largest value of a gradient that is zero to rounding.
const NOTHING: f32 = 1e-5;
/// Of a large gradient a fixture may hold every `max(1, n / SAMPLES)`-th of its n values alone.
const SAMPLES: usize = 48;

/// Paths of the cases in a folder, without extension, sorted.
pub fn cases(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<String> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .filter(|path| path.with_extension("safetensors").is_file())
        .map(|path| path.with_extension("").to_str().unwrap().to_string())
        .filter(|path| json(&format!("{path}.json"))["model_cfg"].is_object())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no cases in {}", folder.display());
    paths
}

/// The cases that `OPENCLIP_PARITY_DIR` holds: what `export_<family>.py --fuzz SEED COUNT --output DIR` wrote.
pub fn random_cases() -> Vec<String> {
    let folder = std::env::var("OPENCLIP_PARITY_DIR").expect("OPENCLIP_PARITY_DIR");
    cases(Path::new(&folder))
}

/// Features with what folds in one convolution, and how far they are from upstream's.
pub fn same_when_folded(path: &str) -> f32 {
    let expected = Tensors::read(&format!("{path}.safetensors"));
    let model = model(path).valid().folded();
    let image = expected.tensor("input/image", &device());
    let found = values(model.encode_image(image, false));
    let apart = max_difference(&found, expected.get("output/image_features").1);
    assert!(
        apart <= FEATURES,
        "{path}: folded features differ by {apart:e}"
    );
    apart
}

/// The configuration of a case, without what is random in training: upstream computed in evaluation mode.
pub fn config(path: &str) -> ModelConfig {
    let mut config = model_config(&json(&format!("{path}.json"))["model_cfg"]);
    config.vision_cfg.patch_dropout = 0.0;
    if let Some(share) = config.vision_cfg.extra.get_mut("timm_drop_path") {
        *share = 0.0.into();
    }
    config
}

/// The pictures and captions of a case.
pub fn batch(expected: &Tensors, dropout: u64) -> MicroBatch {
    let device = device().autodiff();
    MicroBatch {
        images: expected.tensor("input/image", &device),
        tokens: expected.tokens("input/text", &device),
        dropout,
    }
}

/// The model of a case, on the device under test with gradients.
pub fn model(path: &str) -> Clip {
    let device = device().autodiff();
    crate::model(
        &config(path),
        &format!("{path}.safetensors"),
        "weights/",
        &device,
    )
}

/// Asserts that features, CLIP's loss and the gradients of every case are upstream's; prints the largest differences.
pub fn same_models(paths: &[String]) {
    let (mut features, mut gradients) = (0.0_f32, 0.0_f32);
    for path in paths {
        let expected = Tensors::read(&format!("{path}.safetensors"));
        let (model, batch) = (model(path), batch(&expected, 0));
        features = features.max(same_features(path, &model, &batch, &expected));
        let (loss, found) = relay::step(&model, std::slice::from_ref(&batch)).unwrap();
        let apart = max_difference(&values(loss), expected.get("output/loss").1);
        assert!(apart <= FEATURES, "{path}: loss differs by {apart:e}");
        let found = gradients_of(&model, &found);
        gradients = gradients.max(same_gradients(path, "grad/", &found, &expected, GRADIENTS));
    }
    println!(
        "{} models: features {features:e}, gradients {gradients:e} relative",
        paths.len()
    );
}

/// Asserts equal features, plain and normalised, in evaluation mode; returns the largest difference.
pub fn same_features(path: &str, model: &Clip, batch: &MicroBatch, expected: &Tensors) -> f32 {
    let mut worst = 0.0_f32;
    for (suffix, normalize) in [("", false), ("_norm", true)] {
        let image = model.encode_image(batch.images.clone(), normalize);
        let text = model.encode_text(batch.tokens.clone(), normalize);
        for (kind, found) in [("image", image), ("text", text)] {
            let wanted = expected.get(&format!("output/{kind}_features{suffix}")).1;
            let apart = max_difference(&values(found), wanted);
            assert!(
                apart <= FEATURES,
                "{path}: {kind} features differ by {apart:e}"
            );
            worst = worst.max(apart);
        }
    }
    worst
}

/// Asserts that the gradients under `prefix` are the found ones, and that no other has any; returns the largest difference.
///
/// A gradient that is zero to rounding may be missing or noise on either side; all are, where the loss has no gradient.
pub fn same_gradients(
    path: &str,
    prefix: &str,
    found: &[params::ParamValues],
    expected: &Tensors,
    tolerance: f32,
) -> f32 {
    let wanted: Vec<_> = expected.with_prefix(prefix).collect();
    assert!(!wanted.is_empty(), "{path}: no gradients under {prefix}");
    let total = wanted
        .iter()
        .fold(0.0_f32, |max, (_, g)| max.max(largest(g)));
    for param in found {
        let known = wanted.iter().any(|(key, _)| *key == param.key);
        let vanishes = largest(&param.values) <= NOTHING;
        assert!(known || vanishes, "{path}: {} is fixed upstream", param.key);
    }
    let mut worst = 0.0_f32;
    for (key, wanted) in wanted {
        let own = found.iter().find(|param| param.key == key);
        let own = own.map_or(vec![0.0; wanted.len()], |param| {
            sampled(&param.values, wanted.len())
        });
        let apart = max_difference(&own, wanted);
        if total <= NOTHING {
            assert!(apart <= NOTHING, "{path}: {key} has a gradient, {apart:e}");
            continue;
        }
        let apart = apart / largest(wanted).max(1e-3 * total);
        assert!(
            apart <= tolerance,
            "{path}: gradient of {key} differs by {apart:e}"
        );
        worst = worst.max(apart);
    }
    worst
}

/// The values of which a fixture holds `count`: all, or some at even distances.
fn sampled(values: &[f32], count: usize) -> Vec<f32> {
    // A value that is left out counts as well.
    let values = finite(values);
    let step = match values.len() == count {
        true => 1,
        false => (values.len() / SAMPLES).max(1),
    };
    values.iter().copied().step_by(step).collect()
}

/// Asserts equal features of pictures of other sizes than the configuration's: those in the family's `sizes.safetensors`.
pub fn same_for_other_pictures(family: &str) {
    let file = format!("{family}/sizes.safetensors");
    for_other_sizes(family, &file, |path, _| config(path));
}

/// Asserts equal parameters and features of models of other sizes than their weights, as timm's `set_input_size` fits them: those in
/// the family's `resize.safetensors`.
pub fn same_when_resized(family: &str) {
    let file = format!("{family}/resize.safetensors");
    for_other_sizes(family, &file, |path, size| {
        let mut config = config(path);
        config.vision_cfg.image_size = serde_json::from_value(size.into()).unwrap();
        config
    });
}

fn for_other_sizes(family: &str, file: &str, config: impl Fn(&str, Vec<usize>) -> ModelConfig) {
    let expected = Tensors::read(file);
    let all = expected.with_prefix("");
    let places = all.filter_map(|(name, _)| name.strip_suffix("/features"));
    for place in places {
        let (case, size) = place.split_once('/').unwrap();
        let size = size.split('x').map(|side| side.parse().unwrap()).collect();
        let path = format!("{family}/{case}");
        let weights = format!("{path}.safetensors");
        let model = crate::model(&config(&path, size), &weights, "weights/", &device());
        for param in parameters_of(&model) {
            let name = format!("{place}/{}", param.key);
            if let Some((shape, wanted)) = expected.find(&name) {
                assert_eq!(param.shape, shape, "{name}");
                let apart = max_difference(&param.values, wanted);
                assert!(apart <= 1e-5, "{name}: {apart:e}");
            }
        }
        let image = expected.tensor(&format!("{place}/image"), &device());
        let wanted = expected.get(&format!("{place}/features")).1;
        let apart = max_difference(&values(model.encode_image(image, false)), wanted);
        assert!(apart <= FEATURES, "{place}: {apart:e}");
    }
}

/// Asserts that blocks are left out as often as timm's in a family's `drop_path.json`; `own` is the rate of a model that none is
/// given.
pub fn same_drop_path_shares(family: &str, own: impl Fn(&str) -> f64) {
    for case in json(&format!("{family}/drop_path.json"))
        .as_array()
        .unwrap()
    {
        let name = case["name"].as_str().unwrap();
        let rate = case["rate"].as_f64().unwrap_or_else(|| own(name));
        let wanted: Vec<f64> = serde_json::from_value(case["shares"].clone()).unwrap();
        let found = drop_path_shares(rate, wanted.len());
        for (found, wanted) in found.iter().zip(&wanted) {
            let place = format!("{name}, {rate}");
            assert!((found - wanted).abs() <= 1e-7, "{place}: {found}, {wanted}");
        }
    }
}

/// How many rows differ in their bits.
pub fn kinds_of_rows(features: Tensor<2>) -> usize {
    let [_, width] = features.dims();
    let features = values(features);
    let rows = features.chunks(width);
    let rows = rows.map(|row| row.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
    rows.collect::<BTreeSet<_>>().len()
}

/// Asserts that towers compute in the dtype of their input, in bf16 as exactly as bf16 is: 8 bits, rounded at every layer.
/// `tolerance` is relative to the largest feature.
pub fn near_in_bf16(path: &str, tolerance: f32) {
    if !device().supports_dtype(DType::BF16) {
        return;
    }
    let file = format!("{path}.safetensors");
    let model = crate::model(&config(path), &file, "weights/", &device());
    let expected = Tensors::read(&file);
    let image: Tensor<4> = expected.tensor("input/image", &device());
    let image = model.encode_image(image.cast(DType::BF16), false);
    let tokens = expected.tokens("input/text", &device());
    let text = model.encode_text_in(tokens, false, DType::BF16);
    for (kind, found) in [("image", image), ("text", text)] {
        let wanted = expected.get(&format!("output/{kind}_features")).1;
        let apart = relative_difference(&values(found), wanted);
        println!("{path}: {kind} features in bf16 {apart:e}");
        assert!(
            apart <= tolerance && apart > 0.0,
            "{path}: {kind} {apart:e}"
        );
    }
}

/// Asserts of every configuration in a `parameters.json`, `count` of them, that keys, shapes, totals and weight decay are
/// upstream's. Parameters are declared lazily, so that nothing is allocated.
pub fn same_state_dicts(file: &str, count: usize) {
    let table = json(file);
    let table = table.as_object().unwrap();
    assert_eq!(table.len(), count, "configurations in {file}");
    for (name, expected) in table {
        let model = Clip::new(&registry::builtin(name).unwrap(), &device()).unwrap();
        let all = params::describe(&model);
        let total = |prefix: &str| -> usize {
            let own = all
                .iter()
                .filter(|p| p.is_parameter() && p.key.starts_with(prefix));
            own.map(params::ParamInfo::numel).sum()
        };
        assert_eq!(expected["total"], total(""), "{name}");
        assert_eq!(expected["visual"], total("visual."), "{name}");
        assert_eq!(expected["keys"], all.len(), "{name}");
        let shapes = all.iter().map(|p| format!("{} {:?}", p.key, p.shape));
        assert_eq!(expected["shapes"], digest(shapes.collect()), "{name}");
        let decayed = all.iter().filter(|p| decays(&p.key, &p.shape));
        let decayed = decayed.map(|p| p.key.clone()).collect();
        assert_eq!(expected["decayed"], digest(decayed), "{name}");
    }
}

/// FNV-1a of the sorted lines, each with its line end, as in `export_profile.py`.
pub fn digest(mut lines: Vec<String>) -> String {
    lines.sort();
    let bytes = lines.iter().flat_map(|line| line.bytes().chain([b'\n']));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// Asserts that fresh weights have the mean, deviation and constants of upstream's in an `init.json`.
pub fn same_initial_weights(file: &str) {
    for (name, case) in json(file).as_object().unwrap() {
        let config = model_config(&case["model_cfg"]);
        let expected = case["parameters"].as_object().unwrap();
        let models: Vec<_> = (0..case["seeds"].as_u64().unwrap())
            .map(|seed| {
                let model = Clip::new(&config, &device()).unwrap();
                parameters_of(&init::initialise(model, &config, seed))
            })
            .collect();
        assert_eq!(models[0].len(), expected.len(), "{name}");
        for i in 0..models[0].len() {
            let key = &models[0][i].key;
            let all = models.iter().flat_map(|model| &model[i].values);
            let drawn: Vec<f32> = all.copied().collect();
            same_moments(&format!("{name}, {key}"), &drawn, &expected[key]);
        }
    }
}

pub(crate) fn same_moments(place: &str, drawn: &[f32], expected: &Value) {
    let drawn = finite(drawn);
    if let Some(constant) = expected["constant"].as_f64() {
        let same = drawn.iter().all(|x| *x == constant as f32);
        assert!(same, "{place}: not all {constant}");
        return;
    }
    let count = drawn.len() as f64;
    let wanted = |field: &str| expected[field].as_f64().unwrap();
    let exact = || drawn.iter().map(|x| f64::from(*x));
    let mean = exact().sum::<f64>() / count;
    let std = (exact().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt();
    // Both sides are samples: five standard deviations of their difference.
    let noise = 5.0 * (2.0 / count).sqrt();
    let apart = (mean - wanted("mean")).abs();
    assert!(apart <= noise * wanted("std"), "{place}: mean {mean}");
    let spread = ((wanted("kurtosis") - 1.0) / 4.0).sqrt().max(0.5);
    assert!(
        (std / wanted("std") - 1.0).abs() <= noise * spread,
        "{place}: deviation {std}, expected {}",
        wanted("std")
    );
}

/// What is said of weights under `weights/` of a fixture that are not those of `config`.
pub fn refusal(config: &ModelConfig, file: &str) -> String {
    refusal_of(config, fixture_tensors(file, "weights/"), file)
}

/// What is said of `weights`, which came from a fixture, that are not those of `config`.
pub fn refusal_of(config: &ModelConfig, weights: StateDict, file: &str) -> String {
    let model = Clip::new(config, &device()).unwrap();
    let error = load_state_dict(model, config, weights, &fixture(file));
    error.expect_err("foreign weights are refused").to_string()
}

/// Losses of `steps` optimizer steps from fresh weights on the batch of a case.
pub fn losses(
    path: &str,
    config: &ModelConfig,
    steps: usize,
    lr: f64,
    loss: &'static dyn PairLoss,
) -> Vec<f32> {
    let expected = Tensors::read(&format!("{path}.safetensors"));
    let fresh = Clip::new(config, &device().autodiff()).unwrap();
    let mut model = init::initialise(fresh, config, 1);
    let adamw = AdamW {
        beta1: 0.9,
        beta2: 0.98,
        eps: 1e-6,
        weight_decay: 0.0,
    };
    let mut optimizer = adamw.optimizer(&model);
    let step = |step| {
        let batch = batch(&expected, step as u64);
        let (losses, gradients) =
            relay::step_toward(&model, &[batch], &Objective::of(loss)).unwrap();
        model = optimizer
            .step(lr, model.clone(), gradients)
            .apply_pending_statistics();
        values(losses.total)[0]
    };
    (0..steps).map(step).collect()
}

/// The model of a case as if it had been loaded from a file.
pub fn loaded(path: &str) -> Loaded {
    let config = model_config(&json(&format!("{path}.json"))["model_cfg"]);
    let file = format!("{path}.safetensors");
    Loaded {
        model: crate::model(&config, &file, "weights/", &device()),
        name: path.into(),
        config,
        preprocess: Default::default(),
        warnings: Vec::new(),
    }
}

/// A model of this configuration with the weights of a file.
pub fn create(
    config: &Value,
    weights: &Path,
    options: &CreateOptions,
) -> Result<Loaded, ModelError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.json");
    std::fs::write(&path, config.to_string()).unwrap();
    factory::create(path.to_str().unwrap(), weights.to_str(), &device(), options)
}

/// Writes a folder that `local-dir:` names, here and in OpenCLIP.
pub fn save_folder(loaded: &Loaded, folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let weights = folder.join("open_clip_model.safetensors");
    loaded.save(&weights).unwrap();
    let hub = factory::hub_config(&loaded.config, &loaded.preprocess);
    std::fs::write(folder.join("open_clip_config.json"), hub.to_string()).unwrap();
}

/// Writes `<case>.saved.safetensors` of every committed case into `OPENCLIP_PARITY_DIR`, for `export_<family>.py --saved DIR`.
pub fn save_for_python(family: &str) {
    let folder = std::env::var("OPENCLIP_PARITY_DIR").expect("OPENCLIP_PARITY_DIR");
    for path in cases(&fixture(family)) {
        let name = Path::new(&path).file_name().unwrap().to_str().unwrap();
        let params = parameters_of(&model(&path));
        let tensors = params
            .iter()
            .map(|p| TensorOut::f32(&p.key, &p.shape, &p.values));
        let saved = Path::new(&folder).join(format!("{name}.saved.safetensors"));
        write_safetensors(&saved, tensors, &Default::default()).unwrap();
    }
}

/// Asserts that the configuration of a case with another value of an image tower's option is refused with an error that has `word`.
pub fn refuses(case: &str, key: &str, value: Value, word: &str) {
    let mut cfg = json(&format!("{case}.json"))["model_cfg"].clone();
    let place = format!("{case}, {key} {value}");
    cfg["vision_cfg"][key] = value;
    let error = serde_json::from_value(cfg)
        .map_err(|error| error.to_string())
        .and_then(|config| Clip::new(&config, &device()).map_err(|error| error.to_string()));
    let error = error.expect_err(&place);
    assert!(error.contains(word), "{place}: {error}");
}

/// Asserts equal gradients of the same parameters, relative to the largest value of each, or to a thousandth of the model's largest
/// where that is more; returns the largest difference.
pub fn equal_gradients(
    what: &str,
    found: &[params::ParamValues],
    wanted: &[params::ParamValues],
    tolerance: f32,
) -> f32 {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let total = wanted
        .iter()
        .map(|p| largest(&p.values))
        .fold(0.0, f32::max);
    assert!(total > 0.0, "{what}: no gradient");
    let mut worst = 0.0_f32;
    for (found, wanted) in found.iter().zip(wanted) {
        assert_eq!(found.key, wanted.key, "{what}");
        let scale = largest(&wanted.values).max(1e-3 * total);
        let apart = max_difference(&found.values, &wanted.values) / scale;
        assert!(
            apart <= tolerance,
            "{what}: {} differs by {apart:e}",
            found.key
        );
        worst = worst.max(apart);
    }
    worst
}
