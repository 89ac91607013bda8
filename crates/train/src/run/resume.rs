//! Where a run goes on from.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use burn::module::ParamId;
use burn::optim::OptimizerRecord;
use openclip_model::Clip;
use openclip_model::weights::TrainingCheckpoint;

use crate::checkpoint::{self, CHECKPOINTS, Checkpoint, Found, Progress};
use crate::comm::{CommError, Communicator};
use crate::data::Steps;
use crate::optim::{Optim, torch};
use crate::remote::{self, RemoteError, Store};
use crate::{TrainConfig, TrainError};

/// What a run goes on from.
pub(super) struct Resumed {
    /// The folder or file.
    pub path: PathBuf,
    /// Where the run stood.
    pub progress: Progress,
    /// What it is.
    pub origin: Origin,
}

/// Kinds of checkpoints.
pub(super) enum Origin {
    /// A complete folder.
    Folder,
    /// A file of OpenCLIP's.
    OpenClip(TrainingCheckpoint),
    /// Weights alone.
    Weights,
}

/// What the search for a start brought.
#[derive(Default)]
pub(super) struct Search {
    /// Where to go on from, if anywhere.
    pub resumed: Option<Resumed>,
    /// Damaged checkpoints that were passed over.
    pub passed_over: Vec<TrainError>,
    /// What to tell if there is nothing where something was looked for.
    pub nothing: Option<String>,
}

/// The start that `--resume` asks for.
pub(super) fn find_checkpoint(
    config: &TrainConfig,
    dir: &Path,
    ranks: &dyn Communicator,
) -> Result<Search, TrainError> {
    let mut search = Search::default();
    let mut resume = config.resume.clone();
    // What the first rank has found and verified.
    let mut verified = None;
    if resume.as_deref() == Some("latest") {
        let mut found = Found::default();
        let checkpoints = dir.join(CHECKPOINTS);
        if ranks.is_first() {
            found = checkpoint::latest(&checkpoints);
            if let Some(store) = remote_store(config)? {
                found = remote::resume::newest(&store, &checkpoints, found)?;
            }
        }
        let path = found.checkpoint.as_ref().map(|found| found.path.as_path());
        resume = agree_on_path(ranks, path)?;
        search.passed_over = found.passed_over;
        verified = found.checkpoint.filter(|found| found.path.is_dir());
        search.nothing = resume.is_none().then(|| {
            let name = config.name.as_deref().unwrap_or_default();
            let remote = config.remote_sync.as_deref().map(|url| {
                let url = url.trim_end_matches('/');
                format!(" or in {url}/{name}/{CHECKPOINTS}")
            });
            let (folder, remote) = (checkpoints.display(), remote.unwrap_or_default());
            format!("--resume latest: no checkpoint in {folder}{remote}; the run begins anew")
        });
    }
    if let Some(url) = resume
        .as_deref()
        .filter(|path| remote::resume::is_url(path))
    {
        let fetched = match ranks.is_first() {
            true => Some(remote::resume::fetch(url, &checkpoint_cache(config))?),
            false => None,
        };
        resume = agree_on_path(ranks, fetched.as_deref())?;
    }
    search.resumed = match verified {
        Some(Checkpoint { path, progress }) => Some(Resumed {
            path,
            progress,
            origin: Origin::Folder,
        }),
        None => resume.map(|path| open(Path::new(&path))).transpose()?,
    };
    Ok(search)
}

fn open(path: &Path) -> Result<Resumed, TrainError> {
    let (progress, origin) = match path.is_file() {
        false => (checkpoint::open(path)?.progress, Origin::Folder),
        true => match TrainingCheckpoint::open(path)? {
            None => (Progress::default(), Origin::Weights),
            Some(found) => {
                let epoch = found.epoch;
                let progress = Progress {
                    epoch,
                    ..Progress::default()
                };
                (progress, Origin::OpenClip(found))
            }
        },
    };
    Ok(Resumed {
        path: path.to_owned(),
        progress,
        origin,
    })
}

