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
        found.display()
    )]
    Taken {
        /// The folder.
        dir: PathBuf,
        /// The first file found, within it.
        found: PathBuf,
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
