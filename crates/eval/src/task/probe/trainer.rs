//! A linear classifier on features: cross-entropy, AdamW and a cosine, with PyTorch's defaults.

use burn::tensor::activation::softmax;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::error::EvalError;
use crate::host::host;

const BETAS: [f64; 2] = [0.9, 0.999];
const EPS: f64 = 1e-8;

/// Features with their classes.
#[derive(Debug, Clone)]
pub(super) struct Labelled {
    /// `[rows, width]`.
    pub features: Tensor<2>,
    /// The class of each row.
    pub labels: Vec<usize>,
}

impl Labelled {
    /// Some of the rows.
    pub fn select(&self, rows: &[usize]) -> Self {
        Self {
            features: self
                .features
                .clone()
                .select(0, places(rows, &self.features.device())),
            labels: rows.iter().map(|row| self.labels[*row]).collect(),
        }
    }

    /// These rows and others.
    pub fn with(&self, others: &Self) -> Self {
        Self {
            features: Tensor::cat(vec![self.features.clone(), others.features.clone()], 0),
            labels: [&self.labels[..], &others.labels[..]].concat(),
        }
    }
}

/// How a classifier is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Training {
    pub classes: usize,
    pub lr: f64,
    pub epochs: usize,
    pub batch_size: usize,
    pub weight_decay: f64,
    pub seed: u64,
}

/// Weights `[width, classes]` and bias `[1, classes]`.
pub(super) struct Linear {
    weight: Tensor<2>,
    bias: Tensor<2>,
}

impl Linear {
    /// Trains one.
    pub fn train(data: &Labelled, training: &Training) -> Self {
        let device = data.features.device();
        let [rows, width] = data.features.dims();
        let mut rng = StdRng::seed_from_u64(training.seed);
        let mut uniform = |shape: [usize; 2]| {
            let bound = 1.0 / (width as f32).sqrt();
            let values: Vec<f32> = (0..shape[0] * shape[1])
                .map(|_| rng.random_range(-bound..bound))
                .collect();
            Adam::new(Tensor::from_data(
                TensorData::new(values, shape),
                (&device, DType::F32),
            ))
        };
        let mut weight = uniform([width, training.classes]);
        let mut bias = uniform([1, training.classes]);
        let targets = one_hot(&data.labels, training.classes, &device);
        let batches = rows.div_ceil(training.batch_size);
        let steps = training.epochs * batches;
        let mut order: Vec<usize> = (0..rows).collect();
        let mut step = 0;
        for _ in 0..training.epochs {
            order.shuffle(&mut rng);
            for batch in order.chunks(training.batch_size) {
                let share = step as f64 / steps as f64;
                let lr = 0.5 * (1.0 + (std::f64::consts::PI * share).cos()) * training.lr;
                let places = places(batch, &device);
                let x = data.features.clone().select(0, places.clone());
                let y = targets.clone().select(0, places);
                let logits = x.clone().matmul(weight.value.clone()) + bias.value.clone();
                let slope = (softmax(logits, 1) - y).div_scalar(batch.len() as f64);
                step += 1;
                weight.step(
                    x.transpose().matmul(slope.clone()),
                    lr,
                    training.weight_decay,
                    step,
                );
                bias.step(slope.sum_dim(0), lr, training.weight_decay, step);
            }
        }
        Self {
            weight: weight.value,
            bias: bias.value,
        }
    }

    /// Scores of features `[rows, width]`, by rows.
    pub fn scores(&self, features: &Tensor<2>) -> Result<Vec<f32>, EvalError> {
        host(features.clone().matmul(self.weight.clone()) + self.bias.clone())
    }
}

fn places(rows: &[usize], device: &Device) -> Tensor<1, Int> {
    let rows: Vec<i64> = rows.iter().map(|row| *row as i64).collect();
    let shape = [rows.len()];
    Tensor::from_data(TensorData::new(rows, shape), device)
}

fn one_hot(labels: &[usize], classes: usize, device: &Device) -> Tensor<2> {
    let mut values = vec![0.0_f32; labels.len() * classes];
    for (row, label) in labels.iter().enumerate() {
        values[row * classes + label] = 1.0;
    }
    let data = TensorData::new(values, [labels.len(), classes]);
    Tensor::from_data(data, (device, DType::F32))
}

/// A parameter with AdamW's moments.
struct Adam {
    value: Tensor<2>,
    moments: [Tensor<2>; 2],
}

impl Adam {
    fn new(value: Tensor<2>) -> Self {
        let zeros = value.zeros_like();
        Self {
            value,
            moments: [zeros.clone(), zeros],
        }
    }

    /// One step; `step` counts from 1.
    fn step(&mut self, gradient: Tensor<2>, lr: f64, weight_decay: f64, step: usize) {
        let [mean, square] = self.moments.clone();
        let mean = mean.mul_scalar(BETAS[0]) + gradient.clone().mul_scalar(1.0 - BETAS[0]);
        let square = square.mul_scalar(BETAS[1]) + gradient.square().mul_scalar(1.0 - BETAS[1]);
        let step = i32::try_from(step).unwrap_or(i32::MAX);
        let [first, second] = BETAS.map(|beta| 1.0 - beta.powi(step));
        let width = square
            .clone()
            .sqrt()
            .div_scalar(second.sqrt())
            .add_scalar(EPS);
        let kept = self.value.clone().mul_scalar(1.0 - lr * weight_decay);
        self.value = kept - mean.clone().div(width).mul_scalar(lr / first);
        self.moments = [mean, square];
    }
}
