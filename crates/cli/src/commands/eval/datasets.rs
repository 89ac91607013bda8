//! CLIP_benchmark's tasks: every model on every set, a result for each.

use std::path::Path;

use openclip_eval::lines::read_labels;
use openclip_eval::results::Record;
use openclip_eval::suite::fetch;

use super::run::{Found, Job, Run};
use crate::args::eval::EvalArgs;
use crate::error::{CliError, Outcome, Result};
use crate::output::{Output, Records, error};

/// Prints and writes what was measured. What fails is told, and the rest goes on.
pub fn run(args: &EvalArgs) -> Result {
    let models = args.models.each()?;
    let sets = &args.sets;
    let mut run = Run::new(args);
    let mut out = Records::stdout(args.json.json);
    let names = names(&sets.dataset)?;
    for model in &models {
        let mut loaded = None;
        for name in &names {
            let found = place(name, sets.dataset_root.as_deref(), &sets.split).and_then(|place| {
                let job = Job {
                    name,
                    place: &place,
                    task: sets.task.0,
                    recall_k: sets.recall_k.clone(),
                    names: None,
                    extra: None,
                    resume: sets.skip_existing,
                };
                run.one(model, &mut loaded, &job)
            });
            match found {
                Ok(Found::New(record)) => out.write(&record, lines)?,
                Ok(Found::Known(_) | Found::NoModel) => {}
                Err(fault) => {
                    run.well = false;
                    error(fault.message());
                }
            }
        }
    }
    out.finish()?;
    Ok(Outcome::of(run.well))
}

/// The sets, those that a `.txt` file lists in its place.
fn names(given: &[String]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for name in given {
        match name.ends_with(".txt") && Path::new(name).is_file() {
            true => names.extend(read_labels(Path::new(name))?),
            false => names.push(name.clone()),
        }
    }
    Ok(names)
}

/// Where a set is: the path itself, or its name below the root.
fn place(name: &str, root: Option<&str>, split: &str) -> Result<String> {
    if name.starts_with("hf://datasets/") && !name.ends_with(".tar") {
        return fetched(name, root, split);
    }
    let Some(root) = root.filter(|_| !Path::new(name).exists()) else {
        return Ok(name.to_owned());
    };
    let short = name.strip_prefix("wds/").unwrap_or(name);
    let cleaned = short.replace('/', "-");
    let candidates = match root.contains("{dataset") {
        true => vec![
            root.replace("{dataset}", short)
                .replace("{dataset_cleaned}", &cleaned),
        ],
        false => [
            name,
            short,
            &format!("wds_{cleaned}"),
            &format!("wds_{cleaned}_test"),
            &cleaned,
        ]
        .iter()
        .map(|name| Path::new(root).join(name).to_string_lossy().into_owned())
        .collect(),
    };
    let found = candidates.iter().find(|path| Path::new(path).exists());
    found.cloned().ok_or_else(|| CliError::Content {
        path: name.into(),
        reason: format!(
            "no such data set: neither a path nor at {}",
            candidates.join(", ")
        ),
    })
}

/// A set of the hub in CLIP_benchmark's layout, which is copied to the root, or to Hugging Face's cache.
fn fetched(name: &str, root: Option<&str>, split: &str) -> Result<String> {
    let own = name
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or(name);
    let folder = match root {
        Some(root) => Path::new(root).join(own),
        None => match std::env::var_os("HOME") {
            Some(home) => Path::new(&home).join(".cache/openclip/datasets").join(own),
            None => {
                return Err(CliError::Usage(format!(
                    "{name}: give --dataset-root, where it is copied to"
                )));
            }
        },
    };
    fetch(name, split, &folder)?;
    Ok(folder.to_string_lossy().into_owned())
}

/// A result for people.
pub fn lines(record: &Record, out: &mut Output) -> Result<()> {
    let Record {
        dataset,
        model,
        pretrained,
        task,
        ..
    } = record;
    out.line(format!("{dataset} {task} {model} {pretrained}").trim_end())?;
    for (name, value) in &record.metrics {
        let value = match value.as_f64() {
            Some(value) if !value.fract().eq(&0.0) || value.abs() <= 1.0 => format!("{value:.4}"),
            _ => value.to_string(),
        };
        let interval = record.intervals.get(name);
        let interval = interval.map(|[low, high]| format!("{low:.4} to {high:.4}"));
        let line = format!("  {name:<28} {value:<10} {}", interval.unwrap_or_default());
        out.line(line.trim_end())?;
    }
    Ok(())
}
