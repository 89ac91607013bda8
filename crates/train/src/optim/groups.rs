//! Groups of parameters: which of them decay, and how their learning rates differ.

use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::module::ParamGroup;
use burn::optim::ModuleOptimizer;
use openclip_model::depth::Layers;
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
    /// Patterns of further keys without weight decay, as Python's `fnmatch` reads them.
    pub wd_exclude: Vec<String>,
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
        let decayed = params::describe(model).into_iter().filter(|param| {
            decays(&param.key, &param.shape)
                && !self.wd_exclude.iter().any(|glob| matches(glob, &param.key))
        });
        let decayed = ParamGroup::from_ids(decayed.map(|param| param.id).collect());
        self.algorithm.optimizer(decayed, self.weight_decay)
    }

    /// The first of [`Self::wd_exclude`] that fits no parameter of `model`.
    pub fn idle_pattern(&self, model: &Clip) -> Option<&str> {
        let all = params::describe(model);
        let idle = |glob: &&String| !all.iter().any(|param| matches(glob, &param.key));
        self.wd_exclude.iter().find(idle).map(String::as_str)
    }
}

/// OpenCLIP 2's rule: matrices and larger decay, unless they belong to a norm, are a bias or the logit scale.
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

/// Whether all of `text` fits a pattern of `*`, `?` and `[…]`, as in Python's `fnmatch`.
fn matches(pattern: &str, text: &str) -> bool {
    let Some(first) = pattern.chars().next() else {
        return text.is_empty();
    };
    let rest = &pattern[first.len_utf8()..];
    if first == '*' {
        let tails = text.char_indices().map(|(at, _)| &text[at..]);
        return tails.chain([""]).any(|tail| matches(rest, tail));
    }
    let Some(found) = text.chars().next() else {
        return false;
    };
    let tail = &text[found.len_utf8()..];
    match first {
        '?' => matches(rest, tail),
        '[' => match set(rest) {
            Some((negated, members, rest)) => {
                within(members, found) != negated && matches(rest, tail)
            }
            None => found == '[' && matches(rest, tail),
        },
        _ => found == first && matches(rest, tail),
    }
}

/// What stands before and behind the bracket that closes a set, whose first character may be one itself.
fn set(pattern: &str) -> Option<(bool, &str, &str)> {
    let (negated, pattern) = match pattern.strip_prefix('!') {
        Some(pattern) => (true, pattern),
        None => (false, pattern),
    };
    let skipped = usize::from(pattern.starts_with(']'));
    let end = pattern[skipped..].find(']')? + skipped;
    Some((negated, &pattern[..end], &pattern[end + 1..]))
}

/// Whether a set such as `a-z_` holds a character.
fn within(members: &str, found: char) -> bool {
    let members: Vec<char> = members.chars().collect();
    let mut rest = members.as_slice();
    loop {
        rest = match rest {
            [low, '-', high, ..] if (*low..=*high).contains(&found) => return true,
            [_, '-', _, tail @ ..] => tail,
            [one, ..] if *one == found => return true,
            [_, tail @ ..] => tail,
            [] => return false,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    /// Answers of Python's `fnmatch.fnmatchcase`.
    #[test]
    fn patterns_are_read_as_in_python() {
        for (pattern, text, expected) in [
            ("*.bias", "visual.ln_pre.bias", true),
            ("*.bias", "visual.bias_table", false),
            ("visual.proj*", "visual.proj", true),
            ("visual.proj*", "text.visual.proj", false),
            ("*pos_embed*", "visual.trunk.pos_embed", true),
            ("*pos_embed*", "visual.positional_embedding", false),
            (
                "visual.transformer.resblocks.?.*",
                "visual.transformer.resblocks.10.ln_1",
                false,
            ),
            (
                "*resblocks.[0-3].*",
                "visual.transformer.resblocks.2.mlp.c_fc.weight",
                true,
            ),
            (
                "*resblocks.[!0-3].*",
                "visual.transformer.resblocks.2.mlp.c_fc.weight",
                false,
            ),
            ("a[]]b", "a]b", true),
            ("a[b", "a[b", true),
            ("Visual*", "visual.proj", false),
            ("", "", true),
            ("*", "", true),
            ("a**b", "ab", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
