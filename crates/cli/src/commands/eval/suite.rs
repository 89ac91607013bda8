//! A suite of sets by their own metrics, and its averages.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use openclip_eval::suite::{Entry, Mean, Suite, fetch};
use serde::Serialize;

use super::run::{Found, Job, Lazy, Run};
use crate::args::eval::EvalArgs;
use crate::args::model::ModelArgs;
use crate::error::{Outcome, Result};
use crate::output::{Output, Records, error, warn};

/// Every K of Recall@K that DataComp reports.
const RECALL_K: [usize; 3] = [1, 5, 10];

/// What a model is worth.
#[derive(Serialize)]
struct Scores {
    suite: String,
    model: String,
    pretrained: String,
    sets: Vec<Score>,
    averages: Vec<Average>,
    missing: Vec<String>,
}

#[derive(Serialize)]
struct Score {
    dataset: String,
    name: String,
    metric: String,
    value: Option<f64>,
    interval: Option<[f64; 2]>,
}

#[derive(Serialize)]
struct Average {
    name: String,
    value: Option<f64>,
    measured: usize,
    sets: usize,
}

impl From<Mean> for Average {
    fn from(mean: Mean) -> Self {
        Self {
            name: mean.name,
            value: mean.value,
            measured: mean.measured,
            sets: mean.sets,
        }
    }
}

/// Measures what is there, names what is missing, and prints the averages of both the old and the new results.
pub fn run(args: &EvalArgs, name: &str) -> Result {
    let suite = Suite::open(name)?;
    let root = args
        .suite
        .root
        .clone()
        .unwrap_or_else(|| PathBuf::from("."));
    let mut run = Run::new(args);
    let mut out = Records::stdout(args.json.json);
    'models: for model in &args.models.each()? {
        let mut loaded = None;
        let mut scores = Scores {
            suite: suite.name.clone(),
            model: model.model.clone(),
            pretrained: model.pretrained.clone().unwrap_or_default(),
            sets: Vec::new(),
            averages: Vec::new(),
            missing: Vec::new(),
        };
        let mut values = HashMap::new();
        for entry in &suite.sets {
            let found = place(&suite, entry, &root, args)
                .and_then(|place| measure(&mut run, model, &mut loaded, entry, place));
            let record = match found {
                Ok(Some(Found::New(record) | Found::Known(record))) => record,
                Ok(Some(Found::NoModel)) => continue 'models,
                Ok(None) => {
                    scores.missing.push(entry.name.clone());
                    continue;
                }
                Err(fault) => {
                    run.well = false;
                    error(fault.message());
                    continue;
                }
            };
            let value = entry.score(&record.metrics);
            values.extend(value.map(|value| (entry.dataset.clone(), value)));
            scores.sets.push(Score {
                dataset: entry.dataset.clone(),
                name: entry.name.clone(),
                metric: entry.metric.clone(),
                value,
                interval: record.intervals.get(&entry.metric).copied(),
            });
        }
        scores.averages = suite
            .means(&values)
            .into_iter()
            .map(Average::from)
            .collect();
        if !scores.missing.is_empty() {
            warn(format!(
                "{}: {} of {} sets are not in {}: {}; --download gets them from the hub",
                suite.name,
                scores.missing.len(),
                suite.sets.len(),
                root.display(),
                scores.missing.join(", ")
            ));
        }
        out.write(&scores, lines)?;
    }
    out.finish()?;
    Ok(Outcome::of(run.well))
}

/// Where a set is, after it was copied from the hub where that is asked for.
fn place(suite: &Suite, entry: &Entry, root: &Path, args: &EvalArgs) -> Result<Option<PathBuf>> {
    let places = entry.places(root);
    if let Some(place) = places.iter().find(|place| place.exists()) {
        return Ok(Some(place.clone()));
    }
    match suite.hub(entry).filter(|_| args.suite.download) {
        Some(hub) => {
            fetch(&hub, &args.sets.split, &places[0])?;
            Ok(Some(places[0].clone()))
        }
        None => Ok(None),
    }
}

/// The result on one set; `None` without the set.
fn measure(
    run: &mut Run<'_>,
    model: &ModelArgs,
    loaded: &mut Lazy,
    entry: &Entry,
    place: Option<PathBuf>,
) -> Result<Option<Found>> {
    let Some(place) = place else {
        return Ok(None);
    };
    let place = place.to_string_lossy();
    let job = Job {
        name: &entry.dataset,
        place: &place,
        task: Some(entry.task()),
        recall_k: RECALL_K.to_vec(),
        names: entry.names.clone(),
        extra: entry.extra(),
        resume: true,
    };
    run.one(model, loaded, &job).map(Some)
}

fn lines(scores: &Scores, out: &mut Output) -> Result<()> {
    let head = format!("{} {} {}", scores.suite, scores.model, scores.pretrained);
    out.line(head.trim_end())?;
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
    for score in &scores.sets {
        let interval = score
            .interval
            .map(|[low, high]| format!("{low:.4} to {high:.4}"));
        let line = format!(
            "  {:<24} {:<22} {:<8} {}",
            score.name,
            score.metric,
            number(score.value),
            interval.unwrap_or_default()
        );
        out.line(line.trim_end())?;
    }
    for average in &scores.averages {
        let of = match average.measured < average.sets {
            true => format!("{} of {} sets", average.measured, average.sets),
            false => String::new(),
        };
        let line = format!("  {:<47} {:<8} {of}", average.name, number(average.value));
        out.line(line.trim_end())?;
    }
    Ok(())
}
