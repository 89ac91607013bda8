//! What the parity tests of towers with BatchNorm compare, in evaluation and in training. `tests/parity/batch_norm.py` describes
//! what a case has of the latter.

use burn::optim::GradientsParams;
use openclip_model::Clip;
use openclip_train::loss::clip_loss;
use openclip_train::relay;

use crate::family::{self, FEATURES, GRADIENTS};
use crate::{Tensors, gradients_of, json, max_difference, parameters_of, values};

/// Asserts that features, loss, gradients and running statistics of every case are upstream's; prints the largest differences.
pub fn same_models(paths: &[String]) {
    let worst = |found: &[[f32; 2]]| {
        let largest = |i: usize| found.iter().fold(0.0_f32, |worst, x| worst.max(x[i]));
        let [features, gradients] = [largest(0), largest(1)];
        format!("features {features:e}, gradients {gradients:e} relative")
    };
    let evaluated: Vec<_> = paths.iter().map(|path| same_in_evaluation(path)).collect();
    println!("{} models: {}", paths.len(), worst(&evaluated));
    let trained = paths.iter().filter_map(|path| same_in_training(path));
    let trained: Vec<_> = trained.collect();
    println!("{} in training: {}", trained.len(), worst(&trained));
}

/// Largest differences of features and gradients.
fn same_in_evaluation(path: &str) -> [f32; 2] {
    let expected = Tensors::read(&format!("{path}.safetensors"));
    let (model, batch) = (family::model(path), family::batch(&expected, 0));
    let features = family::same_features(path, &model, &batch, &expected);
    let loss = clip_loss(model.forward(batch.images, batch.tokens));
    let apart = max_difference(&values(loss.clone()), expected.get("output/loss").1);
    assert!(apart <= FEATURES, "{path}: loss differs by {apart:e}");
    let gradients = GradientsParams::from_grads(loss.backward(), &model);
    let found = gradients_of(&model, &gradients);
    let gradients = family::same_gradients(path, "grad/", &found, &expected, GRADIENTS);
    [features, gradients]
}

/// Largest differences of features and gradients, where a case has training mode.
fn same_in_training(path: &str) -> Option<[f32; 2]> {
    let expected = Tensors::read(&format!("{path}.safetensors"));
    let features = tolerance(path, "features_abs", FEATURES)?;
    let gradients = tolerance(path, "gradients", GRADIENTS)?;
    let batch = family::batch(&expected, 0);
    let model = family::model(path);
    let image = model.visual.forward(batch.images.clone(), Some(0));
    let apart = max_difference(&values(image), expected.get("train/image_features").1);
    assert!(
        apart <= features,
        "{path}: training features differ by {apart:e}"
    );
    model.drop_pending_statistics();
    let (loss, found) = relay::step(&model, std::slice::from_ref(&batch)).unwrap();
    let worse = max_difference(&values(loss), expected.get("train/loss").1);
    assert!(
        worse <= features,
        "{path}: training loss differs by {worse:e}"
    );
    let found = gradients_of(&model, &found);
    let gradients = family::same_gradients(path, "train/grad/", &found, &expected, gradients);
    let settled = model.apply_pending_statistics();
    same_statistics(path, "once", &settled, &expected, FEATURES);
    Some([apart, gradients])
}

/// Three times what upstream itself is off in training where that is more than `least`: statistics of few values can be
/// ill-conditioned.
pub fn tolerance(path: &str, of: &str, least: f32) -> Option<f32> {
    let noise = &json(&format!("{path}.json"))["training_f32_against_f64"];
    let noise = noise.get(of)?.as_f64()? as f32;
    Some(least.max(3.0 * noise))
}

/// Asserts that running statistics are those under `place`.
pub fn same_statistics(path: &str, place: &str, model: &Clip, expected: &Tensors, tolerance: f32) {
    let found = parameters_of(model);
    let found = found.iter().filter(|param| param.key.contains("running_"));
    for param in found {
        let name = format!("{place}/{}", param.key);
        let apart = max_difference(&param.values, expected.get(&name).1);
        assert!(apart <= tolerance, "{path}: {name} differs by {apart:e}");
    }
}
