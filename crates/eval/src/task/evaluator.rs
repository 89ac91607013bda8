//! A model that is asked about one set after another.

use std::cell::RefCell;
use std::sync::Arc;

use burn::tensor::Tensor;
use openclip_data::image::Limits;
use openclip_data::tokenizer::Tokenizer;
use openclip_model::generate::GenerateOptions;

use super::kind::Task;
use super::report::Report;
use crate::dataset::{Dataset, Names, Targets};
use crate::eight_bits::Change;
use crate::encode::Encoder;
use crate::error::EvalError;
use crate::head::{HEAD, Head};
use crate::run::zero_shot_classifier;
use crate::zero_shot::Prompts;

/// Captions between two signs of progress.
const TEXTS: usize = 1024;

/// How pictures are loaded.
#[derive(Debug, Clone, Copy)]
pub struct Loading {
    /// Pictures that go through the tower together.
    pub batch_size: usize,
    /// Threads that decode.
    pub workers: usize,
    /// What a picture may cost.
    pub limits: Limits,
    /// Show progress on stderr.
    pub show_progress: bool,
}

/// What a task is told beyond the set.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskOptions {
    /// Every K of Recall@K.
    pub recall_k: Vec<usize>,
    /// How captions are written.
    pub generate: GenerateOptions,
    /// The set whose built-in class names and templates are taken where this one has none; the one of its own name without it.
    pub names: Option<String>,
    /// Another metric of classification.
    pub extra: Option<Extra>,
}

/// A metric of classification beyond CLIP_benchmark's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extra {
    /// F1, averaged over the classes that are there.
    MacroF1 {
        /// What it is called.
        name: String,
    },
    /// The share of pictures that are right in the group where it is lowest.
    Worst {
        /// What it is called.
        name: String,
        /// Which of the numbers beside a picture says its group.
        column: usize,
        /// Among how many classes of the highest scores the right one may be.
        top: usize,
    },
}

impl Default for TaskOptions {
    fn default() -> Self {
        Self {
            recall_k: vec![5],
            generate: GenerateOptions::default(),
            names: None,
            extra: None,
        }
    }
}

/// A model, and what it was asked already.
pub struct Evaluator {
    pub(super) encoder: Encoder,
    /// The same in f32, of a model in 8 bits.
    exact: Option<Encoder>,
    pub(super) tokenizer: Arc<dyn Tokenizer>,
    pub(super) loading: Loading,
    /// The classifier of a fine-tuned model.
    head: Option<Head>,
    /// Weights of the classes, by whether they are of a model in 8 bits, and by their prompts.
    classifiers: RefCell<Vec<(bool, Prompts, Tensor<2>)>>,
}

impl Evaluator {
    /// Of a model and the tokenizer that it was trained with.
    pub fn new(encoder: Encoder, tokenizer: Arc<dyn Tokenizer>, loading: Loading) -> Self {
        Self {
            exact: encoder.exact(),
            encoder,
            tokenizer,
            loading,
            head: None,
            classifiers: RefCell::default(),
        }
    }

    /// The same with the classifier that [`Task::Finetuned`] asks for.
    #[must_use]
    pub fn with_head(self, head: Option<Head>) -> Self {
        Self { head, ..self }
    }

