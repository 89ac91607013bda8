//! Linear probe: a classifier trained on the features of labelled pictures, with CLIP_benchmark's search for the weight decay.
//!
//! * `trainer` – training one
//! * `search` – training many
//! * `cache` – features on the disk

mod cache;
mod search;
mod trainer;

use std::path::PathBuf;

use burn::tensor::{DType, Tensor, TensorData};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::{Value, json};

use self::cache::Rows;
use self::search::search;
use self::trainer::{Labelled, Linear, Training};
use super::evaluator::Evaluator;
use super::kind::Task;
use super::outcome::Outcomes;
use super::report::Report;
use crate::dataset::{Dataset, Labels, Targets};
use crate::error::EvalError;
use crate::host::host;
use crate::retrieval::rank_of;
use crate::zero_shot::highest;

/// The label in the test set from which on CLIP_benchmark says how often the right class is among five.
const FIVE: usize = 5;

/// The parts of a set.
pub struct ProbeSets<'a> {
    /// What the classifier is trained on.
    pub train: &'a Dataset,
    /// What the weight decay is chosen by; without it there is none.
    pub val: Option<&'a Dataset>,
    /// What it is measured on.
    pub test: &'a Dataset,
}

/// How a probe is made. The defaults are CLIP_benchmark's.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeOptions {
    /// Pictures of each class that are trained on; all without it.
    pub fewshot_k: Option<usize>,
    /// Share of the training pictures that the weight decay is chosen by, where there is no other set for it.
    pub val_proportion: Option<f64>,
    /// Learning rate, from which a cosine falls to zero.
    pub lr: f64,
    /// Passes over the training pictures.
    pub epochs: usize,
    /// Seed of first weights, order and choice of pictures.
    pub seed: u64,
    /// Folder for features, and what they are of beside the set; none are kept without it.
    pub features: Option<(PathBuf, String)>,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        Self {
            fewshot_k: None,
            val_proportion: None,
            lr: 0.1,
            epochs: 10,
            seed: 0,
            features: None,
        }
    }
}

impl Evaluator {
    /// Runs [`Task::LinearProbe`]; `name` is the set's.
    ///
    /// # Errors
    /// When a part is not of one class a picture, cannot be read, or has too few pictures of a class.
    pub fn probe(
        &self,
        name: &str,
        sets: &ProbeSets<'_>,
        options: &ProbeOptions,
    ) -> Result<Report, EvalError> {
        let part = |split: &str, set: &Dataset| self.labelled(name, split, set, options);
        let mut train = part("train", sets.train)?;
        let test = part("test", sets.test)?;
        let mut rng = StdRng::seed_from_u64(options.seed);
        let val = match (sets.val, options.val_proportion) {
            (Some(val), _) => Some(part("val", val)?),
            (None, Some(share)) => {
                let mut rows: Vec<usize> = (0..train.labels.len()).collect();
                rows.shuffle(&mut rng);
                let (kept, held) = rows.split_at(rows.len() - (share * rows.len() as f64) as usize);
                let held = train.select(held);
                train = train.select(kept);
                Some(held)
            }
            (None, None) => None,
        };
        let classes = train.labels.iter().max().map_or(0, |most| most + 1);
        let shots = match options.fewshot_k {
            Some(k) => few(name, &train, classes, k, &mut rng)?,
            None => train.clone(),
        };
        let training = Training {
            classes,
            lr: options.lr,
            epochs: options.epochs,
            batch_size: self.loading.batch_size,
            weight_decay: 0.0,
            seed: options.seed,
        };
        let val = val.filter(|val| !val.labels.is_empty());
        let weight_decay = match &val {
            Some(val) => {
                let progress =
                    self.progress(&format!("{name}: probe"), search::TRAININGS, "trainings");
                let found = search(&shots, val, &training, &progress)?;
                progress.finish();
                found
            }
            None => 0.0,
        };
        // With all pictures, those that the weight decay was chosen by are trained on as well.
        let whole = match (&val, options.fewshot_k) {
            (Some(val), None) => shots.with(val),
            _ => shots,
        };
        let training = Training {
            weight_decay,
            ..training
        };
        let linear = Linear::train(&whole, &training);
        let scores = linear.scores(&test.features)?;
        let mut report = outcomes(&scores, classes, &test.labels);
        report.add("weight_decay", weight_decay);
        report.add("epochs", options.epochs);
        report.add("seed", options.seed);
        let k = options.fewshot_k.map_or(json!(-1), |k| json!(k));
        report.add("fewshot_k", k);
        report.add("normalized", Value::Bool(true));
        Ok(report)
    }

