//! A data set, as every form of one is opened.

use std::sync::Arc;

use openclip_data::source::Source;

use super::names::Names;
use crate::error::EvalError;

/// Pictures and what is to be found in them.
pub struct Dataset {
    /// The pictures; the label of each is its number in `targets`.
    pub pictures: Arc<dyn Source>,
    /// How many there are.
    pub len: usize,
    /// What is to be found.
    pub targets: Targets,
}

impl Dataset {
    /// Pictures of one class each.
    pub(super) fn labelled(pictures: Arc<dyn Source>, labels: Vec<usize>, names: Names) -> Self {
        Self {
            len: labels.len(),
            pictures,
            targets: Targets::Labels {
                labels: Labels::One(labels),
                names,
                beside: Vec::new(),
            },
        }
    }
}

/// What is to be found in the pictures of a set, by their numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// Classes.
    Labels {
        /// The class or classes of every picture.
        labels: Labels,
        /// What the classes are called.
        names: Names,
        /// Numbers beside each picture, such as region and year, where the set has them.
        beside: Vec<Vec<f64>>,
    },
    /// The captions of every picture.
    Captions(Vec<Vec<String>>),
    /// Pictures and captions to be matched.
    Choices(Vec<Choice>),
    /// Words, each with the pictures among which some belong to it.
    Cues(Vec<Cue>),
}

/// Classes of pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Labels {
    /// One class each.
    One(Vec<usize>),
    /// Any number of classes each, out of so many.
    Many {
        /// The classes of every picture.
        of_picture: Vec<Vec<usize>>,
        /// How many classes there are.
        classes: usize,
    },
}

impl Labels {
    /// Whether every label is that of one of `classes`; `name` is the set's.
    ///
    /// # Errors
    /// Names the first that is not.
    pub(crate) fn check(&self, name: &str, classes: usize) -> Result<(), EvalError> {
        let problem = match self {
            Self::One(labels) => {
                let mut labels = labels.iter().enumerate();
                let beyond = labels.find(|(_, label)| **label >= classes);
                beyond.map(|(number, label)| {
                    format!(
                        "picture {} has the label {label}, and there are {classes} class names, of labels 0 to {}",
                        number + 1,
                        classes - 1
                    )
                })
            }
            Self::Many { classes: found, .. } => (*found != classes)
                .then(|| format!("labels of {found} classes, and there are {classes} class names")),
        };
        match problem {
            Some(problem) => Err(EvalError::list(name.as_ref(), problem)),
            None => Ok(()),
        }
    }
}

/// A few pictures and captions: the first of one belongs to the first of the other, the second to the second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Numbers of the pictures.
    pub pictures: Vec<usize>,
    /// The captions.
    pub captions: Vec<String>,
}

/// A word and pictures, of which some belong to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cue {
    /// The word.
    pub text: String,
    /// Numbers of the pictures, and whether each belongs to it.
    pub candidates: Vec<(usize, bool)>,
}

impl Targets {
    /// What they are, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Labels { .. } => "classes",
            Self::Captions(_) => "captions",
            Self::Choices(_) => "pictures and captions to be matched",
            Self::Cues(_) => "words with pictures to choose from",
        }
    }
}
