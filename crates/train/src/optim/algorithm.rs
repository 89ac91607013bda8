//! Optimizers by name, with the settings of each under the names that PyTorch and timm give them.

use std::collections::BTreeMap;

use burn::module::ParamGroup;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdafactorConfig, AdamWConfig, LambConfig, LionConfig, SgdConfig};
use burn::optim::{ModuleOptimizer, Optimizer};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::adamw::FusedAdamW;
use super::nadamw::NAdamW;
use crate::TrainError;

/// `--opt-kwargs`: settings by name.
pub type Settings = Map<String, Value>;

/// Settings of [`Algorithm::AdamW`] with the weight decay that belongs to them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
}

impl AdamW {
    /// OpenCLIP's defaults for a model of this name: transformers differ from convolutional networks.
    pub fn for_model(name: &str) -> Self {
        let vit = name.to_lowercase().contains("vit");
        Self {
            beta1: 0.9,
            beta2: if vit { 0.98 } else { 0.999 },
            eps: if vit { 1e-6 } else { 1e-8 },
            weight_decay: 0.2,
        }
    }
}

/// An optimizer and its settings. Each variant is what `timm/<name>` computes in timm 1.0, but where it says otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
#[allow(missing_docs)]
pub enum Algorithm {
    /// arXiv 1711.05101.
    AdamW {
        betas: [f32; 2],
        eps: f32,
        amsgrad: bool,
    },
    /// With `momentum_decay` PyTorch's NAdam with decoupled weight decay, without it timm's NAdamW.
    NAdamW {
        betas: [f32; 2],
        eps: f32,
        momentum_decay: Option<f64>,
    },
    /// arXiv 2302.06675.
    Lion { betas: [f32; 2] },
    /// arXiv 1904.00962. Parameters without weight decay are not adapted layer by layer unless `always_adapt` is set.
    Lamb {
        betas: [f32; 2],
        eps: f32,
        max_grad_norm: Option<f32>,
        always_adapt: bool,
    },
    /// arXiv 1804.04235 without first moment, at the learning rate of the schedule. The second moment of every tensor with two axes
    /// or more is factored over the last two; timm leaves axes of up to 16 alone and takes the first two of a convolution.
    Adafactor {
        eps: f32,
        clip_threshold: f32,
        decay_rate: f64,
    },
    /// Weight decay is part of the gradient.
    Sgd {
        momentum: f64,
        dampening: f64,
        nesterov: bool,
    },
}

/// Flags that set one value of an optimizer.
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs)]
pub struct Given<'a> {
    pub beta1: Option<f32>,
    pub beta2: Option<f32>,
    pub eps: Option<f32>,
    pub momentum: Option<f64>,
    pub settings: Option<&'a Settings>,
}

/// Settings of PyTorch's and timm's optimizers that have one value here.
const FIXED: [(&str, Value); 9] = [
    ("maximize", Value::Bool(false)),
    ("caution", Value::Bool(false)),
    ("corrected_weight_decay", Value::Bool(false)),
    ("decoupled_decay", Value::Bool(false)),
    ("decoupled_weight_decay", Value::Bool(true)),
    ("bias_correction", Value::Bool(true)),
    ("grad_averaging", Value::Bool(true)),
    ("trust_clip", Value::Bool(false)),
    ("clipping_threshold", Value::Null),
];

/// What `--opt` may be, each also with `timm/` before it.
const NAMES: &str = "adamw, nadamw, lion, lamb, adafactor, sgd or momentum";

impl Algorithm {
    /// The optimizer that `--opt` names for a model. AdamW and NAdamW have OpenCLIP's settings for the model, but with `timm/`
    /// timm's, as all the others.
    ///
    /// # Errors
    /// When there is no optimizer of the name, or it has no such setting.
    pub fn named(opt: &str, model: &str, given: &Given<'_>) -> Result<Self, TrainError> {
        let name = opt.to_lowercase();
        let (name, timm) = match name.strip_prefix("timm/") {
            Some(name) => (name, true),
            None => (name.as_str(), false),
        };
        let AdamW {
            beta1, beta2, eps, ..
        } = match timm {
            true => AdamW::for_model(""),
            false => AdamW::for_model(model),
        };
        let betas = [beta1, beta2];
        let default = match name {
            "adamw" => Self::AdamW {
                betas,
                eps,
                amsgrad: false,
            },
            "nadamw" => Self::NAdamW {
                betas,
                eps,
                momentum_decay: (!timm).then_some(0.004),
            },
            "lion" => Self::Lion { betas: [0.9, 0.99] },
            "lamb" => Self::Lamb {
                betas: [0.9, 0.999],
                eps: 1e-6,
                max_grad_norm: Some(1.0),
                always_adapt: false,
            },
            "adafactor" => Self::Adafactor {
                eps: 1e-30,
                clip_threshold: 1.0,
                decay_rate: -0.8,
            },
            "sgd" | "momentum" => Self::Sgd {
                momentum: 0.9,
                dampening: 0.0,
                nesterov: name == "sgd",
            },
            _ => {
                let reason = format!("{opt} is not built; there are {NAMES}");
                return Err(TrainError::flag("--opt", reason));
            }
        };
        default.with(name, given)?.checked()
    }