    /// Runs a task, but for [`Task::LinearProbe`], which takes more than one set; `name` is the set's, for messages.
    ///
    /// # Errors
    /// When the set is not made for the task, or cannot be read.
    pub fn run(
        &self,
        task: Task,
        name: &str,
        set: &Dataset,
        options: &TaskOptions,
    ) -> Result<Report, EvalError> {
        match (task, &set.targets) {
            (
                Task::Classification | Task::Finetuned,
                Targets::Labels {
                    labels,
                    names,
                    beside,
                },
            ) => {
                let known = options.names.as_deref().unwrap_or(name);
                let (prompts, own) = match task {
                    Task::Finetuned => {
                        let head = self.finetuned(name, names)?;
                        (head.prompts.clone(), Some(&head.weight))
                    }
                    _ => (prompts(name, names.or_built_in(known)?)?, None),
                };
                labels.check(name, prompts.classes.len())?;
                let weights = |encoder: &Encoder| match own {
                    Some(own) => Ok(own.clone()),
                    None => self.classifier(encoder, name, &prompts),
                };
                let classifier = weights(&self.encoder)?;
                let change = match &self.exact {
                    Some(exact) => Some(Change::new(weights(exact)?, exact.clone())),
                    None => None,
                };
                let extra = options.extra.as_ref().map(|extra| (extra, &beside[..]));
                self.classify(name, set, labels, (classifier, change), extra)
            }
            (Task::Retrieval, Targets::Captions(captions)) => {
                self.retrieve(name, set, captions, &options.recall_k)
            }
            (Task::Selection, targets @ (Targets::Choices(_) | Targets::Captions(_))) => {
                self.select(name, set, targets)
            }
            (Task::Association, Targets::Cues(cues)) => self.associate(name, set, cues),
            (Task::Captioning, Targets::Captions(captions)) => {
                self.caption(name, set, captions, &options.generate)
            }
            _ => Err(EvalError::list(
                name.as_ref(),
                format!(
                    "it has {}, which are nothing for {task}; {} is",
                    set.targets.kind(),
                    Task::of(&set.targets)
                ),
            )),
        }
    }

    /// The classifier by fine-tuning, of the classes that the set has, where it names them.
    fn finetuned(&self, name: &str, names: &Names) -> Result<&Head, EvalError> {
        let Some(head) = &self.head else {
            let problem = format!(
                "the model has no {HEAD} beside its weights, which `openclip finetune` writes and {} needs",
                Task::Finetuned
            );
            return Err(EvalError::list(name.as_ref(), problem));
        };
        if let Some(classes) = &names.classes {
            head.check(classes, name.as_ref())?;
        }
        Ok(head)
    }

    /// Weights of the classes, `[embed_dim, classes]`, by their names; those of the same prompts are made once.
    fn classifier(
        &self,
        encoder: &Encoder,
        name: &str,
        prompts: &Prompts,
    ) -> Result<Tensor<2>, EvalError> {
        let (count, eight_bits) = (prompts.classes.len(), encoder.is_in_8_bits());
        let known = self.classifiers.borrow();
        let is_known = |(bits, known, _): &&_| *bits == eight_bits && known == prompts;
        if let Some((.., weights)) = known.iter().find(is_known) {
            return Ok(weights.clone());
        }
        drop(known);
        let progress = self.progress(&format!("{name}: classes"), count as u64, "classes");
        let tokenizer = self.tokenizer.as_ref();
        let weights = zero_shot_classifier(encoder, tokenizer, prompts, &progress)?;
        progress.finish();
        self.classifiers
            .borrow_mut()
            .push((eight_bits, prompts.clone(), weights.clone()));
        Ok(weights)
    }

    /// Features of captions, `[captions, embed_dim]`, of unit length.
    pub(super) fn captions(&self, name: &str, captions: &[&str]) -> Result<Tensor<2>, EvalError> {
        let progress = self.progress(
            &format!("{name}: captions"),
            captions.len() as u64,
            "captions",
        );
        let mut rows = Vec::new();
        for slice in captions.chunks(TEXTS) {
            rows.push(self.encoder.texts(self.tokenizer.as_ref(), slice)?);
            progress.inc(slice.len() as u64);
        }
        progress.finish();
        match rows.is_empty() {
            true => Err(EvalError::list(name.as_ref(), "there is no caption in it")),
            false => Ok(Tensor::cat(rows, 0)),
        }
    }
}

/// What the classes of the set `name` are asked by.
fn prompts(name: &str, names: Names) -> Result<Prompts, EvalError> {
    let Some(classes) = names.classes else {
        let problem = "needs classnames.txt beside its pictures, one name a line";
        return Err(EvalError::list(name.as_ref(), problem));
    };
    let templates = match names.templates {
        Some(templates) => templates,
        None => {
            log::info!(
                "{name}: no zeroshot_classification_templates.txt; ImageNet's 80 templates are taken"
            );
            Prompts::imagenet()?.templates
        }
    };
    Ok(Prompts {
        classes,
        templates,
        simple_templates: Vec::new(),
    })
}
