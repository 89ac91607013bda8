//! What can go wrong while evaluating, and where.

use std::path::{Path, PathBuf};

/// An error of this crate; each variant names the file, row or value at fault and what was expected.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// A file or directory could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A JSON file is malformed.
    #[error("{}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Line, column and cause.
        source: serde_json::Error,
    },
    /// A parquet file could not be written.
    #[error("{}: {source}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The writer's answer.
        source: parquet::errors::ParquetError,
    },
    /// Embedding rows do not have the promised shape.
    #[error("{values} values are not {rows} rows of width {width}")]
    Rows {
        /// Number of values given.
        values: usize,
        /// Number of names or captions given with them.
        rows: usize,
        /// Width of a row.
        width: usize,
    },
    /// Rows of a kind that the writer was not created for.
    #[error("this embedding writer was created without {kind}")]
    UnexpectedRows {
        /// `images` or `texts`.
        kind: &'static str,
    },
    /// A folder that has the files of an earlier run.
    #[error(
        "{}: holds embeddings of an earlier run ({}); give another folder, or --overwrite to replace them",
        dir.display(),
        found
    )]
    Taken {
        /// The folder.
        dir: PathBuf,
        /// The first file found, within it, or what they were made with.
        found: String,
    },
    /// A folder that other processes write to.
    #[error(
        "{}: another process writes embeddings there; wait for it (--overwrite needs the folder for itself)",
        dir.display()
    )]
    Busy {
        /// The folder.
        dir: PathBuf,
    },
    /// An array that cannot be read, or does not fit others.
    #[error("{}: {reason}", path.display())]
    Array {
        /// The file.
        path: PathBuf,
        /// What is wrong and what was expected.
        reason: String,
    },
    /// An index that cannot be used.
    #[error("{}: {reason}; `openclip index` makes it anew", path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Metadata that do not fit the vectors beside them.
    #[error("{}: {reason}", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// A folder that has no vectors, or not those that are wanted.
    #[error("{}: {reason}", dir.display())]
    Embeddings {
        /// The folder.
        dir: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// A condition on a column that is not there.
    #[error("--filter {filter}: no such column in the metadata; there are {columns}")]
    Filter {
        /// The condition.
        filter: String,
        /// The columns that are there.
        columns: String,
    },
    /// A data set, or a list of class names or templates, is not usable.
    #[error("{}: {problem}", path.display())]
    List {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// A set without a single sample.
    #[error("nothing to evaluate: the validation data has no sample")]
    NoSamples,
    /// A set of which no picture can be used.
    #[error("{set}: no picture can be used{problems}")]
    Unusable {
        /// What is read.
        set: String,
        /// What is wrong with its samples, behind a colon; nothing for an empty set.
        problems: String,
    },
    /// The device did not hand back a result.
    #[error("the device failed: {0}")]
    Device(String),
    /// Data that cannot be read.
    #[error(transparent)]
    Data(#[from] openclip_data::error::DataError),
    /// A model that cannot be built.
    #[error(transparent)]
    Model(#[from] openclip_model::ModelError),
}

impl EvalError {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn list(path: &Path, problem: impl Into<String>) -> Self {
        Self::List {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }
}
