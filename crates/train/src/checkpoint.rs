//! Checkpoints that are whole or not there.
//!
//! A checkpoint is a folder with `model.safetensors` and `open_clip_config.json` (so that it is a `local-dir:` of its own),
//! `optimizer.bpk` and, written last, `state.json` with the counters and a checksum of each file. The folder is filled
//! under a name that starts with a dot and renamed once everything is on disk; a folder without `state.json`, or with
//! one that does not fit, is never resumed from.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use burn::optim::OptimizerRecord;
use openclip_model::factory::{self, Loaded};
use openclip_model::registry::HUB_CONFIG;
use serde::{Deserialize, Serialize};

use crate::TrainError;

/// File that holds the weights.
pub const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.bpk";
const STATE: &str = "state.json";

/// Where a run stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Completed epochs.
    pub epoch: u64,
    /// Optimizer steps of the whole run.
    pub step: u64,
    /// Optimizer steps of the current epoch.
    pub step_in_epoch: u64,
    /// Items of the source used in the current epoch.
    pub cursor: u64,
    /// Samples trained on.
    pub samples_seen: u64,
    /// What `cursor` is on every rank, in their order; set when a checkpoint is saved.
    #[serde(default)]
    pub cursors: Vec<u64>,
}

impl Progress {
    /// The same where `rank` of `world_size` ranks goes on.
    ///
    /// Samples that are numbered go to the ranks in turns. Where another number of ranks shares what is left of an epoch, they
    /// go on behind the samples that all former ranks together have used.
    pub fn of_rank(&self, rank: usize, world_size: usize) -> Self {
        let used = match self.cursors.as_slice() {
            [] => self.cursor,
            cursors => cursors.iter().sum(),
        };
        let turns = used.saturating_sub(rank as u64).div_ceil(world_size as u64);
        let cursor = match self.cursors.len() == world_size {
            true => self.cursors.get(rank).copied().unwrap_or(turns),
            false => turns,
        };
        Self {
            cursor,
            ..self.clone()
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct State {
    #[serde(flatten)]
    progress: Progress,
    files: Vec<FileEntry>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct FileEntry {
    name: String,
    bytes: u64,
    crc32: u32,
}

/// A complete checkpoint.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// The folder.
    pub path: PathBuf,
    /// Where the run stood.
    pub progress: Progress,
}

/// Writes `dir/name`, replacing one of that name, and returns its path.
pub fn save(
    dir: &Path,
    name: &str,
    model: &Loaded,
    optimizer: Option<OptimizerRecord>,
    progress: &Progress,
) -> Result<PathBuf, TrainError> {
    let (scratch, path) = (dir.join(format!(".{name}.tmp")), dir.join(name));
    let failed = |source| TrainError::Checkpoint {
        path: path.clone(),
        source,
    };
    remove(&scratch).map_err(failed)?;
    fs::create_dir_all(&scratch).map_err(failed)?;
    model.save(&scratch.join(MODEL))?;
    let hub = factory::hub_config(&model.config, &model.preprocess);
    fs::write(scratch.join(HUB_CONFIG), format!("{hub:#}")).map_err(failed)?;
    let mut names = vec![MODEL, HUB_CONFIG];
    if let Some(optimizer) = optimizer {
        let save = optimizer.save(scratch.join(OPTIMIZER));
        save.map_err(|error| failed(io::Error::other(error.to_string())))?;
        names.push(OPTIMIZER);
    }
    let write = || -> io::Result<()> {
        let files = names
            .iter()
            .map(|name| seal(&scratch, name))
            .collect::<io::Result<_>>()?;
        let state = State {
            progress: progress.clone(),
            files,
        };
        fs::write(scratch.join(STATE), serde_json::to_vec_pretty(&state)?)?;
        File::open(scratch.join(STATE))?.sync_all()?;
        File::open(&scratch)?.sync_all()?;
        remove(&path)?;
        fs::rename(&scratch, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(failed)?;
    Ok(path)
}

/// The complete checkpoint in `dir` that got furthest, if there is any; incomplete ones are passed over.
pub fn latest(dir: &Path) -> Option<Checkpoint> {
    let entries = fs::read_dir(dir).ok()?.flatten();
    entries
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
        .filter_map(|entry| open(&entry.path()).ok())
        .max_by_key(|checkpoint| (checkpoint.progress.step, checkpoint.progress.epoch))
}

/// Reads and verifies a checkpoint folder.
pub fn open(path: &Path) -> Result<Checkpoint, TrainError> {
    let incomplete = |reason: String| TrainError::Incomplete {
        path: path.to_path_buf(),
        reason,
    };
    let json =
        fs::read(path.join(STATE)).map_err(|error| incomplete(format!("{STATE}: {error}")))?;
    let state: State =
        serde_json::from_slice(&json).map_err(|error| incomplete(format!("{STATE}: {error}")))?;
    for file in &state.files {
        let found = measure(path, &file.name)
            .map_err(|error| incomplete(format!("{}: {error}", file.name)))?;
        if found != *file {
            return Err(incomplete(format!(
                "{} does not have its checksum",
                file.name
            )));
        }
    }
    Ok(Checkpoint {
        path: path.to_path_buf(),
        progress: state.progress,
    })
}

/// The optimizer's state, if the checkpoint folder `path` has one.
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

/// Forces a file to disk and measures it.
fn seal(dir: &Path, name: &str) -> io::Result<FileEntry> {
    File::open(dir.join(name))?.sync_all()?;
    measure(dir, name)
}

fn measure(dir: &Path, name: &str) -> io::Result<FileEntry> {
    let mut file = File::open(dir.join(name))?;
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
    }
    Ok(FileEntry {
        name: name.into(),
        bytes,
        crc32: hasher.finalize(),
    })
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
