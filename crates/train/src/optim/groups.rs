//! Groups of parameters: which of them decay, and how their learning rates differ.

use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::module::{ParamGroup, ParamId};
use burn::optim::ModuleOptimizer;
use glob::Pattern;
use openclip_model::depth::Layers;
use openclip_model::params::ParamInfo;
use openclip_model::{Clip, params};

use super::algorithm::{AdamW, Algorithm};
use crate::TrainError;
use crate::schedule::StepSchedule;

/// An optimizer with its weight decay.
#[derive(Debug, Clone, PartialEq)]
pub struct Optim {
    /// Which optimizer.
    pub algorithm: Algorithm,
    /// Of the parameters that [`decays`] names.
    pub weight_decay: f32,
    /// Patterns of further keys without weight decay.
    pub wd_exclude: Vec<Pattern>,
}

impl AdamW {
    /// AdamW of `model`, whose parameters fall into a group with weight decay and one without.
    pub fn optimizer(&self, model: &Clip) -> ModuleOptimizer {
        let optim = Optim {
            algorithm: Algorithm::AdamW {
                betas: [self.beta1, self.beta2],
                eps: self.eps,
                amsgrad: false,
            },
            weight_decay: self.weight_decay,
            wd_exclude: Vec::new(),
        };
        optim.optimizer(model)
    }
}

impl Optim {
    /// The optimizer of `model`, whose parameters fall into a group with weight decay and one without.
    pub fn optimizer(&self, model: &Clip) -> ModuleOptimizer {
        self.optimizer_with(model, None)
    }

    /// The same with a further parameter that decays.
    pub fn optimizer_with(&self, model: &Clip, further: Option<ParamId>) -> ModuleOptimizer {
        let decayed = params::describe(model).into_iter();
        let decayed = decayed.filter(|param| self.decays(param));
        let decayed = decayed.map(|param| param.id).chain(further);
        let decayed = ParamGroup::from_ids(decayed.collect());
        self.algorithm.optimizer(decayed, self.weight_decay)
    }

    /// Whether a parameter has weight decay.
    pub fn decays(&self, param: &ParamInfo) -> bool {
        decays(&param.key, &param.shape)
            && !self.wd_exclude.iter().any(|glob| glob.matches(&param.key))
    }

    /// The first of [`Self::wd_exclude`] that fits no parameter of `model`.
    pub fn idle_pattern(&self, model: &Clip) -> Option<&str> {
        let all = params::describe(model);
        let idle = |glob: &&Pattern| !all.iter().any(|param| glob.matches(&param.key));
        self.wd_exclude.iter().find(idle).map(Pattern::as_str)
    }
}

/// OpenCLIP's rule in 2 and 3: matrices and larger decay, unless they belong to a norm, are a bias or the logit scale.
pub fn decays(key: &str, shape: &[usize]) -> bool {
    shape.len() >= 2
        && !["bn", "ln", "bias", "logit_scale"]
            .iter()
            .any(|part| key.contains(part))
}

/// Learning rates that fall from the output of a tower to its input: each layer's is the next one's times a factor in (0, 1].
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LayerDecay {
    /// Of the image tower.
    pub image: Option<f64>,
    /// Of the text tower.
    pub text: Option<f64>,
}

impl LayerDecay {
    /// # Errors
    /// When a factor is not above 0 and at most 1.
    pub fn checked(self) -> Result<Self, TrainError> {
        for (flag, decay) in [
            ("--image-layer-decay", self.image),
            ("--text-layer-decay", self.text),
        ] {
            if let Some(decay) = decay.filter(|decay| !(*decay > 0.0 && *decay <= 1.0)) {
                let reason = format!("{decay} is not above 0 and at most 1");
                return Err(TrainError::flag(flag, reason));
            }
        }
        Ok(self)
    }

    /// What the schedule's learning rate is multiplied with, for the groups of parameters where that is not one.
    pub fn scales(&self, model: &Clip) -> Vec<(f64, ParamGroup)> {
        let all = params::describe(model);
        let image = self
            .image
            .map(|decay| (Layers::of_image(model, &all), decay));
        let text = self.text.map(|decay| (Layers::of_text(model, &all), decay));
        let towers = image.into_iter().chain(text);
        towers
            .flat_map(|(layers, decay)| {
                let groups = layers.scales(decay);
                let groups = groups.map(|(scale, ids)| (scale, ParamGroup::from_ids(ids)));
                groups.collect::<Vec<_>>()
            })
            .collect()
    }

    /// `schedule` for every parameter of `model`.
    pub fn scheduler(&self, model: &Clip, schedule: StepSchedule) -> ModuleLrScheduler {
        let base = ModuleLrScheduler::new(schedule.clone());
        let scales = self.scales(model).into_iter();
        scales.fold(base, |scheduler, (scale, group)| {
            let schedule = schedule.clone();
            scheduler.with_group(group, StepSchedule { scale, ..schedule })
        })
    }
}
