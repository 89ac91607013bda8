//! The newest checkpoint that is whole.

use std::fs;
use std::path::{Path, PathBuf};

use burn::optim::OptimizerRecord;

use super::layout::OPTIMIZER;
use super::progress::Progress;
use super::state::{FileEntry, State};
use crate::TrainError;

/// A complete checkpoint.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// The folder.
    pub path: PathBuf,
    /// Where the run stood.
    pub progress: Progress,
}

/// What a look into a folder of checkpoints brought.
#[derive(Debug, Default)]
pub struct Found {
    /// The complete checkpoint that got furthest.
    pub checkpoint: Option<Checkpoint>,
    /// What got further, or might have, and is not whole.
    pub passed_over: Vec<TrainError>,
}

/// The complete checkpoint in `dir` that got furthest, and which ones were passed over for it.
pub fn latest(dir: &Path) -> Found {
    let mut found = Found::default();
    let mut candidates = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with('.') || !entry.path().is_dir() {
            continue;
        }
        match State::read(&entry.path()) {
            Ok(state) => candidates.push((state.progress.step, entry.path())),
            Err(error) => found.passed_over.push(error),
        }
    }
    candidates.sort();
    // The checksums of large files take their time: only those that count are looked at.
    for (_, path) in candidates.into_iter().rev() {
        match open(&path) {
            Ok(checkpoint) => {
                found.checkpoint = Some(checkpoint);
                break;
            }
            Err(error) => found.passed_over.push(error),
        }
    }
    found
}

/// Reads and verifies a checkpoint folder.
///
/// # Errors
/// [`TrainError::Incomplete`], naming what is missing or damaged.
pub fn open(path: &Path) -> Result<Checkpoint, TrainError> {
    let State {
        progress, files, ..
    } = State::read(path)?;
    for file in &files {
        let found = FileEntry::measure(path, &file.name)
            .map_err(|error| TrainError::incomplete(path, format!("{}: {error}", file.name)))?;
        if found != *file {
            let reason = format!("{} does not have its checksum", file.name);
            return Err(TrainError::incomplete(path, reason));
        }
    }
    Ok(Checkpoint {
        path: path.to_path_buf(),
        progress,
    })
}

/// The optimizer's state, if the checkpoint folder `path` has one.
///
/// # Errors
/// [`TrainError::Incomplete`] when the file cannot be read.
pub fn optimizer(path: &Path) -> Result<Option<OptimizerRecord>, TrainError> {
    let path = path.join(OPTIMIZER);
    if !path.exists() {
        return Ok(None);
    }
    let record = OptimizerRecord::load(&path);
    record.map(Some).map_err(|error| TrainError::Incomplete {
        path,
        reason: error.to_string(),
    })
}
