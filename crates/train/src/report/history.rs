//! What a run has been through, as its plot shows it.

use std::path::Path;

use serde_json::Value;

use super::plot::Plot;
use super::results::{self, Damage};
use super::series::Series;
use crate::TrainError;

/// Metrics that are shown, as their names end.
const SHOWN: [&str; 4] = ["R@1", "-top1", "-top5", "clip_val_loss"];
/// Curves that are told apart.
const MOST: usize = 8;

/// The loss of every step and the metrics of every evaluation, thinned.
#[derive(Debug, Default, Clone)]
pub struct History {
    loss: Series,
    metrics: Vec<(String, Series)>,
}

impl History {
    /// Takes the loss of a step.
    pub fn step(&mut self, step: u64, loss: f64) {
        self.loss.push(step as f64, loss);
    }

    /// Takes a metric after a step, if it is one that is shown.
    pub fn metric(&mut self, step: u64, name: &str, value: f64) {
        if !SHOWN.iter().any(|suffix| name.ends_with(suffix)) {
            return;
        }
        let (step, room) = (step as f64, self.metrics.len() < MOST);
        match self.metrics.iter_mut().find(|(known, _)| known == name) {
            Some((_, series)) => series.push(step, value),
            None if room => {
                let mut series = Series::default();
                series.push(step, value);
                self.metrics.push((name.to_owned(), series));
            }
            None => {}
        }
    }

    /// Takes what the files of a run say that is resumed, and gives what is damaged in each.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read_steps(&mut self, path: &Path) -> Result<Option<Damage>, TrainError> {
        results::read(path, |entry| {
            if let Some(step) = entry["step"].as_u64() {
                self.step(step, number(&entry["loss"]));
            }
        })
    }

    /// The same of the evaluations.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read_results(&mut self, path: &Path) -> Result<Option<Damage>, TrainError> {
        results::read(path, |entry| {
            let Some(step) = entry["step"].as_u64() else {
                return;
            };
            for (name, value) in entry.as_object().into_iter().flatten() {
                self.metric(step, name, number(value));
            }
        })
    }

    /// As a picture whose loss is called `loss`.
    pub fn plot(&self, title: &str, loss: &str) -> Plot {
        let metrics = self.metrics.iter();
        let metrics = metrics.map(|(name, series)| (name.clone(), series.points()));
        Plot::of_training(title, loss, &self.loss, metrics.collect())
    }
}

/// JSON has `null` for what is not finite.
fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}
