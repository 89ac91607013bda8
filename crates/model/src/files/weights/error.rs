//! What can be wrong with a weights file.

use std::fmt;
use std::path::{Path, PathBuf};

/// Failure to read, convert, fit or write weights. Every variant names the file, and the key or byte where there is one.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The operating system refused.
    #[error("{}: {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The content is none of the formats that are read.
    #[error("{}: {reason}; expected .safetensors, a PyTorch .pt/.bin, or big_vision's .npz", .file.display())]
    Unrecognised {
        /// The file.
        file: PathBuf,
        /// What the file looks like.
        reason: String,
    },
    /// A set of files that is not whole.
    #[error("{}: of {of} shards, {} {} missing from its folder", .file.display(), .missing.join(", "), if .missing.len() == 1 { "is" } else { "are" })]
    MissingShards {
        /// The index, or the shard that was named.
        file: PathBuf,
        /// Names of the files that are not there.
        missing: Vec<String>,
        /// How many there should be.
        of: usize,
    },
    /// A training checkpoint has no such part.
    #[error("{}: no `{entry}` in it; its keys begin with {}", .file.display(), listed(.entries))]
    NoEntry {
        /// The file.
        file: PathBuf,
        /// As given.
        entry: String,
        /// First parts of the keys.
        entries: Vec<String>,
    },
    /// Several parts of a file are such a model.
    #[error(
        "{}: {}{} would fit: name one, as in {}:{}",
        .file.display(),
        if *.bare { "the keys as they are and those under " } else { "" },
        listed(.prefixes),
        .file.display(),
        .prefixes.first().map(String::as_str).unwrap_or_default()
    )]
    Ambiguous {
        /// The file.
        file: PathBuf,
        /// Beginnings of the keys.
        prefixes: Vec<String>,
        /// So would the keys without one of them.
        bare: bool,
    },
    /// Weights of something else than a whole model.
    #[error("{}: {what}", .file.display())]
    NoWholeModel {
        /// The file.
        file: PathBuf,
        /// What it is, and what to do.
        what: String,
    },
    /// A NumPy file that is none of big_vision's checkpoints.
    #[error("{}: of NumPy's files, big_vision's SigLIP checkpoints are read: .npz archives with `img/embedding/kernel` in them", .file.display())]
    Numpy {
        /// The file.
        file: PathBuf,
    },
    /// The container (zip directory, safetensors header, legacy storage table) contradicts itself or the file's size.
    #[error("{}: {part}: {reason}", .file.display())]
    Container {
        /// The file.
        file: PathBuf,
        /// Member or part of the container.
        part: String,
        /// What is wrong and what was expected.
        reason: String,
    },
    /// A pickle is damaged, or uses what no state dict needs.
    #[error("{}: pickle, byte {offset}: {reason}", .file.display())]
    Pickle {
        /// The file.
        file: PathBuf,
        /// Byte of the instruction within the pickle.
        offset: usize,
        /// What is wrong and what was expected.
        reason: String,
    },
    /// A pickle wants to import something that reaches the system. Nothing was executed.
    #[error(
        "{}: pickle, byte {offset}: refused to load `{global}`: it is not part of a state dict, and running it could do anything",
        .file.display()
    )]
    ForbiddenGlobal {
        /// The file.
        file: PathBuf,
        /// Byte of the instruction within the pickle.
        offset: usize,
        /// `module.name` as the pickle spells it.
        global: String,
    },
    /// The file is sound but holds no state dict where one is looked for.
    #[error("{}: no state dict: expected tensors by name at the top or under `state_dict`, found {found}", .file.display())]
    NoStateDict {
        /// The file.
        file: PathBuf,
        /// What was found instead.
        found: String,
    },
    /// One tensor cannot be used.
    #[error("{}: tensor `{key}`: {reason}", .file.display())]
    Tensor {
        /// The file; empty for a tensor that lives in memory.
        file: PathBuf,
        /// Its key.
        key: String,
        /// What is wrong and what was expected.
        reason: String,
    },
    /// A positional embedding cannot be fitted to the model.
    #[error("positional embedding {old:?} → {new:?}: {reason}")]
    Resize {
        /// Shape in the file.
        old: Vec<usize>,
        /// Target grid or length.
        new: Vec<usize>,
        /// What is wrong and what was expected.
        reason: String,
    },
    /// The tensors of a file are not those of the model.
    #[error("{}: {}", .file.display(), .difference)]
    Mismatch {
        /// The file.
        file: PathBuf,
        /// What differs.
        difference: Box<Difference>,
    },
}

