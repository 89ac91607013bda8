//! What can stop a run.

use std::path::{Path, PathBuf};

use crate::comm::CommError;
use openclip_data::error::DataError;
use openclip_eval::EvalError;
use openclip_model::ModelError;
use openclip_model::weights::WeightsError;

/// Failure of a training run.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// Flags that do not go together.
    #[error("{flag}: {reason}")]
    Flag {
        /// The flag.
        flag: &'static str,
        /// What is wrong and what was expected.
        reason: String,
    },
    /// Model or weights.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Training or validation data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Evaluation.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// Two models between which there is none.
    #[error("{}: {reason}", .path.display())]
    Interpolate {
        /// The second one.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// A checkpoint cannot be written.
    #[error("cannot write checkpoint {}: {source}", .path.display())]
    Checkpoint {
        /// The folder.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A checkpoint to resume from is not whole.
    #[error("{}: not a complete checkpoint: {reason}", .path.display())]
    Incomplete {
        /// The folder or file.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// A file of OpenCLIP's to resume from has another optimizer than the run.
    #[error("{}: cannot go on with its optimizer: {reason}. With --pretrained in place of --resume its weights are the start of a run", .path.display())]
    Optimizer {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// A file of the run folder cannot be written.
    #[error("cannot write {}: {source}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A file of the run folder cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// An object store.
    #[error(transparent)]
    Remote(#[from] crate::remote::RemoteError),
    /// The run folder holds another run.
    #[error("{}: an experiment of this name exists already; choose another --name or pass --resume latest", .0.display())]
    Exists(PathBuf),
    /// Too many steps in a row that were passed over.
    #[error("stopped after {count} bad steps in a row (--max-bad-steps): {reason}; {}", last_good(.checkpoint.as_deref()))]
    BadSteps {
        /// How many.
        count: u64,
        /// What was wrong with the last one.
        reason: &'static str,
        /// Where to go on from.
        checkpoint: Option<PathBuf>,
    },
    /// Weights that give no finite numbers, where the run was to end or stop with a checkpoint.
    #[error("step {step}: the weights give a loss that is not finite and are not saved; {}", last_good(.checkpoint.as_deref()))]
    Diverged {
        /// The step that left them.
        step: u64,
        /// Where to go on from.
        checkpoint: Option<PathBuf>,
    },
    /// The ranks of a run.
    #[error(transparent)]
    Comm(#[from] CommError),
    /// Burn's training loop ended with an error.
    #[error("training stopped: {0}")]
    Learner(String),
}

fn last_good(checkpoint: Option<&Path>) -> String {
    match checkpoint {
        Some(path) => format!("the last good checkpoint is {}", path.display()),
        None => "there is no good checkpoint of this run".into(),
    }
}

impl From<WeightsError> for TrainError {
    fn from(error: WeightsError) -> Self {
        Self::Model(error.into())
    }
}

impl TrainError {
    /// Whether it only says that another rank has ended.
    pub fn is_of_lost_rank(&self) -> bool {
        matches!(self, Self::Comm(CommError::Lost(_)))
    }

    pub(crate) fn incomplete(path: &Path, reason: String) -> Self {
        Self::Incomplete {
            path: path.to_owned(),
            reason,
        }
    }

    pub(crate) fn flag(flag: &'static str, reason: impl Into<String>) -> Self {
        Self::Flag {
            flag,
            reason: reason.into(),
        }
    }
}
