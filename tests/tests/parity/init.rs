//! Initial weights against the distributions of upstream's. `tests/parity/export_init.py` made the fixture.

use std::collections::BTreeMap;

use openclip_model::{Clip, init};
use openclip_tests::{Tensors, device, json, largest, max_difference, model_config, parameters_of};
use serde_json::Value;

/// Standard deviations of sampling error that are tolerated. Of some 600 figures one in 15,000 would be further off by chance.
const SIGMAS: f64 = 5.0;

/// All values of several seeds by key.
fn draw(config: &Value, seeds: u64) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let config = model_config(config);
    let mut drawn = BTreeMap::new();
    for seed in 0..seeds {
        let model = Clip::new(&config, &device()).unwrap();
        for param in parameters_of(&init::initialise(model, &config, seed)) {
            let (_, values) = drawn
                .entry(param.key)
                .or_insert_with(|| (param.shape, Vec::new()));
            values.extend(param.values);
        }
    }
    drawn
}

struct Moments {
    mean: f64,
    std: f64,
    kurtosis: f64,
    largest: f64,
}

fn moments(values: &[f32]) -> Moments {
    let count = values.len() as f64;
    let exact = || values.iter().map(|&value| f64::from(value));
    let mean = exact().sum::<f64>() / count;
    let central = |power: i32| exact().map(|value| (value - mean).powi(power)).sum::<f64>() / count;
    let variance = central(2);
    Moments {
        mean,
        std: variance.sqrt(),
        kurtosis: central(4) / (variance * variance),
        largest: largest(values).into(),
    }
}

#[test]
fn every_parameter_starts_as_in_open_clip() {
    for (name, case) in json("init.json").as_object().unwrap() {
        let drawn = draw(&case["model_cfg"], case["seeds"].as_u64().unwrap());
        let expected = case["parameters"].as_object().unwrap();
        assert!(drawn.keys().eq(expected.keys()), "{name}: other keys");
        for (key, expected) in expected {
            let (shape, values) = &drawn[key];
            let what = format!("{name}, {key}");
            assert_eq!(serde_json::json!(shape), expected["shape"], "{what}");
            assert_eq!(
                values.len() as u64,
                expected["count"].as_u64().unwrap(),
                "{what}"
            );
            if let Some(constant) = expected["constant"].as_f64() {
                assert!(
                    values.iter().all(|&value| value == constant as f32),
                    "{what}: not all {constant}"
                );
                continue;
            }
            let number = |field: &str| expected[field].as_f64().unwrap();
            let found = moments(values);
            let (std, kurtosis) = (number("std"), number("kurtosis"));
            let count = values.len() as f64;
            // Both sides are samples, hence the 2.
            let noise = |variance: f64| SIGMAS * (2.0 * variance / count).sqrt();
            let mean = number("mean");
            assert!(
                (found.mean - mean).abs() <= noise(std * std),
                "{what}: mean {} and {mean}",
                found.mean
            );
            // Var[s]/σ² ≈ (κ − 1)/4n.
            let ratio = found.std / std - 1.0;
            assert!(
                ratio.abs() <= noise((kurtosis - 1.0) / 4.0),
                "{what}: deviation {} and {std}",
                found.std
            );
            // The variance of a sample's kurtosis is 24/n for a normal distribution and less for a uniform one.
            let apart = (found.kurtosis - kurtosis).abs();
            assert!(
                apart <= noise(24.0),
                "{what}: kurtosis {} and {kurtosis}",
                found.kurtosis
            );
            // A uniform distribution ends at its bound.
            if kurtosis < 2.0 && !key.ends_with("positional_embedding") {
                let bound = 3.0_f64.sqrt() * std;
                let slack = noise(3.0 * (kurtosis - 1.0) / 4.0) * std;
                assert!(
                    found.largest <= bound + slack,
                    "{what}: {} beyond ±{bound}",
                    found.largest
                );
                assert!(number("largest") <= bound + slack, "{what}");
            }
        }
    }
}

#[test]
fn sine_cosine_positions_are_the_table_of_open_clip() {
    let case = json("models/vit_sin_cos.json");
    let config = model_config(&case["model_cfg"]);
    let model = init::initialise(Clip::new(&config, &device()).unwrap(), &config, 0);
    let params = parameters_of(&model);
    let table = params
        .iter()
        .find(|param| param.key == "visual.positional_embedding")
        .unwrap();
    let weights = Tensors::read("models/vit_sin_cos.safetensors");
    let (shape, wanted) = weights.get("weights/visual.positional_embedding");
    assert_eq!(table.shape, shape);
    // Both round sines of f64.
    assert!(max_difference(&table.values, wanted) <= 1e-7);
}

#[test]
fn a_seed_fixes_every_value_and_another_changes_them() {
    let config = &json("init.json")["plain"]["model_cfg"];
    let config = model_config(config);
    let weights = |seed| {
        let model = Clip::new(&config, &device()).unwrap();
        parameters_of(&init::initialise(model, &config, seed))
    };
    let (first, again, other) = (weights(3), weights(3), weights(4));
    for ((first, again), other) in first.iter().zip(&again).zip(&other) {
        assert_eq!(first.values, again.values, "{}", first.key);
        let constant = first.values.iter().all(|value| *value == first.values[0]);
        assert!(constant || first.values != other.values, "{}", first.key);
    }
    // Parameters of one shape do not share their values.
    for (i, a) in first.iter().enumerate() {
        for b in &first[i + 1..] {
            let constant = a.values.iter().all(|value| *value == a.values[0]);
            assert!(constant || a.values != b.values, "{} and {}", a.key, b.key);
        }
    }
}
