#![allow(clippy::unwrap_used)]
use burn::tensor::{Device, TensorData};
use rand::{Rng, SeedableRng};

use super::*;

/// Clouds about the corners of a square, one class each.
fn clouds(rows: usize, seed: u64) -> Labelled {
    let mut rng = StdRng::seed_from_u64(seed);
    let labels: Vec<usize> = (0..rows).map(|row| row % 4).collect();
    let features: Vec<f32> = labels
        .iter()
        .flat_map(|label| {
            let corner = [(label & 1) as f32, (label >> 1) as f32];
            corner.map(|side| 2.0 * side - 1.0 + rng.random_range(-0.4_f32..0.4))
        })
        .collect();
    let data = TensorData::new(features, [rows, 2]);
    Labelled {
        features: Tensor::from_data(data, &Device::default()),
        labels,
    }
}

const TRAINING: Training = Training {
    classes: 4,
    lr: 0.1,
    epochs: 10,
    batch_size: 16,
    weight_decay: 0.0,
    seed: 1,
};

#[test]
fn separable_classes_are_learnt() {
    let (train, test) = (clouds(200, 1), clouds(100, 2));
    let right = |training: &Training| {
        let scores = Linear::train(&train, training)
            .scores(&test.features)
            .unwrap();
        outcomes(&scores, 4, &test.labels).metrics["lp_acc1"]
            .as_f64()
            .unwrap()
    };
    assert_eq!(right(&TRAINING), 1.0);
    // A weight decay that leaves nothing of the weights.
    let lame = Training {
        weight_decay: 100.0,
        ..TRAINING
    };
    assert!(right(&lame) < 1.0);
}

#[test]
fn a_few_of_each_class() {
    let train = clouds(40, 3);
    let mut rng = StdRng::seed_from_u64(0);
    let shots = few("a", &train, 4, 3, &mut rng).unwrap();
    let mut labels = shots.labels.clone();
    labels.sort_unstable();
    assert_eq!(labels, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]);
    let error = few("a", &train, 4, 11, &mut rng).unwrap_err().to_string();
    assert!(
        error.contains("has 10 pictures, and --fewshot-k is 11"),
        "{error}"
    );
}