    /// The same with settings replaced.
    fn with(self, name: &str, given: &Given<'_>) -> Result<Self, TrainError> {
        let refused = |reason: String| TrainError::flag("--opt-kwargs", reason);
        let failed = |error: serde_json::Error| refused(format!("{name}: {error}"));
        let mut tagged: BTreeMap<String, Settings> = convert(&self).map_err(failed)?;
        let kind = tagged.keys().next().cloned().unwrap_or_default();
        let Some(values) = tagged.values_mut().next() else {
            return Ok(self);
        };
        let lacks = |flag, values: &Settings| {
            let known: Vec<_> = values.keys().map(String::as_str).collect();
            let reason = format!("{name} has no such setting; it has {}", known.join(", "));
            Err(TrainError::flag(flag, reason))
        };
        for (flag, value, key, place) in [
            ("--beta1", given.beta1.map(f64::from), "betas", Some(0)),
            ("--beta2", given.beta2.map(f64::from), "betas", Some(1)),
            ("--eps", given.eps.map(f64::from), "eps", None),
            ("--momentum", given.momentum, "momentum", None),
        ] {
            let Some(value) = value else { continue };
            let old = values.get_mut(key).and_then(|old| match place {
                Some(place) => old.get_mut(place),
                None => Some(old),
            });
            match old {
                Some(old) => *old = value.into(),
                None => return lacks(flag, values),
            }
        }
        for (key, value) in given.settings.into_iter().flatten() {
            if let Some(old) = values.get_mut(key) {
                *old = value.clone();
                let alone = BTreeMap::from([(&kind, &*values)]);
                convert::<Self>(&alone)
                    .map_err(|error| refused(format!("{name}: {key}={value}: {error}")))?;
                continue;
            }
            match FIXED.iter().find(|(fixed, _)| fixed == key) {
                Some((_, fixed)) if fixed == value => {}
                Some((_, fixed)) => {
                    let reason = format!("{name}: {key}={value} is not built; it is {fixed}");
                    return Err(refused(reason));
                }
                None => {
                    let known: Vec<_> = values.keys().map(String::as_str).collect();
                    let flag = match key.as_str() {
                        "lr" => "; --lr sets it",
                        "weight_decay" => "; --wd sets it",
                        _ => "",
                    };
                    let known = known.join(", ");
                    let reason = format!("{name} has no {key}{flag}; it has {known}");
                    return Err(refused(reason));
                }
            }
        }
        convert(&tagged).map_err(failed)
    }

    /// Burn stops with a panic at settings outside of their ranges.
    fn checked(self) -> Result<Self, TrainError> {
        let share = |x: f32| (0.0..1.0).contains(&x);
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let other = |fine: bool| (!fine).then_some("--opt-kwargs");
        let fault = match &self {
            Self::AdamW { betas, eps, .. }
            | Self::NAdamW { betas, eps, .. }
            | Self::Lamb { betas, eps, .. }
                if !(eps.is_finite() && *eps >= 0.0) && betas.iter().all(|x| share(*x)) =>
            {
                Some("--eps")
            }
            Self::Lion { betas }
            | Self::AdamW { betas, .. }
            | Self::NAdamW { betas, .. }
            | Self::Lamb { betas, .. } => {
                let flags = ["--beta1", "--beta2"].into_iter().zip(betas);
                let mut faults = flags.filter(|(_, beta)| !share(**beta));
                faults.next().map(|(flag, _)| flag)
            }
            Self::Adafactor {
                eps,
                clip_threshold,
                decay_rate,
            } => other(
                positive(f64::from(*eps))
                    && positive(f64::from(*clip_threshold))
                    && positive(-decay_rate),
            ),
            Self::Sgd { momentum, .. } => other(momentum.is_finite() && *momentum >= 0.0),
        };
        match fault {
            None => Ok(self),
            Some(flag) => Err(TrainError::flag(
                flag,
                format!("a setting is out of its range: {self:?}"),
            )),
        }
    }

