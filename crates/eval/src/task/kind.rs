//! What a model is asked to do.

use std::fmt;
use std::str::FromStr;

use crate::dataset::Targets;

/// What a model is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Task {
    /// The class of a picture, from the names of the classes.
    Classification,
    /// The class of a picture, by the classifier that was fine-tuned with the model; ours alone.
    Finetuned,
    /// The picture of a caption among all, and the other way round.
    Retrieval,
    /// The class of a picture, from labelled features.
    LinearProbe,
    /// A caption, by a model that writes them.
    Captioning,
    /// Which caption belongs to which picture, among a few.
    Selection,
    /// Which pictures belong to a word, among a few; DataComp's alone.
    Association,
}

/// Every task under CLIP_benchmark's name.
const NAMES: [(Task, &str); 7] = [
    (Task::Classification, "zeroshot_classification"),
    (Task::Finetuned, "finetuned_classification"),
    (Task::Retrieval, "zeroshot_retrieval"),
    (Task::LinearProbe, "linear_probe"),
    (Task::Captioning, "captioning"),
    (Task::Selection, "image_caption_selection"),
    (Task::Association, "image_association"),
];

impl Task {
    /// The task that a set is made for.
    pub fn of(targets: &Targets) -> Self {
        match targets {
            Targets::Labels { .. } => Self::Classification,
            Targets::Captions(_) => Self::Retrieval,
            Targets::Choices(_) => Self::Selection,
            Targets::Cues(_) => Self::Association,
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
