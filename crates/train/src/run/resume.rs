//! Where a run goes on from.

use std::path::{Path, PathBuf};

use crate::checkpoint::{self, CHECKPOINTS, Checkpoint, Found, Progress};
use crate::comm::{CommError, Communicator};
use crate::remote::{self, RemoteError, Store};
use crate::{TrainConfig, TrainError};

/// Where to go on from: a complete checkpoint folder with its counters, or a bare weights file and none.
pub(super) type Start = Option<(PathBuf, Progress)>;

/// The start that `--resume` asks for, and the damaged checkpoints that `latest` passed over.
pub(super) fn find_checkpoint(
    config: &TrainConfig,
    dir: &Path,
    ranks: &dyn Communicator,
) -> Result<(Start, Vec<TrainError>), TrainError> {
    let start = |Checkpoint { path, progress }| (path, progress);
    let mut resume = config.resume.clone();
    if resume.as_deref() == Some("latest") {
        let mut found = Found::default();
        if ranks.is_first() {
            let checkpoints = dir.join(CHECKPOINTS);
            found = checkpoint::latest(&checkpoints);
            if let Some(store) = remote_store(config)? {
                found = remote::resume::newest(&store, &checkpoints, found)?;
            }
        }
        let path = found.checkpoint.as_ref().map(|found| found.path.as_path());
        resume = agree_on_path(ranks, path)?;
        if ranks.is_first() {
            return Ok((found.checkpoint.map(start), found.passed_over));
        }
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
    match resume.as_deref() {
        None => Ok((None, Vec::new())),
        Some(path) => {
            let path = Path::new(path);
            let found = match path.is_file() {
                true => (path.to_owned(), Progress::default()),
                false => start(checkpoint::open(path)?),
            };
            Ok((Some(found), Vec::new()))
        }
    }
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
