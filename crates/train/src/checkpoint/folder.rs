//! Writing one checkpoint folder, and giving its files a second name.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use burn::optim::OptimizerRecord;
use openclip_model::factory::{self, Loaded};
use openclip_model::registry::HUB_CONFIG;

use super::{EMA, FileEntry, MODEL, Metric, OPTIMIZER, Progress, STATE, State};
use crate::TrainError;

/// Everything that a run needs to go on from one of its steps. Burn's tensors never change, so that a snapshot costs no
/// copy of the weights and stays what it is while the run goes on.
#[derive(Debug)]
pub struct Snapshot {
    /// Weights, configuration, preprocessing.
    pub model: Loaded,
    /// The same with the average of the weights, where there is one.
    pub average: Option<Loaded>,
    /// State of the optimizer.
    pub optimizer: Option<OptimizerRecord>,
    /// Counters.
    pub progress: Progress,
}

impl Snapshot {
    /// Writes `dir/name`, replacing one of that name, and returns its path.
    ///
    /// # Errors
    /// When the files cannot be written; what was there before is then untouched.
    pub fn write(
        self,
        dir: &Path,
        name: &str,
        metric: Option<Metric>,
    ) -> Result<PathBuf, TrainError> {
        let Self {
            model,
            average,
            optimizer,
            progress,
        } = self;
        fill(dir, name, |scratch| {
            model.save(&scratch.join(MODEL))?;
            let hub = factory::hub_config(&model.config, &model.preprocess);
            let failed = |source| failed(&dir.join(name), source);
            fs::write(scratch.join(HUB_CONFIG), format!("{hub:#}")).map_err(failed)?;
            let mut names = vec![MODEL, HUB_CONFIG];
            if let Some(average) = average {
                average.save(&scratch.join(EMA))?;
                names.push(EMA);
            }
            if let Some(optimizer) = optimizer {
                let save = optimizer.save(scratch.join(OPTIMIZER));
                save.map_err(|error| failed(io::Error::other(error.to_string())))?;
                names.push(OPTIMIZER);
            }
            let files = names.into_iter().map(|name| seal(scratch, name));
            let files = files.collect::<io::Result<_>>().map_err(failed)?;
            Ok(State {
                progress,
                metric,
                files,
            })
        })
    }
}

/// Gives the checkpoint `dir/from` the second name `to`. The two share their files on disk where the file system can, and
/// either may be removed.
///
/// # Errors
/// When `from` is not whole or `to` cannot be written.
pub fn duplicate(
    dir: &Path,
    from: &str,
    to: &str,
    metric: Option<Metric>,
) -> Result<PathBuf, TrainError> {
    let source = dir.join(from);
    let state = super::find::state(&source)?;
    fill(dir, to, |scratch| {
        for file in &state.files {
            let (from, to) = (source.join(&file.name), scratch.join(&file.name));
            fs::hard_link(&from, &to)
                .or_else(|_| fs::copy(&from, &to).and_then(|_| File::open(&to)?.sync_all()))
                .map_err(|error| failed(&dir.join(to), error))?;
        }
        Ok(State { metric, ..state })
    })
}

/// Writes `dir/name` as the text of a `state.json` describes it, with files that `get` puts where it is told.
///
/// # Errors
/// When a file does not come or is not as described; what was there before is then untouched.
pub fn rebuild(
    dir: &Path,
    name: &str,
    state: &[u8],
    get: impl Fn(&str, &Path) -> Result<(), TrainError>,
) -> Result<PathBuf, TrainError> {
    let path = dir.join(name);
    let incomplete = |reason: String| TrainError::Incomplete {
        path: path.clone(),
        reason,
    };
    let state = State::from_json(state).map_err(|error| incomplete(format!("{STATE}: {error}")))?;
    fill(dir, name, |scratch| {
        for file in &state.files {
            get(&file.name, &scratch.join(&file.name))?;
            let found = measure(scratch, &file.name).map_err(|error| failed(&path, error))?;
            if found != *file {
                let reason = format!("{} does not have its checksum", file.name);
                return Err(incomplete(reason));
            }
        }
        Ok(state)
    })
}

/// Fills a folder under a scratch name, describes it and renames it to `dir/name`.
fn fill(
    dir: &Path,
    name: &str,
    content: impl FnOnce(&Path) -> Result<State, TrainError>,
) -> Result<PathBuf, TrainError> {
    let (scratch, path) = (dir.join(format!(".{name}.tmp")), dir.join(name));
    let fill = || {
        let failed = |source| failed(&path, source);
        remove(&scratch).map_err(failed)?;
        fs::create_dir_all(&scratch).map_err(failed)?;
        let state = content(&scratch)?;
        finish(&scratch, &state)
            .and_then(|()| replace(&scratch, &path))
            .map_err(failed)
    };
    fill().inspect_err(|_| {
        // Half a checkpoint is of no use, and the disk may be full.
        let _ = remove(&scratch);
    })?;
    Ok(path)
}

fn failed(path: &Path, source: io::Error) -> TrainError {
    TrainError::Checkpoint {
        path: path.to_owned(),
        source,
    }
}

/// Writes `state.json`, the last file.
fn finish(scratch: &Path, state: &State) -> io::Result<()> {
    let path = scratch.join(STATE);
    fs::write(&path, state.to_json()?)?;
    File::open(&path)?.sync_all()?;
    File::open(scratch)?.sync_all()
}

/// Renames `scratch` to `path`. One that is there already stays beside it under a name that can be resumed from until
/// its successor has the place.
fn replace(scratch: &Path, path: &Path) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut old = path.as_os_str().to_owned();
    old.push(".old");
    let old = Path::new(&old);
    remove(old)?;
    if path.exists() {
        fs::rename(path, old)?;
    }
    fs::rename(scratch, path)?;
    File::open(dir)?.sync_all()?;
    remove(old)
}

/// Forces a file to disk and measures it.
fn seal(dir: &Path, name: &str) -> io::Result<FileEntry> {
    File::open(dir.join(name))?.sync_all()?;
    measure(dir, name)
}

/// Length and checksum of a file.
pub(super) fn measure(dir: &Path, name: &str) -> io::Result<FileEntry> {
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

/// Removes a folder that may not be there.
pub(super) fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