    /// Features and classes of one part, from the disk where they are there.
    fn labelled(
        &self,
        name: &str,
        split: &str,
        set: &Dataset,
        options: &ProbeOptions,
    ) -> Result<Labelled, EvalError> {
        let Targets::Labels {
            labels: Labels::One(labels),
            ..
        } = &set.targets
        else {
            let problem = format!(
                "{} need one class for each picture of {split}",
                Task::LinearProbe
            );
            return Err(EvalError::list(name.as_ref(), problem));
        };
        let kept = options.features.as_ref().map(|(folder, of)| {
            let path = folder.join(format!("{split}.safetensors"));
            let fingerprint = set.pictures.fingerprint();
            (path, format!("{of}, {fingerprint:08x} of {}", set.len))
        });
        let known = match &kept {
            Some((path, of)) => cache::read(path, of)?,
            None => None,
        };
        let rows = match known {
            Some(rows) => rows,
            None => {
                let found = self.features(&format!("{name}: {split}"), set)?;
                let rows = Rows {
                    features: host(found.rows)?,
                    labels: found.numbers.iter().map(|number| labels[*number]).collect(),
                };
                if let Some((path, of)) = &kept {
                    cache::write(path, of, &rows)?;
                }
                rows
            }
        };
        if !rows.features.iter().all(|value| value.is_finite()) {
            let problem = format!("features of {split} are not finite");
            return Err(EvalError::list(name.as_ref(), problem));
        }
        let count = rows.labels.len();
        let shape = [count, rows.features.len() / count.max(1)];
        let data = TensorData::new(rows.features, shape);
        Ok(Labelled {
            features: Tensor::from_data(data, (&self.encoder.device, DType::F32)),
            labels: rows.labels,
        })
    }
}

/// `k` rows of each class, drawn at random.
fn few(
    name: &str,
    train: &Labelled,
    classes: usize,
    k: usize,
    rng: &mut StdRng,
) -> Result<Labelled, EvalError> {
    let mut rows: Vec<usize> = (0..train.labels.len()).collect();
    rows.shuffle(rng);
    let mut counts = vec![0; classes];
    rows.retain(|row| {
        let count = &mut counts[train.labels[*row]];
        *count += 1;
        *count <= k
    });
    match counts.iter().position(|count| (1..k).contains(count)) {
        Some(class) => {
            let problem = format!(
                "class {class} has {} pictures, and --fewshot-k is {k}",
                counts[class]
            );
            Err(EvalError::list(name.as_ref(), problem))
        }
        None => Ok(train.select(&rows)),
    }
}

/// The metrics of scores `[pictures, classes]`.
fn outcomes(scores: &[f32], classes: usize, targets: &[usize]) -> Report {
    let rows = || scores.chunks_exact(classes);
    let most = targets.iter().copied().max().unwrap_or_default();
    let outcomes = Outcomes {
        targets: targets.to_vec(),
        predicted: rows().map(highest).collect(),
        ranks: rows()
            .zip(targets)
            .map(|(row, target)| rank_of(row, *target))
            .collect(),
        classes: classes.max(most + 1),
    };
    let mut report = Report::new(scores.iter().all(|score| score.is_finite()));
    let estimates = outcomes.estimates(most >= FIVE).into_iter();
    report.add_all(
        estimates
            .map(|(metric, value, interval)| (format!("lp_{metric}"), value, interval))
            .collect(),
    );
    report
}

#[cfg(test)]
mod tests;
