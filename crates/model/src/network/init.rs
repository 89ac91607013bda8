//! Initial weights of a model trained from scratch.
//!
//! The distributions are OpenCLIP's and timm's, and each family of towers says its own. The values come from a seeded generator per
//! parameter, so they are the same on every device and in any order of creation.

use std::collections::HashMap;
use std::f64::consts::TAU;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::clip::Clip;
use super::params;
use crate::family::Init;
use crate::files::config::ModelConfig;
use crate::layers::position::sin_cos_2d;

/// Start value of the logit scale's logarithm, `ln(1 / 0.07)`.
pub const LOGIT_SCALE: f64 = 2.659_260_036_932_778;

/// Draws every parameter of `model`, which was built from `config`.
pub fn initialise(model: Clip, config: &ModelConfig, seed: u64) -> Clip {
    let rules = params::describe(&model).into_iter().map(|param| {
        let rule = rule(&model, &param.key, &param.shape, config);
        (param.key, rule)
    });
    let rules: HashMap<_, _> = rules.collect();
    params::assign(model, |key, shape| {
        let count = shape.iter().product();
        let mut rng = StdRng::seed_from_u64(seed ^ hash(key));
        Some(match *rules.get(key)? {
            Init::Constant(value) => vec![value as f32; count],
            Init::Normal(std) => normal(&mut rng, std, count),
            Init::NormalButRow(row, std) => {
                let mut values = normal(&mut rng, std, count);
                let width = shape.iter().skip(1).product::<usize>();
                let row = values.iter_mut().skip(row * width).take(width);
                row.for_each(|value| *value = 0.0);
                values
            }
            Init::TruncatedNormal(std) => truncated_normal(&mut rng, std, count),
            Init::Uniform(bound) => (0..count)
                .map(|_| rng.random_range(-bound..bound) as f32)
                .collect(),
            Init::SinCos => {
                let side = ((shape[0] - 1) as f64).sqrt().round() as usize;
                sin_cos_2d(shape[1], side)
            }
        })
    })
}

/// How the parameter under a key starts.
fn rule(model: &Clip, key: &str, shape: &[usize], config: &ModelConfig) -> Init {
    let own = match (key.split('.').next(), &model.text_decoder) {
        (Some("logit_scale"), _) => {
            let start = config.init_logit_scale.unwrap_or(LOGIT_SCALE);
            Some(Init::Constant(start))
        }
        (Some("logit_bias"), _) => Some(Init::Constant(config.init_logit_bias.unwrap_or(0.0))),
        (Some("visual"), _) => model.visual.family().initial(key, shape, config),
        (Some("text_decoder"), Some(decoder)) => {
            let name = key.strip_prefix("text_decoder.").unwrap_or(key);
            decoder.initial(name, shape, config)
        }
        _ => {
            let name = key.strip_prefix("text.").unwrap_or(key);
            model.text.family().initial(name, shape, config)
        }
    };
    own.unwrap_or_else(|| Init::of_matrix(shape))
}

/// Numbers of a normal distribution for the parameter under `key`, the same on every device.
pub fn normal_of(key: &str, seed: u64, std: f64, count: usize) -> Vec<f32> {
    normal(&mut StdRng::seed_from_u64(seed ^ hash(key)), std, count)
}

/// Box–Muller pairs.
fn normal(rng: &mut StdRng, std: f64, count: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        let radius = std * (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
        let (sin, cos) = (TAU * rng.random::<f64>()).sin_cos();
        values.push((radius * cos) as f32);
        values.push((radius * sin) as f32);
    }
    values.truncate(count);
    values
}

fn truncated_normal(rng: &mut StdRng, std: f64, count: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(count);
    while values.len() < count {
        let drawn = normal(rng, 1.0, count - values.len());
        let kept = drawn.into_iter().filter(|value| value.abs() <= 2.0);
        values.extend(kept.map(|value| (f64::from(value) * std) as f32));
    }
    values
}

fn hash(key: &str) -> u64 {
    key.bytes().fold(0x9e37_79b9_7f4a_7c15, |hash: u64, byte| {
        (hash.rotate_left(5) ^ u64::from(byte)).wrapping_mul(0x517c_c1b7_2722_0a95)
    })
}
