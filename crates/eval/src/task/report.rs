//! What a task found.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::bootstrap::Estimates;

/// What a task found.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Metrics under CLIP_benchmark's names.
    pub metrics: Map<String, Value>,
    /// The middle 95 % of a metric over resampled pictures.
    pub intervals: BTreeMap<String, [f64; 2]>,
    /// Whether every score was a number; the metrics say nothing otherwise.
    pub is_finite: bool,
}

impl Report {
    pub(super) fn new(is_finite: bool) -> Self {
        Self {
            metrics: Map::new(),
            intervals: BTreeMap::new(),
            is_finite,
        }
    }

    /// Adds a metric; one that is no number is null.
    pub(super) fn add(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        self.metrics.insert(name.into(), value.into());
    }

    /// Adds metrics with their intervals.
    pub(super) fn add_all(&mut self, found: Estimates) {
        for (name, value, interval) in found {
            self.intervals
                .extend(interval.map(|interval| (name.clone(), interval)));
            self.add(name, value);
        }
    }
}
