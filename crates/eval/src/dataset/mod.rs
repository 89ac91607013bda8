//! Data sets to evaluate on: pictures in a fixed order, each known by its number, and what is to be found in them.
//!
//! * [`open`] – from a path to a set, by the form that the path has
//! * `folder` – one folder per class
//! * `shards` – tars in CLIP_benchmark's layout, with `npy` for labels of several classes
//! * `table` – CSV files
//! * `rows` – what else `openclip_data` reads: captions of COCO and Flickr, Parquet
//! * `choices` – pictures and captions to be matched: Winoground, SugarCrepe
//! * `names` – what the classes are called, and the templates
//! * `pictures` – the pictures themselves

mod choices;
mod folder;
mod names;
mod npy;
pub mod open;
mod pictures;
mod rows;
mod shards;
mod table;

use std::sync::Arc;

use openclip_data::source::Source;

pub use names::Names;
pub use open::{OpenSet, open};

/// Pictures and what is to be found in them.
pub struct Dataset {
    /// The pictures; the label of each is its number in `targets`.
    pub pictures: Arc<dyn Source>,
    /// How many there are.
    pub len: usize,
    /// What is to be found.
    pub targets: Targets,
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
    },
    /// The captions of every picture.
    Captions(Vec<Vec<String>>),
    /// Pictures and captions to be matched.
    Choices(Vec<Choice>),
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

/// A few pictures and captions: the first of one belongs to the first of the other, the second to the second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Numbers of the pictures.
    pub pictures: Vec<usize>,
    /// The captions.
    pub captions: Vec<String>,
}

impl Targets {
    /// What they are, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Labels { .. } => "classes",
            Self::Captions(_) => "captions",
            Self::Choices(_) => "pictures and captions to be matched",
        }
    }
}
