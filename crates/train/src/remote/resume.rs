//! A checkpoint comes back from an object store.

use std::path::{Path, PathBuf};

use super::{RemoteError, Store};
use crate::TrainError;
use crate::checkpoint::{self, CHECKPOINTS, Found, Reached, STATE};

/// Whether `--resume` speaks of an object store.
pub fn is_url(resume: &str) -> bool {
    resume.contains("://")
}

/// Adds to what was `found` in the local folder `dir` of checkpoints: a checkpoint of `store`, a copy of the run folder, that got
/// further is brought to `dir`.
///
/// # Errors
/// When the store cannot be asked and there is nothing else to go on from, which would begin the run anew.
pub fn newest(store: &Store, dir: &Path, mut found: Found) -> Result<Found, TrainError> {
    let states = match states(store) {
        Ok(states) => states,
        Err(error) if found.checkpoint.is_some() => {
            found.passed_over.push(error.into());
            return Ok(found);
        }
        Err(error) => return Err(error.into()),
    };
    let local = found.checkpoint.as_ref();
    let reached = local.map_or(Reached::default(), |checkpoint| {
        checkpoint.progress.reached()
    });
    for (_, name) in states
        .into_iter()
        .rev()
        .filter(|(there, _)| *there > reached)
    {
        match bring(store, &format!("{CHECKPOINTS}/{name}"), dir, &name) {
            Ok(checkpoint) => {
                found.checkpoint = Some(checkpoint);
                break;
            }
            Err(error) => found.passed_over.push(error),
        }
    }
    Ok(found)
}

/// How far the checkpoints came that claim to be complete, and their names; the furthest last.
fn states(store: &Store) -> Result<Vec<(Reached, String)>, RemoteError> {
    let mut states = Vec::new();
    for object in store.list(CHECKPOINTS)? {
        let path: Vec<_> = object.split('/').collect();
        let [CHECKPOINTS, name, STATE] = path.as_slice() else {
            continue;
        };
        let json = store.get(&object)?.unwrap_or_default();
        if let Some(reached) = checkpoint::reached(&json).filter(|_| !name.starts_with('.')) {
            states.push((reached, (*name).to_owned()));
        }
    }
    states.sort();
    Ok(states)
}

/// Downloads what `url` names – a checkpoint folder, or a file with weights alone – to the folder `cache`, and says where it is.
/// What is there already and complete is not downloaded again.
///
/// # Errors
/// When there is no such thing, or it is damaged.
pub fn fetch(url: &str, cache: &Path) -> Result<PathBuf, TrainError> {
    let url = url.trim_end_matches('/');
    let (parent, name) = url.rsplit_once('/').unwrap_or((url, ""));
    let store = Store::open(parent)?;
    let dir = cache.join(format!("{:08x}", crc32fast::hash(parent.as_bytes())));
    std::fs::create_dir_all(&dir).map_err(|source| TrainError::Write {
        path: dir.clone(),
        source,
    })?;
    if let Some(state) = store.get(&format!("{name}/{STATE}"))? {
        let path = dir.join(name);
        let is_here = std::fs::read(path.join(STATE)).is_ok_and(|here| here == state);
        return match checkpoint::open(&path) {
            Ok(checkpoint) if is_here => Ok(checkpoint.path),
            _ => Ok(bring(&store, name, &dir, name)?.path),
        };
    }
    let path = dir.join(name);
    store.download(name, &path)?;
    Ok(path)
}

/// Downloads the checkpoint `from` to `dir/name`, if it is whole.
fn bring(
    store: &Store,
    from: &str,
    dir: &Path,
    name: &str,
) -> Result<checkpoint::Checkpoint, TrainError> {
    let json = store.get(&format!("{from}/{STATE}"))?.unwrap_or_default();
    let path = checkpoint::folder::rebuild(dir, name, &json, |file, to| {
        Ok(store.download(&format!("{from}/{file}"), to)?)
    })?;
    checkpoint::open(&path)
}
