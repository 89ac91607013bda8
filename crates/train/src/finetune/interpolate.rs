//! Weights between two models, and how they measure: `(1 − α) · first + α · second` for each α (WiSE-FT).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openclip_data::tokenizer::Tokenizer;
use openclip_eval::Encoder;
use openclip_eval::head::{HEAD, Head};
use openclip_eval::progress::Progress;
use openclip_eval::validation::{Due, Validation};
use openclip_model::factory::{self, Loaded};
use openclip_model::files::atomic;
use openclip_model::params::{self, ParamValues};
use openclip_model::registry::HUB_CONFIG;

use crate::TrainError;
use crate::checkpoint::MODEL;
use crate::report::plot::{Curve, Panel, Plot, Stroke};

/// The table and the drawing of what was measured.
const TABLE: &str = "curve.csv";
const DRAWING: &str = "curve.svg";

/// Two models of one configuration, and where between them to look.
pub struct Interpolation {
    /// Of α = 0.
    pub first: Loaded,
    /// Of α = 1.
    pub second: Loaded,
    /// Their classifiers, where the second was fine-tuned.
    pub heads: Option<[Head; 2]>,
    /// The shares of the second model.
    pub alphas: Vec<f64>,
    /// Whether the weights of each are written.
    pub writes_weights: bool,
}

/// What was measured at one α.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// The share of the second model.
    pub alpha: f64,
    /// Name and value of every metric.
    pub metrics: Vec<(String, f64)>,
    /// Where the weights are, if they were written.
    pub folder: Option<PathBuf>,
}

impl Interpolation {
    /// The classifiers of two models: those given, and what class names and templates of the second's say to the first, if that has none.
    ///
    /// # Errors
    /// When the classes are not the same, or the first alone has a classifier.
    pub fn heads(
        encoder: &Encoder,
        tokenizer: &dyn Tokenizer,
        (first, second): (Option<Head>, Option<Head>),
        path: &Path,
    ) -> Result<Option<[Head; 2]>, TrainError> {
        Ok(match (first, second) {
            (None, None) => None,
            (Some(_), None) => {
                let reason = "it has no classifier, the first model has one".to_owned();
                return Err(TrainError::Interpolate {
                    path: path.to_owned(),
                    reason,
                });
            }
            (Some(first), Some(second)) => {
                first.check(&second.prompts.classes, path)?;
                Some([first, second])
            }
            (None, Some(second)) => {
                let hidden = Progress::hidden();
                let first = Head::zero_shot(encoder, tokenizer, &second.prompts, &hidden)?;
                Some([first, second])
            }
        })
    }

    /// Goes from the first model to the second. Each point is measured by `validation`, if it has a set, and written to `output`, a
    /// folder for each, if there is one; `tell` hears of it at once. With several points and a set, a table and a drawing are written as
    /// well.
    ///
    /// # Errors
    /// When the models have different parameters, a set cannot be read, or a file cannot be written.
    pub fn run(
        self,
        mut encoder: Encoder,
        tokenizer: &Arc<dyn Tokenizer>,
        validation: &Validation,
        output: Option<&Path>,
        mut tell: impl FnMut(&Point),
    ) -> Result<Vec<Point>, TrainError> {
        let Self {
            first,
            second,
            heads,
            alphas,
            writes_weights,
        } = self;
        let ends = [
            params::export(&first.model)?,
            params::export(&second.model)?,
        ];
        check(&ends, &second.name)?;
        if let Some(dir) = output {
            // Before hours of measuring, whose result goes there.
            fs::create_dir_all(dir).map_err(|source| TrainError::Write {
                path: dir.to_owned(),
                source,
            })?;
        }
        let measures = !validation.zero_shot.is_empty() || validation.pairs.is_some();
        let mut points = Vec::new();
        for alpha in alphas {
            let mut loaded = first.clone();
            loaded.model = between(&loaded, &ends, alpha);
            let head = heads.as_ref().map(|heads| head_between(heads, alpha));
            let folder = output
                .filter(|_| writes_weights)
                .map(|dir| write(&loaded, head.as_ref(), dir, alpha))
                .transpose()?;
            let mut metrics = Vec::new();
            if measures {
                encoder.set_model(&loaded.model);
                let columns = head.as_ref().map(|head| &head.weight);
                let found = validation.run_with(&encoder, tokenizer, Due::ALL, columns)?;
                metrics = found.metrics;
            }
            let point = Point {
                alpha,
                metrics,
                folder,
            };
            tell(&point);
            points.push(point);
        }
        if let Some(dir) = output.filter(|_| measures) {
            report(&points, dir)?;
        }
        Ok(points)
    }
}

