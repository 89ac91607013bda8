//! What a command can fail with, as a line on stderr and an exit status.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use openclip_data::error::DataError;
use openclip_eval::EvalError;
use openclip_model::ModelError;
use openclip_model::hub::HubError;
use openclip_train::TrainError;

/// Failure of a command.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// Model, weights or device.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Pictures, captions or data sets.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Evaluation or embedding files.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// Training.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A picture that was asked for by name.
    #[error("{}: {source}", .path.display())]
    Picture {
        /// The picture's file.
        path: PathBuf,
        /// What is wrong with it.
        source: DataError,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A file with other content than it should have.
    #[error("{}: {reason}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong and what was expected.
        reason: String,
    },
    /// An upload that the hub did not take.
    #[error("{source}; the folder stays at {}", .folder.display())]
    Push {
        /// What the hub says.
        source: HubError,
        /// What was to be uploaded.
        folder: PathBuf,
    },
    /// Standard output cannot be written.
    #[error("standard output: {0}")]
    Output(#[source] std::io::Error),
}

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything asked for is done.
    Done,
    /// What could be done is done, and what could not was told.
    Flawed,
    /// Stopped on request, with a checkpoint to go on from.
    Stopped,
}

impl Outcome {
    /// Done, if all was `well`.
    pub fn of(well: bool) -> Self {
        if well { Self::Done } else { Self::Flawed }
    }

    /// The process's exit status.
    pub fn code(self) -> ExitCode {
        match self {
            Self::Done => ExitCode::SUCCESS,
            Self::Flawed => ExitCode::FAILURE,
            Self::Stopped => ExitCode::from(3),
        }
    }
}

/// Result of a command.
pub type Result<T = Outcome> = std::result::Result<T, CliError>;

impl CliError {
    /// A file's error from the operating system.
    pub fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        |source| Self::File {
            path: path.to_path_buf(),
            source,
        }
    }

    /// Whether nobody reads the output any more, which is no failure.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe)
    }

    /// The process's exit status: 2 where another command line is needed, 1 for everything else.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(if self.is_usage() { 2 } else { 1 })
    }

    fn is_usage(&self) -> bool {
        match self {
            Self::Usage(_) => true,
            Self::Model(error) => is_model_usage(error),
            Self::Data(error) => is_data_usage(error),
            Self::Eval(EvalError::Model(error)) => is_model_usage(error),
            Self::Eval(EvalError::Data(error)) => is_data_usage(error),
            Self::Train(TrainError::Flag { .. }) => true,
            Self::Train(TrainError::Model(error)) => is_model_usage(error),
            Self::Train(TrainError::Data(error)) => is_data_usage(error),
            _ => false,
        }
    }

    /// The message with every cause that it does not spell out itself.
    pub fn message(&self) -> String {
        let mut message = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !message.contains(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            cause = error.source();
        }
        message
    }
}

fn is_model_usage(error: &ModelError) -> bool {
    matches!(
        error,
        ModelError::UnknownModel { .. } | ModelError::Device { .. }
    )
}

fn is_data_usage(error: &DataError) -> bool {
    matches!(
        error,
        DataError::CsvSeparator { .. }
            | DataError::DatasetType { .. }
            | DataError::UnknownDataset { .. }
            | DataError::UnsupportedScheme { .. }
            | DataError::Braces { .. }
            | DataError::UpsamplingFactors { .. }
            | DataError::UpsamplingNeedsResampling
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let error = CliError::file(Path::new("a.txt"))(std::io::ErrorKind::NotFound.into());
        assert_eq!(error.message(), "a.txt: entity not found");
    }

    #[test]
    fn only_a_closed_pipe_is_no_failure() {
        let output = |kind: std::io::ErrorKind| CliError::Output(kind.into());
        assert!(output(std::io::ErrorKind::BrokenPipe).is_closed_pipe());
        assert!(!output(std::io::ErrorKind::StorageFull).is_closed_pipe());
    }
}
