//! Initial weights of a model trained from scratch.
//!
//! The distributions are OpenCLIP's (`transformer.py`, `model.py` and PyTorch's layer defaults); the values come from a
//! seeded generator per parameter, so they are the same on every device and in any order of creation.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::f64::consts::TAU;

use crate::Clip;
use crate::config::ModelConfig;
use crate::layers::position::sin_cos_2d;
use crate::{coca, params, text, vision};

/// Start value of the logit scale's logarithm, `ln(1 / 0.07)`.
pub const LOGIT_SCALE: f64 = 2.659_260_036_932_778;

/// How one parameter starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Init {
    /// The same for all values.
    Constant(f64),
    /// Mean 0 and this standard deviation.
    Normal(f64),
    /// Zeros in this row, else as [`Self::Normal`] with this standard deviation.
    NormalButRow(usize, f64),
    /// Mean 0 and this standard deviation before everything beyond two of them is drawn again.
    TruncatedNormal(f64),
    /// Uniform in ± this bound.
    Uniform(f64),
    /// The fixed sine–cosine table.
    SinCos,
}

/// Draws every parameter of `model`, which was built from `config`.
pub fn initialise(model: Clip, config: &ModelConfig, seed: u64) -> Clip {
    params::assign(model, |key, shape| {
        let count = shape.iter().product();
        let mut rng = StdRng::seed_from_u64(seed ^ hash(key));
        Some(match rule(key, shape, config) {
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

/// The rule for a key with a PyTorch shape.
fn rule(key: &str, shape: &[usize], config: &ModelConfig) -> Init {
    if let Some(init) = vision::initial(key, shape, config) {
        return init;
    }
    if let Some(init) = coca::initial(key, shape, config) {
        return init;
    }
    if let Some(init) = text::initial(key, shape, config) {
        return init;
    }
    let text = &config.text_cfg;
    let text_width = text.width as f64;
    let image_std = (config.vision_cfg.width as f64).powf(-0.5);
    let text_std = text_width.powf(-0.5);
    let residual_std = text_std * (2.0 * text.layers as f64).powf(-0.5);
    let fan_in = shape.iter().skip(1).product::<usize>().max(1) as f64;
    let in_text = !key.starts_with("visual.");
    let name = key.strip_prefix("text.").unwrap_or(key);
    match name {
        "logit_scale" => Init::Constant(config.init_logit_scale.unwrap_or(LOGIT_SCALE)),
        "logit_bias" => Init::Constant(config.init_logit_bias.unwrap_or(0.0)),
        "token_embedding.weight" => Init::Normal(0.02),
        "positional_embedding" => Init::Normal(0.01),
        "text_projection" | "text_projection.weight" => Init::Normal(text_std),
        "text_projection.bias" => Init::Constant(0.0),
        "visual.positional_embedding" if config.vision_cfg.pos_embed_type == "sin_cos_2d" => {
            Init::SinCos
        }
        "visual.class_embedding" | "visual.positional_embedding" | "visual.proj" => {
            Init::Normal(image_std)
        }
        _ => match leaf(name) {
            ("ln", "weight") => Init::Constant(1.0),
            ("ln", "bias") | (_, "in_proj_bias") | ("out_proj", "bias") => Init::Constant(0.0),
            (_, "gamma") => {
                let cfg = if in_text {
                    text.ls_init_value
                } else {
                    config.vision_cfg.ls_init_value
                };
                Init::Constant(cfg.unwrap_or(1.0))
            }
            (_, "in_proj_weight") if in_text => Init::Normal(text_std),
            ("out_proj" | "c_proj", "weight") if in_text => Init::Normal(residual_std),
            ("c_fc", "weight") if in_text => Init::Normal((2.0 * text_width).powf(-0.5)),
            // Xavier over the packed matrix.
            (_, "in_proj_weight") => Init::Uniform((6.0 / (shape[0] + shape[1]) as f64).sqrt()),
            // PyTorch's default for linear layers and convolutions; a bias follows its matrix.
            (module, "bias") => Init::Uniform(bias_fan_in(module, in_text, config).powf(-0.5)),
            _ => Init::Uniform(fan_in.powf(-0.5)),
        },
    }
}

/// Inputs of the linear layer inside an MLP that a bias belongs to.
fn bias_fan_in(module: &str, in_text: bool, config: &ModelConfig) -> f64 {
    let (width, ratio) = match in_text {
        true => (config.text_cfg.width, config.text_cfg.mlp_ratio),
        false => (config.vision_cfg.width, config.vision_cfg.mlp_ratio),
    };
    match module {
        "c_proj" => (width as f64 * ratio).trunc(),
        _ => width as f64,
    }
}

/// The last two names of a key, all LayerNorms under one name.
fn leaf(key: &str) -> (&str, &str) {
    let mut names = key.rsplit('.');
    let leaf = names.next().unwrap_or_default();
    match names.next().unwrap_or_default() {
        module if module.starts_with("ln_") => ("ln", leaf),
        module => (module, leaf),
    }
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
