//! Lists of sets that are measured together, each by a metric of its own, and their averages: DataComp's 38.
//!
//! * `fetch` – sets from the hub

mod fetch;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::EvalError;
use crate::lines::read_text;
use crate::task::{Extra, Task};

pub use fetch::fetch;

const DATACOMP: &str = include_str!("../../configs/datacomp.toml");
/// The metric that is the mean of both directions' recall, which no task reports.
const MEAN_RECALL: &str = "mean_recall@1";
/// The metric of classes that no picture of other classes should take.
const MACRO_F1: &str = "F1-macro_all";

/// A list of sets.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// What it is called.
    pub name: String,
    /// Where its sets are on the hub, with `{dataset_cleaned}` for the name of a set.
    #[serde(default)]
    hub: String,
    /// The sets.
    #[serde(rename = "set")]
    pub sets: Vec<Entry>,
    /// Averages over groups of sets, beside that over all.
    #[serde(rename = "average", default)]
    averages: Vec<Average>,
}

/// A set of a suite.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// CLIP_benchmark's name.
    pub dataset: String,
    /// The name that people know.
    pub name: String,
    /// Pictures in it.
    pub size: u64,
    /// Number of classes.
    #[serde(default)]
    pub classes: Option<usize>,
    /// The task's name.
    #[serde(default)]
    task: Option<String>,
    /// The main metric.
    #[serde(default = "accuracy")]
    pub metric: String,
    #[serde(default)]
    worst: Option<Worst>,
    /// Whose built-in names its classes have.
    #[serde(default)]
    pub names: Option<String>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    at: Vec<String>,
    #[serde(default)]
    hub: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Worst {
    column: usize,
    top: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Average {
    name: String,
    group: String,
}

/// The mean of the main metric over the sets of a group that were measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Mean {
    /// The group's name.
    pub name: String,
    /// The mean; `None` where none was measured.
    pub value: Option<f64>,
    /// How many were measured.
    pub measured: usize,
    /// How many there are.
    pub sets: usize,
}

fn accuracy() -> String {
    "acc1".to_owned()
}

impl Suite {
    /// The suite `datacomp`, or one that a `.toml` file lists.
    ///
    /// # Errors
    /// When there is no such suite, or the file has another form.
    pub fn open(name: &str) -> Result<Self, EvalError> {
        let path = Path::new(name);
        let (place, text) = match name {
            "datacomp" => (Path::new("configs/eval/datacomp.toml"), DATACOMP.to_owned()),
            _ if path.is_file() => (path, read_text(path)?),
            _ => {
                let problem = "no such suite; expected datacomp or a .toml file in its form";
                return Err(EvalError::list(path, problem));
            }
        };
        let suite: Self = toml::from_str(&text)
            .map_err(|error| EvalError::list(place, error.to_string().trim_end().to_owned()))?;
        for entry in &suite.sets {
            if let Some(Err(problem)) = entry.task.as_deref().map(str::parse::<Task>) {
                return Err(EvalError::list(
                    place,
                    format!("{}: {problem}", entry.dataset),
                ));
            }
        }
        Ok(suite)
    }

    /// Where a set is on the hub.
    pub fn hub(&self, entry: &Entry) -> Option<String> {
        let pattern = entry.hub.as_ref().unwrap_or(&self.hub);
        let place = pattern.replace("{dataset_cleaned}", &entry.cleaned());
        (!place.is_empty()).then_some(place)
    }

    /// The averages of the main metrics `of` sets by their names in CLIP_benchmark: those of the groups, then that of all.
    pub fn means(&self, of: &HashMap<String, f64>) -> Vec<Mean> {
        let mean = |name: String, sets: Vec<&Entry>| {
            let values: Vec<f64> = sets
                .iter()
                .filter_map(|entry| of.get(&entry.dataset).copied())
                .collect();
            let sum: f64 = values.iter().sum();
            Mean {
                name,
                value: (!values.is_empty()).then(|| sum / values.len() as f64),
                measured: values.len(),
                sets: sets.len(),
            }
        };
        let group = |average: &Average| {
            let is_in = |entry: &&Entry| entry.groups.contains(&average.group);
            mean(
                average.name.clone(),
                self.sets.iter().filter(is_in).collect(),
            )
        };
        let mut means: Vec<Mean> = self.averages.iter().map(group).collect();
        means.push(mean(
            format!("All {}", self.sets.len()),
            self.sets.iter().collect(),
        ));
        means
    }
}