impl Resumed {
    /// The file that holds the weights.
    pub fn weights(&self) -> PathBuf {
        match self.origin {
            Origin::Folder => self.path.join(checkpoint::MODEL),
            Origin::OpenClip(_) | Origin::Weights => self.path.clone(),
        }
    }

    /// Where the run goes on in epochs as `steps` makes them, and what to tell of a change.
    pub fn place(&self, steps: &Steps) -> (Progress, Option<String>) {
        let now = steps.shape();
        let mut progress = self.progress.clone();
        if matches!(self.origin, Origin::OpenClip(_)) {
            // The file counts epochs alone.
            progress.step = progress.position(now.steps);
            progress.samples_seen = progress.step * now.step_samples;
            progress.shape = Some(now);
        }
        progress.reshaped(now, |samples| steps.steps_of(samples))
    }

    /// The optimizer's state, where there is one, and what to tell of it.
    ///
    /// # Errors
    /// When it cannot be read or is another optimizer's.
    pub fn optimizer(
        &self,
        model: &Clip,
        frozen: &HashSet<ParamId>,
        optim: &Optim,
    ) -> Result<(Option<OptimizerRecord>, Option<String>), TrainError> {
        let path = self.path.display();
        let without = |words: &str| Ok((None, Some(format!("{path} {words}"))));
        let found = match &self.origin {
            Origin::Folder => return Ok((checkpoint::optimizer(&self.path)?, None)),
            Origin::Weights => {
                return without(
                    "holds weights alone, or says no epoch: training begins at epoch 0 with a fresh optimizer",
                );
            }
            Origin::OpenClip(found) => found,
        };
        let Some(state) = &found.optimizer else {
            return without("has no state of an optimizer: its moments start at zero");
        };
        let adopted = torch::adopt(state, &found.keys, model, frozen, optim);
        let adopted = adopted.map_err(|reason| TrainError::Optimizer {
            path: self.path.clone(),
            reason,
        })?;
        let difference = adopted
            .difference
            .map(|difference| format!("{path} was trained with {difference}"));
        Ok((Some(adopted.record), difference))
    }
}

/// What to tell of a run that has no step left, of `epochs` and, if they are limited, `max_steps`.
pub(super) fn nothing_left(config: &TrainConfig, progress: &Progress) -> Option<String> {
    let Progress { epoch, step, .. } = *progress;
    if epoch >= config.epochs {
        return Some(format!(
            "nothing left to train: {epoch} epochs are done of {}; a greater --epochs goes on",
            config.epochs
        ));
    }
    let most = config.max_steps.filter(|most| step >= *most)?;
    Some(format!(
        "nothing left to train: {step} steps are done of {most} (--max-steps)"
    ))
}

/// Where checkpoints from object stores are put.
fn checkpoint_cache(config: &TrainConfig) -> PathBuf {
    let cache = config.cache_dir.clone();
    let cache = cache.unwrap_or_else(|| openclip_model::hub::cache::home_cache().join("openclip"));
    cache.join(CHECKPOINTS)
}

/// Where the first rank found a checkpoint, for all.
fn agree_on_path(
    ranks: &dyn Communicator,
    found: Option<&Path>,
) -> Result<Option<String>, CommError> {
    let path = found.map(|path| path.to_string_lossy().into_owned());
    let path = ranks.from_first(path.unwrap_or_default().as_bytes())?;
    Ok(Some(String::from_utf8_lossy(&path).into_owned()).filter(|path| !path.is_empty()))
}

/// The run's folder in the object store of `--remote-sync`.
pub(super) fn remote_store(config: &TrainConfig) -> Result<Option<Store>, TrainError> {
    let Some(url) = &config.remote_sync else {
        return Ok(None);
    };
    let name = config.name.as_deref().unwrap_or_default();
    let flag = |error: RemoteError| TrainError::flag("--remote-sync", error.to_string());
    let store = Store::open(url).map_err(flag)?.folder(name);
    if let (Some(copy), Some(run)) = (store.local_path(), config.run_dir())
        && std::path::absolute(run).is_ok_and(|run| copy.starts_with(run))
    {
        let reason = format!("{} is the run's own folder or within it", copy.display());
        return Err(TrainError::flag("--remote-sync", reason));
    }
    Ok(Some(store))
}
