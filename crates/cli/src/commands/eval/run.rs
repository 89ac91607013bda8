//! Models on sets: each loaded and opened once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use openclip_data::source::open::OpenOptions;
use openclip_data::storage::Place;
use openclip_eval::dataset::{Dataset, OpenSet, open};
use openclip_eval::head::{HEAD, Head};
use openclip_eval::results::Record;
use openclip_eval::task::probe::{ProbeOptions, ProbeSets};
use openclip_eval::task::{Evaluator, Extra, Loading, Report, Task, TaskOptions};
use openclip_model::generate::{GenerateOptions, SpecialTokens};

use crate::args::eval::EvalArgs;
use crate::args::model::ModelArgs;
use crate::commands::session::Session;
use crate::error::{CliError, Result};
use crate::output::{note, warn};

/// A set, and what to do on it.
pub struct Job<'a> {
    /// The name that its result has.
    pub name: &'a str,
    /// Where it is.
    pub place: &'a str,
    /// The task; the set's own without it.
    pub task: Option<Task>,
    /// Every K of Recall@K.
    pub recall_k: Vec<usize>,
    /// The set whose built-in names its classes have, if not its own.
    pub names: Option<String>,
    /// Another metric.
    pub extra: Option<Extra>,
    /// Leave out what is measured already.
    pub resume: bool,
}

/// A result.
pub enum Found {
    /// Measured now.
    New(Record),
    /// There already.
    Known(Record),
    /// The model cannot be loaded, which was told.
    NoModel,
}

/// A loaded model.
pub struct Model {
    evaluator: Evaluator,
    generate: GenerateOptions,
    /// What tells its features from those of other weights.
    identity: String,
}

/// A model that is loaded when it is first wanted; `None` within if it cannot be.
pub type Lazy = Option<Option<Model>>;

/// Every model on every set.
pub struct Run<'a> {
    args: &'a EvalArgs,
    options: OpenOptions,
    /// The sets that were opened, by name and part.
    sets: HashMap<(String, String), Rc<Dataset>>,
    /// The files that were written, and the set of each.
    written: HashMap<PathBuf, String>,
    /// Whether all went well.
    pub well: bool,
}

impl<'a> Run<'a> {
    /// Nothing is opened yet.
    pub fn new(args: &'a EvalArgs) -> Self {
        Self {
            args,
            options: args.format.options(None),
            sets: HashMap::new(),
            written: HashMap::new(),
            well: true,
        }
    }

    /// One model on one set; the result is written where --output says.
    pub fn one(&mut self, model: &ModelArgs, loaded: &mut Lazy, job: &Job<'_>) -> Result<Found> {
        let sets = &self.args.sets;
        let record = |task: Task| Record {
            dataset: job.name.to_owned(),
            model: model.model.clone(),
            pretrained: model.pretrained.clone().unwrap_or_default(),
            task: task.name().to_owned(),
            metrics: Default::default(),
            language: sets.language.clone(),
            intervals: Default::default(),
        };
        let known = |task: Option<Task>| self.known(job, &record(task?));
        if let Some(known) = known(job.task) {
            return Ok(Found::Known(known));
        }
        let set = self.set(job.place, &sets.split)?;
        let task = job.task.unwrap_or_else(|| Task::of(&set.targets));
        let mut record = record(task);
        if job.task.is_none()
            && let Some(known) = self.known(job, &record)
        {
            return Ok(Found::Known(known));
        }
        let path = sets.output.as_ref().map(|output| record.path(output));
        if let Some(path) = &path
            && let Some(other) = self.written.get(path)
        {
            return Err(CliError::Content {
                path: path.clone(),
                reason: format!(
                    "the result of {other}, and {} has the same file; measure it into another folder",
                    job.name
                ),
            });
        }
        let Some(loaded) = self.load(model, loaded)? else {
            return Ok(Found::NoModel);
        };
        let report = match task {
            Task::LinearProbe => self.probe(loaded, &record, job.place, &set)?,
            task => {
                let options = TaskOptions {
                    recall_k: job.recall_k.clone(),
                    generate: loaded.generate.clone(),
                    names: job.names.clone(),
                    extra: job.extra.clone(),
                };
                loaded.evaluator.run(task, job.name, &set, &options)?
            }
        };
        self.well &= report.is_finite;
        record.metrics = report.metrics;
        record.intervals = report.intervals;
        if let Some(path) = path {
            record.write(&path)?;
            self.written.insert(path, job.name.to_owned());
        }
        Ok(Found::New(record))
    }

    /// The result, if it is there and that is to be looked for. Half of one is none.
    fn known(&self, job: &Job<'_>, record: &Record) -> Option<Record> {
        let output = self.args.sets.output.as_ref().filter(|_| job.resume)?;
        let path = record.path(output);
        if !path.exists() {
            return None;
        }
        match Record::read(&path) {
            Ok(known) => {
                note(format!("{}: is there, and left out", path.display()));
                Some(known)
            }
            Err(fault) => {
                warn(format!("{fault}; it is measured again"));
                None
            }
        }
    }

    /// The linear probe.
    fn probe(
        &mut self,
        loaded: &Model,
        record: &Record,
        place: &str,
        test: &Dataset,
    ) -> Result<Report> {
        let (sets, name) = (&self.args.sets, &record.dataset);
        let train = self.set(place, &sets.train_split)?;
        let val = sets
            .val_split
            .as_deref()
            .map(|split| self.set(place, split));
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
    fn set(&mut self, place: &str, split: &str) -> Result<Rc<Dataset>> {
        let key = (place.to_owned(), split.to_owned());
        if let Some(set) = self.sets.get(&key) {
            return Ok(Rc::clone(set));
        }
        let set = Rc::new(open(&OpenSet {
            place,
            split,
            options: &self.options,
        })?);
        self.sets.insert(key, Rc::clone(&set));
        Ok(set)
    }

    /// The model, loaded once.
    fn load<'m>(&mut self, model: &ModelArgs, loaded: &'m mut Lazy) -> Result<Option<&'m Model>> {
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
            let head = weights.map(|path| Head::beside(path, &encoder.device));
            let head = head.transpose()?.flatten();
            if head.is_some() && self.args.sets.task.0 != Some(Task::Finetuned) {
                note(format!(
                    "the {HEAD} beside the weights is for --task {} alone; class names say the classes here",
                    Task::Finetuned
                ));
            }
            *loaded = Some(Some(Model {
                identity,
                generate: GenerateOptions {
                    special: SpecialTokens::of(&session.loaded.config)?,
                    ..GenerateOptions::default()
                },
                evaluator: Evaluator::new(encoder, session.tokenizer()?, loading).with_head(head),
            }));
        }
        Ok(loaded.as_ref().and_then(Option::as_ref))
    }
}