    /// Decay of first and second moment, where there are two.
    pub fn betas(&self) -> Option<[f32; 2]> {
        match self {
            Self::AdamW { betas, .. }
            | Self::NAdamW { betas, .. }
            | Self::Lion { betas }
            | Self::Lamb { betas, .. } => Some(*betas),
            Self::Adafactor { .. } | Self::Sgd { .. } => None,
        }
    }

    /// What is added to a divisor, where anything is.
    pub fn eps(&self) -> Option<f32> {
        match self {
            Self::AdamW { eps, .. }
            | Self::NAdamW { eps, .. }
            | Self::Lamb { eps, .. }
            | Self::Adafactor { eps, .. } => Some(*eps),
            Self::Lion { .. } | Self::Sgd { .. } => None,
        }
    }

    /// The largest norm of the whole gradient that the optimizer takes.
    pub fn max_grad_norm(&self) -> Option<f32> {
        match self {
            Self::Lamb { max_grad_norm, .. } => *max_grad_norm,
            _ => None,
        }
    }

    /// The optimizer of a model, with weight decay for the parameters of one group.
    pub fn optimizer(&self, decayed: ParamGroup, weight_decay: f32) -> ModuleOptimizer {
        fn split<O: Optimizer>(
            decayed: ParamGroup,
            weight_decay: f32,
            build: impl Fn(f32) -> O,
        ) -> ModuleOptimizer {
            ModuleOptimizer::from(build(0.0)).with_group(decayed, build(weight_decay), None)
        }
        match self.clone() {
            Self::AdamW {
                betas: [beta_1, beta_2],
                eps,
                amsgrad,
            } => split(decayed, weight_decay, |weight_decay| FusedAdamW {
                betas: [beta_1, beta_2],
                eps,
                weight_decay,
                burn: AdamWConfig::new()
                    .with_beta_1(beta_1)
                    .with_beta_2(beta_2)
                    .with_epsilon(eps)
                    .with_amsgrad(amsgrad)
                    .with_weight_decay(weight_decay)
                    .build(),
            }),
            Self::NAdamW {
                betas,
                eps,
                momentum_decay,
            } => split(decayed, weight_decay, |weight_decay| NAdamW {
                betas,
                eps,
                momentum_decay,
                weight_decay,
            }),
            Self::Lion {
                betas: [beta_1, beta_2],
            } => split(decayed, weight_decay, |weight_decay| {
                LionConfig::new()
                    .with_beta_1(beta_1)
                    .with_beta_2(beta_2)
                    .with_weight_decay(weight_decay)
                    .build()
            }),
            Self::Lamb {
                betas: [beta_1, beta_2],
                eps,
                always_adapt,
                ..
            } => split(decayed, weight_decay, |weight_decay| {
                LambConfig::new()
                    .with_beta_1(beta_1)
                    .with_beta_2(beta_2)
                    .with_epsilon(eps)
                    .with_weight_decay(weight_decay)
                    .with_use_trust_ratio(always_adapt || weight_decay != 0.0)
                    .build()
            }),
            Self::Adafactor {
                eps,
                clip_threshold,
                decay_rate,
            } => split(decayed, weight_decay, |weight_decay| {
                AdafactorConfig::new()
                    .with_epsilon_1(eps)
                    .with_clip_threshold(clip_threshold)
                    .with_decay_rate(decay_rate)
                    .with_relative_step(false)
                    .with_scale_parameter(false)
                    .with_weight_decay(weight_decay)
                    .build()
            }),
            Self::Sgd {
                momentum,
                dampening,
                nesterov,
            } => split(decayed, weight_decay, |weight_decay| {
                SgdConfig::new()
                    .with_momentum(Some(MomentumConfig {
                        momentum,
                        dampening,
                        nesterov,
                    }))
                    .with_weight_decay(Some(WeightDecayConfig::new(weight_decay)))
                    .build()
            }),
        }
    }
}

fn convert<T: DeserializeOwned>(value: &impl Serialize) -> serde_json::Result<T> {
    serde_json::from_value(serde_json::to_value(value)?)
}
