//! Which of two checkpoints is better.

use serde::{Deserialize, Serialize};

/// A measured value by which checkpoints are compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// As in `results.jsonl`.
    pub name: String,
    /// The value.
    pub value: f64,
}

impl Metric {
    /// Whether this beats `other`, which may measure something else and then never wins.
    pub fn beats(&self, other: Option<&Metric>) -> bool {
        let Some(other) = other.filter(|other| other.name == self.name) else {
            return self.value.is_finite();
        };
        match lower_is_better(&self.name) {
            true => self.value < other.value,
            false => self.value > other.value,
        }
    }
}

/// Losses and ranks fall as a model learns; accuracies and recalls rise.
fn lower_is_better(metric: &str) -> bool {
    metric.contains("loss") || metric.contains("rank")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(name: &str, value: f64) -> Metric {
        Metric {
            name: name.into(),
            value,
        }
    }

    #[test]
    fn losses_and_ranks_are_better_when_lower() {
        for (name, better, worse) in [
            ("clip_val_loss", 1.0, 2.0),
            ("image_to_text_mean_rank", 3.0, 4.0),
            ("image_to_text_R@1", 0.5, 0.4),
            ("imagenet-zeroshot-val-top1", 0.7, 0.6),
        ] {
            let (better, worse) = (metric(name, better), metric(name, worse));
            assert!(better.beats(Some(&worse)) && !worse.beats(Some(&better)));
            assert!(!better.beats(Some(&better)));
            assert!(worse.beats(None) && worse.beats(Some(&metric("another", 9.0))));
        }
        assert!(!metric("clip_val_loss", f64::NAN).beats(None));
    }
}