/// Names in a row.
fn listed(names: &[String]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        None => "nothing".into(),
        Some((last, [])) => last.clone(),
        Some((last, first)) => format!("{} and {last}", first.join(", ")),
    }
}

/// How the tensors of a file differ from those of a model.
#[derive(Debug, Default)]
pub struct Difference {
    /// Parts that are of another family in the file than in the model.
    pub families: Vec<OtherFamily>,
    /// Keys the model has and the file lacks.
    pub missing: Vec<String>,
    /// Keys the file has and the model lacks.
    pub unexpected: Vec<String>,
    /// `(key, shape in the model, shape in the file)`.
    pub shapes: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl Difference {
    /// Whether the file has every tensor of the model, in its shape, and no other; `families` are looked for where it has not.
    ///
    /// # Errors
    /// [`WeightsError::Mismatch`] of `file`.
    pub(crate) fn checked(
        mut self,
        file: &Path,
        families: impl FnOnce() -> Vec<OtherFamily>,
    ) -> Result<(), WeightsError> {
        if self.missing.is_empty() && self.unexpected.is_empty() && self.shapes.is_empty() {
            return Ok(());
        }
        self.families = families();
        Err(WeightsError::Mismatch {
            file: file.to_path_buf(),
            difference: Box::new(self),
        })
    }
}

impl WeightsError {
    /// The same of a tensor that came from `file`, which it names if it names none.
    pub(crate) fn in_file(mut self, path: &Path) -> Self {
        if let Self::Tensor { file, .. } = &mut self
            && file.as_os_str().is_empty()
        {
            *file = path.to_path_buf();
        }
        self
    }

    /// The same of a tensor under `key`, which it names if it names none.
    pub(crate) fn in_tensor(mut self, name: &str) -> Self {
        if let Self::Tensor { key, .. } = &mut self
            && key.is_empty()
        {
            *key = name.to_string();
        }
        self
    }

    pub(super) fn container(
        file: impl Into<PathBuf>,
        part: &str,
        reason: impl Into<String>,
    ) -> Self {
        Self::Container {
            file: file.into(),
            part: part.to_string(),
            reason: reason.into(),
        }
    }
}

/// The families, then every key, one a line.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for family in &self.families {
            write!(f, "{family}")?;
        }
        write!(
            f,
            "the weights do not fit the model: {} missing, {} unexpected, {} of another shape",
            self.missing.len(),
            self.unexpected.len(),
            self.shapes.len()
        )?;
        for key in &self.missing {
            write!(f, "\n  missing     {key}")?;
        }
        for key in &self.unexpected {
            write!(f, "\n  unexpected  {key}")?;
        }
        for (key, expected, found) in &self.shapes {
            write!(
                f,
                "\n  shape       {key}: the model has {expected:?}, the file {found:?}"
            )?;
        }
        Ok(())
    }
}

/// A part of a model that has families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `visual.`
    Image,
    /// Under `text.`, at the root, or the keys of a text encoder that was published alone.
    Text,
    /// `text_decoder.`
    Captions,
}

impl Part {
    /// Whether a key of a state dict belongs to this part.
    pub fn owns(self, key: &str) -> bool {
        match self {
            Self::Image => key.starts_with("visual."),
            Self::Captions => key.starts_with("text_decoder."),
            Self::Text => {
                let others = ["logit_", "visual.", "text_decoder."];
                !others.iter().any(|other| key.starts_with(other))
            }
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Image => "image tower",
            Self::Text => "text tower",
            Self::Captions => "caption decoder",
        })
    }
}

/// A part that is of one family in a weights file and of another in the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherFamily {
    /// The part.
    pub part: Part,
    /// Its family in the file.
    pub found: &'static str,
    /// Its family in the model.
    pub expected: &'static str,
}

impl fmt::Display for OtherFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            part,
            found,
            expected,
        } = self;
        write!(f, "its {part} is {found}, the model's is {expected}; ")
    }
}
