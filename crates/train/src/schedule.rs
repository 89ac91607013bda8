//! Learning rate as a pure function of the step (OpenCLIP's `scheduler.py`).

use std::f64::consts::PI;

use burn::lr_scheduler::{LrScheduler, LrSchedulerRecord};
use serde::{Deserialize, Serialize};

/// What follows the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// Half a cosine down to zero at the last step.
    Cosine,
    /// No decay.
    Const,
    /// No decay, then a polynomial over the last `steps`.
    ConstCooldown {
        /// Steps of the cool-down.
        steps: u64,
        /// Exponent.
        power: f64,
        /// Learning rate at the end.
        end: f64,
    },
}

/// Linear warm-up, then [`Decay`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Peak learning rate.
    pub lr: f64,
    /// Steps of the warm-up.
    pub warmup: u64,
    /// Steps of the run.
    pub total: u64,
    /// What follows the warm-up.
    pub decay: Decay,
}

impl Schedule {
    /// Learning rate of step `step`, counted from zero.
    pub fn lr(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.lr * (step + 1) as f64 / self.warmup as f64;
        }
        match self.decay {
            Decay::Const => self.lr,
            Decay::Cosine => {
                let past = (step - self.warmup) as f64;
                let span = self.total as f64 - self.warmup as f64;
                0.5 * (1.0 + (PI * past / span).cos()) * self.lr
            }
            Decay::ConstCooldown { steps, power, end } => {
                let start = self.total.saturating_sub(steps);
                if step < start {
                    return self.lr;
                }
                let left = 1.0 - (step - start) as f64 / (self.total - start) as f64;
                left.powf(power) * (self.lr - end) + end
            }
        }
    }
}

/// Burn's view of a [`Schedule`]: a counter that starts where the run does.
#[derive(Debug, Clone)]
pub struct StepSchedule {
    /// The function.
    pub schedule: Schedule,
    /// The next step.
    pub step: u64,
    /// `--skip-scheduler`: the peak rate throughout.
    pub skip: bool,
    /// Multiplies the rate: 1, but for the lower layers of a tower with layer decay.
    pub scale: f64,
}

impl LrScheduler for StepSchedule {
    fn step(&mut self) -> f64 {
        let step = self.step;
        self.step += 1;
        let lr = match self.skip {
            true => self.schedule.lr,
            false => self.schedule.lr(step),
        };
        lr * self.scale
    }

    fn to_record(&self) -> LrSchedulerRecord {
        // The step is part of the run's own state.
        LrSchedulerRecord::new()
    }

    fn load_record(&mut self, _: LrSchedulerRecord) {}
}
