//! CLIP_benchmark's tasks on a [`Dataset`].
//!
//! * [`evaluator`] – a model with what it takes to run a task on a set
//! * `classify`, `retrieve`, `select` – zero-shot tasks
//! * [`probe`] – a classifier trained on features
//! * `caption` – captions, by models that write them
//! * [`outcome`] – what became of each picture, from which the metrics are made
//! * `bootstrap` – how far a metric would be another on other pictures of the same kind

mod bootstrap;
mod caption;
mod classify;
pub mod evaluator;
mod features;
pub mod outcome;
pub mod probe;
mod retrieve;
mod select;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::dataset::Targets;

pub use evaluator::{Evaluator, Loading, TaskOptions};

/// What a model is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Task {
    /// The class of a picture, from the names of the classes.
    Classification,
    /// The picture of a caption among all, and the other way round.
    Retrieval,
    /// The class of a picture, from labelled features.
    LinearProbe,
    /// A caption, by a model that writes them.
    Captioning,
    /// Which caption belongs to which picture, among a few.
    Selection,
}

/// Every task under CLIP_benchmark's name.
const NAMES: [(Task, &str); 5] = [
    (Task::Classification, "zeroshot_classification"),
    (Task::Retrieval, "zeroshot_retrieval"),
    (Task::LinearProbe, "linear_probe"),
    (Task::Captioning, "captioning"),
    (Task::Selection, "image_caption_selection"),
];

impl Task {
    /// The task that a set is made for.
    pub fn of(targets: &Targets) -> Self {
        match targets {
            Targets::Labels { .. } => Self::Classification,
            Targets::Captions(_) => Self::Retrieval,
            Targets::Choices(_) => Self::Selection,
        }
    }

    /// CLIP_benchmark's name.
    pub fn name(self) -> &'static str {
        let found = NAMES.iter().find(|(task, _)| *task == self);
        found.map_or("", |(_, name)| name)
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Task {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = NAMES.iter().find(|(_, known)| *known == name);
        found.map(|(task, _)| *task).ok_or_else(|| {
            let names: Vec<&str> = NAMES.iter().map(|(_, name)| *name).collect();
            format!("expected auto, {}", names.join(", "))
        })
    }
}

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
    fn new(is_finite: bool) -> Self {
        Self {
            metrics: Map::new(),
            intervals: BTreeMap::new(),
            is_finite,
        }
    }

    /// Adds a metric; one that is no number is null.
    fn add(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        self.metrics.insert(name.into(), value.into());
    }

    /// Adds metrics with their intervals.
    fn add_all(&mut self, found: bootstrap::Estimates) {
        for (name, value, interval) in found {
            self.intervals
                .extend(interval.map(|interval| (name.clone(), interval)));
            self.add(name, value);
        }
    }
}