fn check([first, second]: &[Vec<ParamValues>; 2], name: &str) -> Result<(), TrainError> {
    let differs = first
        .iter()
        .zip(second)
        .find(|(a, b)| (&a.key, &a.shape) != (&b.key, &b.shape));
    if differs.is_none() && first.len() == second.len() {
        return Ok(());
    }
    let key = differs.map_or_else(|| "a parameter".into(), |(a, _)| a.key.clone());
    Err(TrainError::Interpolate {
        path: name.into(),
        reason: format!("{key} is not as in the first model: both have to be of one configuration"),
    })
}

/// `(1 − α) a + α b`, which is one of them to the bit at either end.
fn mix(a: f32, b: f32, alpha: f64) -> f32 {
    match alpha {
        0.0 => a,
        1.0 => b,
        alpha => ((1.0 - alpha) * f64::from(a) + alpha * f64::from(b)) as f32,
    }
}

fn between(
    loaded: &Loaded,
    [first, second]: &[Vec<ParamValues>; 2],
    alpha: f64,
) -> openclip_model::Clip {
    let mut at = first.iter().zip(second);
    // Both are in the order of the model's parameters.
    params::assign(loaded.model.clone(), |_, _| {
        let (a, b) = at.next()?;
        let values = a.values.iter().zip(&b.values);
        Some(values.map(|(a, b)| mix(*a, *b, alpha)).collect())
    })
}

fn head_between([first, second]: &[Head; 2], alpha: f64) -> Head {
    let weight = match alpha {
        0.0 => first.weight.clone(),
        1.0 => second.weight.clone(),
        alpha => {
            let rest = first.weight.clone().mul_scalar(1.0 - alpha);
            rest + second.weight.clone().mul_scalar(alpha)
        }
    };
    Head {
        weight,
        prompts: second.prompts.clone(),
    }
}

/// A folder of its own, which `local-dir:` and `--pretrained` read.
fn write(
    loaded: &Loaded,
    head: Option<&Head>,
    dir: &Path,
    alpha: f64,
) -> Result<PathBuf, TrainError> {
    let folder = dir.join(format!("alpha-{alpha}"));
    let failed = |source: io::Error| TrainError::Write {
        path: folder.clone(),
        source,
    };
    fs::create_dir_all(&folder).map_err(failed)?;
    if let Some(head) = head {
        head.save(&folder.join(HEAD))?;
    }
    let hub = factory::hub_config(&loaded.config, &loaded.preprocess);
    atomic::write(&folder.join(HUB_CONFIG), format!("{hub:#}\n")).map_err(failed)?;
    loaded.save(&folder.join(MODEL))?;
    Ok(folder)
}

/// The table, and the accuracies over α as a drawing.
fn report(points: &[Point], dir: &Path) -> Result<(), TrainError> {
    let Some(first) = points.first() else {
        return Ok(());
    };
    let names: Vec<&str> = first
        .metrics
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let mut table = format!("alpha,{}\n", names.join(","));
    for point in points {
        let values = point.metrics.iter().map(|(_, value)| format!(",{value}"));
        table += &format!("{}{}\n", point.alpha, values.collect::<String>());
    }
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        atomic::write(&path, text).map_err(|source| TrainError::Write { path, source })
    };
    write(TABLE, table)?;
    let top1 = names.iter().enumerate();
    let top1 = top1.filter_map(|(at, name)| Some((at, name.strip_suffix("-top1")?)));
    let curves = top1.map(|(at, name)| Curve {
        name: name.to_owned(),
        stroke: Stroke::Dotted,
        points: points
            .iter()
            .map(|point| (point.alpha, point.metrics[at].1))
            .collect(),
    });
    let plot = Plot {
        title: "between two models".into(),
        axis: "share of the second model",
        panels: vec![Panel {
            title: "top-1 accuracy".into(),
            is_logarithmic: false,
            curves: curves.collect(),
        }],
    };
    plot.write_svg(&dir.join(DRAWING))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_are_the_models_to_the_bit() {
        for value in [1.0e-40_f32, -3.3, f32::MAX] {
            assert_eq!(mix(value, 7.0, 0.0).to_bits(), value.to_bits());
            assert_eq!(mix(7.0, value, 1.0).to_bits(), value.to_bits());
        }
        assert_eq!(mix(1.0, 3.0, 0.25), 1.5);
    }
}