impl Entry {
    /// What is asked of the model.
    pub fn task(&self) -> Task {
        let task = self.task.as_deref().map(str::parse);
        task.and_then(Result::ok).unwrap_or(Task::Classification)
    }

    /// The main metric, where no task reports it by itself.
    pub fn extra(&self) -> Option<Extra> {
        let name = self.metric.clone();
        match self.worst {
            Some(Worst { column, top }) => Some(Extra::Worst { name, column, top }),
            None if name == MACRO_F1 => Some(Extra::MacroF1 { name }),
            None => None,
        }
    }

    /// The main metric's value.
    pub fn score(&self, metrics: &Map<String, Value>) -> Option<f64> {
        let value = |name: &str| metrics.get(name).and_then(Value::as_f64);
        match self.metric.as_str() {
            MEAN_RECALL => {
                let directions =
                    ["image", "text"].map(|of| value(&format!("{of}_retrieval_recall@1")));
                Some((directions[0]? + directions[1]?) / 2.0)
            }
            name => value(name),
        }
    }

    /// Where the set may lie below `root`.
    pub fn places(&self, root: &Path) -> Vec<PathBuf> {
        let cleaned = self.cleaned();
        let usual = [
            format!("wds_{cleaned}_test"),
            format!("wds_{cleaned}"),
            cleaned,
            self.dataset.clone(),
        ];
        usual
            .iter()
            .chain(&self.at)
            .map(|name| root.join(name))
            .collect()
    }

    fn cleaned(&self) -> String {
        self.dataset.replace('/', "-")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    /// The groups of DataComp's `aggregate_scores.py`.
    #[test]
    fn datacomp_has_38_sets_in_its_groups() {
        let suite = Suite::open("datacomp").unwrap();
        assert_eq!(suite.sets.len(), 38);
        let scores: HashMap<String, f64> = suite
            .sets
            .iter()
            .enumerate()
            .map(|(at, entry)| (entry.dataset.clone(), at as f64))
            .collect();
        assert_eq!(scores.len(), 38, "each once");
        let means = suite.means(&scores);
        let sizes: Vec<_> = means
            .iter()
            .map(|mean| (mean.name.as_str(), mean.sets))
            .collect();
        let expected = [
            ("ImageNet", 1),
            ("ImageNet shifts", 6),
            ("VTAB", 13),
            ("Retrieval", 3),
            ("All 38", 38),
        ];
        assert_eq!(sizes, expected);
        assert_eq!(means[4].value, Some(18.5));
        let some = HashMap::from([("imagenet-a".to_owned(), 0.5)]);
        let means = suite.means(&some);
        assert_eq!(
            (means[1].value, means[1].measured, means[2].value),
            (Some(0.5), 1, None)
        );
    }

    #[test]
    fn a_set_has_a_metric_and_places() {
        let suite = Suite::open("datacomp").unwrap();
        let entry = |dataset: &str| {
            suite
                .sets
                .iter()
                .find(|entry| entry.dataset == dataset)
                .unwrap()
        };
        let pets = entry("vtab/pets");
        assert_eq!(
            pets.places(Path::new("r"))[0],
            Path::new("r/wds_vtab-pets_test")
        );
        assert_eq!(
            suite.hub(pets).unwrap(),
            "hf://datasets/djghosh/wds_vtab-pets_test"
        );
        let metrics = json!({"acc1": 0.1, "mean_per_class_recall": 0.2, "image_retrieval_recall@1": 0.5, "text_retrieval_recall@1": 0.75});
        let metrics = metrics.as_object().unwrap();
        assert_eq!(pets.score(metrics), Some(0.2));
        assert_eq!(entry("cars").score(metrics), Some(0.1));
        let flickr = entry("retrieval/flickr30k");
        assert_eq!(
            (flickr.score(metrics), flickr.task()),
            (Some(0.625), Task::Retrieval)
        );
        let worst = |dataset| entry(dataset).extra();
        let name = "acc_top5_wg".to_owned();
        assert_eq!(
            worst("fairness/dollar_street"),
            Some(Extra::Worst {
                name,
                column: 0,
                top: 5
            })
        );
        assert_eq!(worst("cars"), None);
        assert_eq!(suite.hub(entry("misc/winogavil")), None);
    }
}
