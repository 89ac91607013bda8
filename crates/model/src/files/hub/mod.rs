//! Files of the Hugging Face hub and of plain addresses.
//!
//! A file that is in the cache is used without asking the network. The cache is the one that Python's libraries share: below
//! `HF_HUB_CACHE`, else `HF_HOME/hub`, else `~/.cache/huggingface/hub`; files of plain addresses lie in `~/.cache/clip`, where
//! OpenCLIP keeps them. `--cache-dir` stands for all of these.
//!
//! Downloading is behind the feature `hub`. Without it, and with `HF_HUB_OFFLINE=1`, a file that is not in the cache is an error
//! that says what to download and where to put it.
//!
//! * [`cache`] – where files lie
//! * [`error`] – what can go wrong
//! * `transfer` – one file of a repository, through the `hf-hub` crate
//! * `address` – one file of a plain address
//! * [`upload`] – the files of a folder into a repository
//! * `attempt` – retries, silence, progress and checksums of them all

#[cfg(feature = "hub")]
mod address;
#[cfg(feature = "hub")]
mod attempt;
pub mod cache;
pub mod error;
#[cfg(feature = "hub")]
mod transfer;
pub mod upload;

use std::path::{Path, PathBuf};

pub use cache::CacheDirs;
use error::Failure;
pub use error::HubError;
pub use upload::{Upload, Uploaded};

/// The first of `names` that the repository (`ORG/NAME`, or `ORG/NAME@REVISION`) has, from the cache or from the hub; what the cache
/// has wins.
///
/// `by_hand` says in an error where the user can put the file, as a clause such as "put it at DIR".
pub fn file(
    repository: &str,
    names: &[&str],
    caches: &CacheDirs,
    by_hand: &str,
) -> Result<PathBuf, HubError> {
    let (name, revision) = cache::revision(repository);
    if !cache::is_repository(name) || !cache::is_revision(revision) {
        return Err(HubError::Name(repository.to_owned()));
    }
    if let Some(path) = names
        .iter()
        .find_map(|name| caches.cached(repository, name))
    {
        return Ok(path);
    }
    let unavailable = |name: &str, reason: String| HubError::Unavailable {
        what: format!("{} of {repository}", names.join(" or ")),
        reason,
        address: format!(
            "{}/{}/resolve/{revision}/{name}",
            cache::HUB,
            cache::revision(repository).0
        ),
        by_hand: by_hand.to_owned(),
    };
    if cache::is_offline() {
        let first = names.first().copied().unwrap_or_default();
        return Err(unavailable(first, "HF_HUB_OFFLINE is set".into()));
    }
    for name in names {
        let what = format!("{name} of {repository}");
        match fetch_file(repository, name, caches) {
            Err(Failure::Missing) => {}
            result => {
                return result
                    .map_err(|failure| failure.name(what, |reason| unavailable(name, reason)));
            }
        }
    }
    Err(HubError::Missing {
        repository: repository.to_owned(),
        names: names.join(" or "),
    })
}

/// The file at an `http(s)` address.
pub fn address(url: &str, caches: &CacheDirs, by_hand: &str) -> Result<PathBuf, HubError> {
    let unavailable = |reason| HubError::Unavailable {
        what: url.to_owned(),
        reason,
        address: url.to_owned(),
        by_hand: by_hand.to_owned(),
    };
    fetch_address(url, caches).map_err(|failure| match failure {
        Failure::Missing => unavailable("the server has no such file (404)".into()),
        failure => failure.name(url.to_owned(), unavailable),
    })
}

/// Whether `text` is an address rather than a path or a tag.
pub fn is_address(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

#[cfg(feature = "hub")]
fn fetch_file(repository: &str, name: &str, caches: &CacheDirs) -> Result<PathBuf, Failure> {
    transfer::fetch(repository, name, caches)
}

#[cfg(feature = "hub")]
fn fetch_address(url: &str, caches: &CacheDirs) -> Result<PathBuf, Failure> {
    address::fetch(url, &caches.addresses)
}

#[cfg(not(feature = "hub"))]
fn fetch_file(_: &str, _: &str, _: &CacheDirs) -> Result<PathBuf, Failure> {
    Err(Failure::not_built())
}

#[cfg(not(feature = "hub"))]
fn fetch_address(url: &str, caches: &CacheDirs) -> Result<PathBuf, Failure> {
    let name = url.rsplit('/').next().unwrap_or_default();
    let path = caches.addresses.join(name);
    match !name.is_empty() && path.is_file() {
        true => Ok(path),
        false => Err(Failure::not_built()),
    }
}

/// Where a user may put weights by hand: `DIR/MODEL/`, below `--cache-dir` or `~/.cache/openclip`.
pub fn by_hand(model: &str, cache_dir: Option<&Path>) -> PathBuf {
    let dir = cache_dir.map_or_else(|| cache::home_cache().join("openclip"), Path::to_path_buf);
    dir.join(model.replace('/', "-"))
}
