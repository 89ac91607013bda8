//! Dynamic loss scaling (arXiv 1710.03740), as PyTorch's `GradScaler` does it.

use serde::{Deserialize, Serialize};

/// How the scale follows the gradients.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScaleRule {
    /// Scale of the first step.
    pub initial: f64,
    /// Steps without overflow before the scale doubles.
    pub growth_interval: u32,
    /// Below this the scale does not fall: a gradient that overflows there is not finite by itself.
    pub floor: f64,
}

impl Default for ScaleRule {
    fn default() -> Self {
        Self {
            initial: 65536.0,
            growth_interval: 2000,
            floor: 1.0,
        }
    }
}

/// Factor of the gradients, a power of two.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    factor: f64,
    good_steps: u32,
}

impl LossScale {
    /// The scale of the first step.
    pub fn new(rule: ScaleRule) -> Self {
        Self {
            factor: rule.initial,
            good_steps: 0,
        }
    }

    /// What the next gradient is multiplied with.
    pub fn factor(&self) -> f64 {
        self.factor
    }

    /// Takes note of a step; halved after an overflow, doubled after enough steps without one. Says whether there was room to
    /// halve.
    pub fn update(&mut self, rule: ScaleRule, overflowed: bool) -> bool {
        let before = self.factor;
        if overflowed {
            self.good_steps = 0;
            self.factor = (before / 2.0).max(rule.floor);
            return self.factor < before;
        }
        self.good_steps += 1;
        if self.good_steps == rule.growth_interval {
            self.good_steps = 0;
            // The factor itself is an f32 on the device.
            if before * 2.0 <= f64::from(f32::MAX) {
                self.factor = before * 2.0;
            }
        }
        true
    }
}
