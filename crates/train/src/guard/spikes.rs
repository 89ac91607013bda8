//! Losses and gradient norms far above those of the last steps.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// What counts as a spike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpikeRule {
    /// Standard deviations above the mean.
    pub deviations: f64,
    /// Steps that mean and deviation are taken over. Before so many there are no spikes.
    pub window: usize,
}

/// Deviations below this share of the mean count as this share, so that a steady run has no spikes.
const LEAST_DEVIATION: f64 = 0.01;

/// Loss and gradient norm of the last steps where both were finite.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<[u32; 2]>", into = "Vec<[u32; 2]>")]
pub struct Spikes {
    recent: VecDeque<[f32; 2]>,
}

/// Written as bits: a decimal number read back may differ in its last one.
impl From<Vec<[u32; 2]>> for Spikes {
    fn from(bits: Vec<[u32; 2]>) -> Self {
        let recent = bits.into_iter().map(|step| step.map(f32::from_bits));
        Self {
            recent: recent.collect(),
        }
    }
}

impl From<Spikes> for Vec<[u32; 2]> {
    fn from(spikes: Spikes) -> Self {
        let steps = spikes.recent.into_iter();
        steps.map(|step| step.map(f32::to_bits)).collect()
    }
}

impl Spikes {
    /// Whether no step is remembered.
    pub fn is_empty(&self) -> bool {
        self.recent.is_empty()
    }

    /// Whether a step is a spike; it is remembered either way, so that a run whose level has risen for good goes on.
    pub fn stands_out(&mut self, rule: SpikeRule, step: [f32; 2]) -> bool {
        let full = self.recent.len() >= rule.window;
        let stands_out = full && (0..2).any(|i| f64::from(step[i]) > self.limit(rule, i));
        self.recent.push_back(step);
        while self.recent.len() > rule.window {
            self.recent.pop_front();
        }
        stands_out
    }

    fn limit(&self, rule: SpikeRule, i: usize) -> f64 {
        let count = self.recent.len() as f64;
        let values = || self.recent.iter().map(|step| f64::from(step[i]));
        let mean = values().sum::<f64>() / count;
        let variance = values().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        mean + rule.deviations * variance.sqrt().max(LEAST_DEVIATION * mean.abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_far_above_the_window_stand_out() {
        let rule = SpikeRule {
            deviations: 6.0,
            window: 4,
        };
        let mut spikes = Spikes::default();
        // Before the window is full nothing stands out.
        for loss in [2.0, 100.0, 1.0, 3.0, 1.0, 3.0] {
            assert!(!spikes.stands_out(rule, [loss, 1.0]));
        }
        // Mean 2, deviation 1; the norm's deviation counts as a hundredth of its mean.
        for (step, expected) in [
            ([8.1, 1.0], true),
            ([2.0, 1.07], true),
            ([7.9, 1.05], false),
        ] {
            assert_eq!(spikes.clone().stands_out(rule, step), expected, "{step:?}");
        }
        assert!(spikes.stands_out(rule, [8.1, 1.0]));
        assert_eq!(
            spikes.recent,
            [[3.0, 1.0], [1.0, 1.0], [3.0, 1.0], [8.1, 1.0]]
        );
        assert!(!spikes.stands_out(rule, [8.1, 1.0]));
    }
}
