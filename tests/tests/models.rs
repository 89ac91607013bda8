//! Features, logits, loss and parameter gradients of small models against `open_clip`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use burn::tensor::{Int, Tensor, TensorData};
use openclip_model::config::ModelConfig;
use openclip_model::weights::bind;
use openclip_model::{Clip, params};
use openclip_tests::{Tensors, device, fixture, fixture_weights, max_difference, relative_difference};
use openclip_train::relay::{self, MicroBatch, PickGradient};

/// f32 sums of a few hundred terms in another order than PyTorch's.
const FEATURES: f32 = 1e-4;
/// Relative to the largest value of each gradient tensor.
const GRADIENTS: f32 = 1e-3;

struct Case {
    model: Clip,
    batch: MicroBatch,
    expected: Tensors,
    /// Gradients that are zero up to rounding upstream.
    vanishing: Vec<String>,
}

fn load(name: &str) -> Case {
    let json = std::fs::read(fixture(&format!("models/{name}.json"))).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let config: ModelConfig = serde_json::from_value(json["model_cfg"].clone()).unwrap();
    let device = device().autodiff();
    let file = format!("models/{name}.safetensors");
    let model = Clip::new(&config, &device).unwrap();
    let model = bind::load(model, &config, fixture_weights(&file), &fixture(&file)).unwrap();
    let expected = Tensors::read(&file);
    let (shape, image) = expected.get("input/image");
    let image = TensorData::new(image.to_vec(), shape.to_vec());
    let (shape, text) = expected.get("input/text");
    let text: Vec<i64> = text.iter().map(|id| *id as i64).collect();
    let text = TensorData::new(text, shape.to_vec());
    let vanishing = json["vanishing_gradients"].as_array().into_iter().flatten();
    Case {
        batch: MicroBatch {
            images: Tensor::from_data(image, &device),
            tokens: Tensor::<2, Int>::from_data(text, &device),
            dropout: 0,
        },
        model,
        vanishing: vanishing.map(|key| key.as_str().unwrap().to_string()).collect(),
        expected,
    }
}

fn cases() -> Vec<String> {
    let entries = std::fs::read_dir(fixture("models")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = paths
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_string())
        .collect();
    names.sort();
    assert!(names.len() >= 20, "the fixtures are missing");
    names
}

fn check(case: &str, what: &str, found: Vec<f32>, expected: &[f32], tolerance: f32) {
    let difference = max_difference(&found, expected);
    assert!(difference <= tolerance, "{case}: {what} differs by {difference:e}");
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as().unwrap()
}

#[test]
fn features_and_logits() {
    for name in cases() {
        let Case { model, batch, expected, .. } = load(&name);
        for (suffix, normalize) in [("", false), ("_norm", true)] {
            let image = model.encode_image(batch.images.clone(), normalize);
            let text = model.encode_text(batch.tokens.clone(), normalize);
            let key = format!("output/image_features{suffix}");
            check(&name, &key, values(image), expected.get(&key).1, FEATURES);
            let key = format!("output/text_features{suffix}");
            check(&name, &key, values(text), expected.get(&key).1, FEATURES);
        }
        let logits = model.logits(batch.images, batch.tokens);
        let (_, wanted) = expected.get("output/logits_per_image");
        // Cosines times a scale of up to 100.
        check(&name, "logits", values(logits), wanted, 1e-3);
    }
}

#[test]
fn loss_and_gradients() {
    for name in cases() {
        let Case { model, batch, expected, vanishing } = load(&name);
        if name == "vit_patch_dropout" {
            // Upstream's gradients are those of evaluation mode, which drops nothing.
            continue;
        }
        let (loss, gradients) = relay::step(&model, &[batch]);
        check(&name, "loss", values(loss), expected.get("output/loss").1, FEATURES);
        let found = params::export_with(&model, &mut PickGradient(&gradients));
        for (key, wanted) in expected.with_prefix("grad/") {
            let Some(param) = found.iter().find(|param| param.key == key) else {
                assert!(
                    vanishing.iter().any(|v| v == key) || wanted.iter().all(|x| *x == 0.0),
                    "{name}: no gradient for {key}"
                );
                continue;
            };
            if vanishing.iter().any(|vanishing| vanishing == key) {
                check(&name, key, param.values.clone(), wanted, 1e-5);
            } else {
                let difference = relative_difference(&param.values, wanted);
                assert!(difference <= GRADIENTS, "{name}: gradient of {key} differs by {difference:e}");
            }
        }
    }
}
