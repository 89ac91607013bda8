//! Which steps are taken: those with a finite loss and gradient, no spike, within the range of narrow floats.
//!
//! * [`scale`] – the factor that keeps gradients within the range of f16
//! * [`spikes`] – losses and gradients far above those of the last steps

pub mod scale;
pub mod spikes;

use serde::{Deserialize, Serialize};

pub use scale::{LossScale, ScaleRule};
pub use spikes::{SpikeRule, Spikes};

/// What becomes of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verdict {
    /// The optimizer takes it.
    #[default]
    Taken,
    /// Loss or gradient is not finite.
    NotFinite,
    /// The gradient left the range of f16 and is tried smaller from the next step on.
    Overflow,
    /// Loss or gradient norm is far above that of the last steps.
    Spike,
}

impl Verdict {
    /// Whether many of them in a row should end the run.
    pub fn is_bad(self) -> bool {
        matches!(self, Self::NotFinite | Self::Spike)
    }

    /// For the log.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::NotFinite => "loss or gradient is not finite",
            Self::Overflow => "the gradient overflows float16",
            Self::Spike => "loss or gradient norm stands out from the last steps (--skip-spikes)",
        }
    }
}

/// What is asked of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rules {
    /// How the gradient is scaled, where it is.
    pub scale: Option<ScaleRule>,
    /// What counts as a spike, where any does.
    pub spikes: Option<SpikeRule>,
}

/// What the rules remember of earlier steps; part of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Of [`Rules::scale`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<LossScale>,
    /// Of [`Rules::spikes`].
    #[serde(skip_serializing_if = "Spikes::is_empty")]
    pub spikes: Spikes,
}

/// The judge of a run's steps.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    rules: Rules,
    memory: Memory,
}

impl Guard {
    /// Goes on from what is remembered.
    pub fn new(rules: Rules, mut memory: Memory) -> Self {
        memory.scale = rules
            .scale
            .map(|rule| memory.scale.unwrap_or_else(|| LossScale::new(rule)));
        if rules.spikes.is_none() {
            memory.spikes = Spikes::default();
        }
        Self { rules, memory }
    }

    /// What the next gradient is multiplied with.
    pub fn grad_scale(&self) -> f64 {
        self.loss_scale().unwrap_or(1.0)
    }

    /// That factor, where there is one.
    pub fn loss_scale(&self) -> Option<f64> {
        self.memory.scale.as_ref().map(LossScale::factor)
    }

    /// What a checkpoint has to remember.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// What becomes of a step with this loss and this norm of the gradient, which is no longer scaled.
    pub fn judge(&mut self, loss: f32, grad_norm: f32) -> Verdict {
        let overflows = !grad_norm.is_finite();
        let mut verdict = match overflows || !loss.is_finite() {
            true => Verdict::NotFinite,
            false => Verdict::Taken,
        };
        if let (Some(rule), Some(scale)) = (self.rules.scale, &mut self.memory.scale) {
            let could_shrink = scale.update(rule, overflows);
            if overflows && loss.is_finite() && could_shrink {
                verdict = Verdict::Overflow;
            }
        }
        if let (Some(rule), Verdict::Taken) = (self.rules.spikes, verdict)
            && self.memory.spikes.stands_out(rule, [loss, grad_norm])
        {
            verdict = Verdict::Spike;
        }
        verdict
    }
}
