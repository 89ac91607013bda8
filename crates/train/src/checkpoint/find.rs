//! The newest checkpoint that is whole.

use std::fs;
use std::path::{Path, PathBuf};

use burn::optim::OptimizerRecord;
use openclip_model::weights::TrainingCheckpoint;

use super::layout::OPTIMIZER;
use super::progress::Progress;
use super::state::{FileEntry, State};
use crate::TrainError;

/// A complete checkpoint.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// The folder, or a file of OpenCLIP's.
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

/// The complete checkpoint in `dir` that got furthest, and which ones were passed over for it. OpenCLIP's files
/// (`epoch_K.pt`, `epoch_latest.pt`) are among them; they count epochs alone.
pub fn latest(dir: &Path) -> Found {
    let mut found = Found::default();
    let mut candidates = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let name = name.to_string_lossy();
        let progress = match path.is_dir() {
            _ if name.starts_with('.') => continue,
            true => State::read(&path).map(|state| Some(state.progress)),
            false if name.starts_with("epoch_") && name.ends_with(".pt") => in_file(&path),
            false => continue,
        };
        match progress {
            Ok(Some(progress)) => candidates.push((progress.reached(), path, progress)),
            Ok(None) => found.passed_over.push(TrainError::incomplete(
                &path,
                "it is no training checkpoint of OpenCLIP".into(),
            )),
            Err(error) => found.passed_over.push(error),
        }
    }
    candidates.sort_by(|(a, path, _), (b, other, _)| (a, path).cmp(&(b, other)));
    // The checksums of large files take their time: only those that count are looked at.
    for (_, path, progress) in candidates.into_iter().rev() {
        let opened = match path.is_dir() {
            true => open(&path),
            false => Ok(Checkpoint { path, progress }),
        };
        match opened {
            Ok(checkpoint) => {
                found.checkpoint = Some(checkpoint);
                break;
            }
            Err(error) => found.passed_over.push(error),
        }
    }
    found
}

/// Where OpenCLIP's run stood when it wrote the file `path`; nothing if it is no training checkpoint.
fn in_file(path: &Path) -> Result<Option<Progress>, TrainError> {
    let found = TrainingCheckpoint::open(path)?;
    Ok(found.map(|TrainingCheckpoint { epoch, .. }| Progress {
        epoch,
        ..Progress::default()
    }))
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
