//! Writing one checkpoint folder, and giving its files a second name.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::optim::OptimizerRecord;
use openclip_eval::head::{HEAD, Head};
use openclip_model::Clip;
use openclip_model::factory::{self, Loaded};
use openclip_model::files::atomic;
use openclip_model::registry::HUB_CONFIG;

use super::layout::{EMA, MODEL, OPTIMIZER, STATE};
use super::metric::Metric;
use super::progress::Progress;
use super::state::{FileEntry, State};
use crate::TrainError;
use crate::finetune::lora::{ADAPTERS, Lora};

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
    /// What else belongs to a run that fine-tunes.
    pub tuned: Option<Tuned>,
}

/// The classifier of a run that fine-tunes, and its adapters.
#[derive(Debug)]
pub struct Tuned {
    /// The classifier.
    pub head: Head,
    /// The model with its adapters, how they were made, and the checksum of the weights that they belong to.
    pub adapters: Option<(Clip, Lora, Arc<str>)>,
}

impl Tuned {
    fn write(&self, dir: &Path) -> Result<Vec<&'static str>, TrainError> {
        self.head.save(&dir.join(HEAD))?;
        let Some((model, lora, base)) = &self.adapters else {
            return Ok(vec![HEAD]);
        };
        lora.save(model, base, &dir.join(ADAPTERS))?;
        Ok(vec![HEAD, ADAPTERS])
    }
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
            tuned,
        } = self;
        fill(dir, name, |scratch| {
            model.save(&scratch.join(MODEL))?;
            let hub = factory::hub_config(&model.config, &model.preprocess);
            let failed = |source| failed(&dir.join(name), source);
            atomic::write(&scratch.join(HUB_CONFIG), format!("{hub:#}")).map_err(failed)?;
            let mut names = vec![MODEL, HUB_CONFIG];
            if let Some(average) = average {
                average.save(&scratch.join(EMA))?;
                names.push(EMA);
            }
            if let Some(tuned) = tuned {
                names.extend(tuned.write(scratch)?);
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
    let state = State::read(&source)?;
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
    let incomplete = |reason| TrainError::incomplete(&path, reason);
    let state = State::from_json(state).map_err(|error| incomplete(format!("{STATE}: {error}")))?;
    fill(dir, name, |scratch| {
        for file in &state.files {
            get(&file.name, &scratch.join(&file.name))?;
            let found =
                FileEntry::measure(scratch, &file.name).map_err(|error| failed(&path, error))?;
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
        // The last file: its folder is forced to disk with it.
        let state = state.to_json().map_err(io::Error::from);
        state
            .and_then(|json| atomic::write(&scratch.join(STATE), json))
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

/// Renames `scratch` to `path`. One that is there already stays beside it under a name that can be resumed from until
/// its successor has the place.
fn replace(scratch: &Path, path: &Path) -> io::Result<()> {
    let mut old = path.as_os_str().to_owned();
    old.push(".old");
    let old = Path::new(&old);
    remove(old)?;
    if path.exists() {
        fs::rename(path, old)?;
    }
    atomic::rename(scratch, path)?;
    remove(old)
}

/// Forces a file to disk and measures it.
fn seal(dir: &Path, name: &str) -> io::Result<FileEntry> {
    File::open(dir.join(name))?.sync_all()?;
    FileEntry::measure(dir, name)
}

/// Removes a folder that may not be there.
pub(super) fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
