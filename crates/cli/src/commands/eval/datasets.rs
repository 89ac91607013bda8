//! CLIP_benchmark's tasks: every model on every set, a result for each.

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use openclip_data::source::open::OpenOptions;
use openclip_data::storage::Place;
use openclip_eval::dataset::{Dataset, OpenSet, open};
use openclip_eval::lines::read_labels;
use openclip_eval::results::Record;
use openclip_eval::task::probe::{ProbeOptions, ProbeSets};
use openclip_eval::task::{Evaluator, Loading, Report, Task, TaskOptions};
use openclip_model::generate::{GenerateOptions, SpecialTokens};

use crate::args::eval::{EvalArgs, SetArgs};
use crate::args::model::ModelArgs;
use crate::commands::session::Session;
use crate::error::{CliError, Outcome, Result};
use crate::output::{Output, Records, error, note, warn};

/// Prints and writes what was measured. What fails is told, and the rest goes on.
pub fn run(args: &EvalArgs) -> Result {
    let models = args.models.each()?;
    let names = names(&args.sets.dataset)?;
    let mut run = Run {
        args,
        options: args.format.options(None),
        sets: HashMap::new(),
        out: Records::stdout(args.json.json),
        well: true,
    };
    for model in &models {
        let mut loaded = None;
        for name in &names {
            if let Err(fault) = run.one(model, &mut loaded, name) {
                if fault.is_closed_pipe() {
                    return Err(fault);
                }
                run.well = false;
                error(fault.message());
            }
        }
    }
    run.out.finish()?;
    Ok(Outcome::of(run.well))
}

/// A loaded model.
struct Model {
    evaluator: Evaluator,
    generate: GenerateOptions,
    /// What tells its features from those of other weights.
    identity: String,
}

/// A model that is loaded when it is first wanted; `None` within if it cannot be.
type Lazy = Option<Option<Model>>;

struct Run<'a> {
    args: &'a EvalArgs,
    options: OpenOptions,
    /// The sets that were opened, by name and part.
    sets: HashMap<(String, String), Rc<Dataset>>,
    out: Records,
    well: bool,
}

impl Run<'_> {
    /// One model on one set.
    fn one(&mut self, model: &ModelArgs, loaded: &mut Lazy, name: &str) -> Result<()> {
        let sets = &self.args.sets;
        let record = |task: Task| Record {
            dataset: name.to_owned(),
            model: model.model.clone(),
            pretrained: model.pretrained.clone().unwrap_or_default(),
            task: task.name().to_owned(),
            metrics: Default::default(),
            language: sets.language.clone(),
            intervals: Default::default(),
        };
        if sets.task.0.is_some_and(|task| is_done(sets, &record(task))) {
            return Ok(());
        }
        let set = self.set(name, &sets.split)?;
        let task = sets.task.0.unwrap_or_else(|| Task::of(&set.targets));
        let mut record = record(task);
        if sets.task.0.is_none() && is_done(sets, &record) {
            return Ok(());
        }
        let Some(loaded) = self.load(model, loaded)? else {
            return Ok(());
        };
        let report = match task {
            Task::LinearProbe => self.probe(loaded, &record, &set)?,
            task => {
                let options = TaskOptions {
                    recall_k: sets.recall_k.clone(),
                    generate: loaded.generate.clone(),
                };
                loaded.evaluator.run(task, name, &set, &options)?
            }
        };
        self.well &= report.is_finite;
        record.metrics = report.metrics;
        record.intervals = report.intervals;
        if let Some(output) = &sets.output {
            record.write(&record.path(output))?;
        }
        self.out.write(&record, lines)
    }

    /// The linear probe.
    fn probe(&mut self, loaded: &Model, record: &Record, test: &Dataset) -> Result<Report> {
        let (sets, name) = (&self.args.sets, &record.dataset);
        let train = self.set(name, &sets.train_split)?;
        let val = sets.val_split.as_deref().map(|split| self.set(name, split));
        let val = val.transpose()?;
        let root = match (&sets.feature_root, &sets.output) {
            (Some(root), _) => Some(root.clone()),
            (None, Some(output)) if !output.ends_with(".json") => {
                Some(Path::new(output).join("features"))
            }
            _ => None,
        };
        let folder = format!("{}-{}-{name}", record.model, record.pretrained).replace('/', "_");
        let options = ProbeOptions {
            fewshot_k: sets.fewshot_k.0,
            val_proportion: sets.val_proportion,
            lr: sets.fewshot_lr,
            epochs: sets.fewshot_epochs,
            seed: sets.seed,
            features: root.map(|root| (root.join(folder), loaded.identity.clone())),
        };
        let parts = ProbeSets {
            train: &train,
            val: val.as_deref(),
            test,
        };
        Ok(loaded.evaluator.probe(name, &parts, &options)?)
    }

    /// A part of a set, opened once.
    fn set(&mut self, name: &str, split: &str) -> Result<Rc<Dataset>> {
        let key = (name.to_owned(), split.to_owned());
        if let Some(set) = self.sets.get(&key) {
            return Ok(Rc::clone(set));
        }
        let place = place(name, self.args.sets.dataset_root.as_deref())?;
        let set = Rc::new(open(&OpenSet {
            place: &place,
            split,
            options: &self.options,
        })?);
        self.sets.insert(key, Rc::clone(&set));
        Ok(set)
    }

    /// The model, loaded once.
    fn load<'a>(&mut self, model: &ModelArgs, loaded: &'a mut Lazy) -> Result<Option<&'a Model>> {
        if loaded.is_none() {
            *loaded = Some(None);
            let args = self.args;
            let session = Session::open(model, &args.preprocess, 0)?;
            self.well &= session.is_finite;
            let loading = Loading {
                batch_size: args.loader.batch_size,
                workers: args.loader.workers,
                limits: args.pictures.limits(),
                show_progress: true,
            };
            let encoder = session.encoder();
            let weights = model.pretrained.as_deref().map(Path::new);
            let version = weights.and_then(|path| Place::File(path.to_owned()).version());
            let identity = format!(
                "{} {:?} {version:?}, {:?} {:?} {:?}",
                model.model,
                model.pretrained,
                encoder.image_size,
                encoder.preprocess,
                encoder.dtype
            );
            *loaded = Some(Some(Model {
                identity,
                generate: GenerateOptions {
                    special: SpecialTokens::of(&session.loaded.config)?,
                    ..GenerateOptions::default()
                },
                evaluator: Evaluator::new(encoder, session.tokenizer()?, loading),
            }));
        }
        Ok(loaded.as_ref().and_then(Option::as_ref))
    }
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
fn place(name: &str, root: Option<&str>) -> Result<String> {
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

/// Whether a result is to be left out since it is there. Half of one is none.
fn is_done(sets: &SetArgs, record: &Record) -> bool {
    let Some(output) = sets.output.as_ref().filter(|_| sets.skip_existing) else {
        return false;
    };
    let path = record.path(output);
    if !path.exists() {
        return false;
    }
    match Record::read(&path) {
        Ok(_) => {
            note(format!("{}: is there, and left out", path.display()));
            true
        }
        Err(fault) => {
            warn(format!("{fault}; it is measured again"));
            false
        }
    }
}

fn lines(record: &Record, out: &mut Output) -> Result<()> {
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
