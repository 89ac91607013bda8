//! One file of a repository, through the `hf-hub` crate, which resumes what an earlier attempt left. It checks nothing and has no
//! limit on silence; both are added here.

use std::fs;
use std::path::{Path, PathBuf};

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};

use super::attempt::{Bar, Lock, classify, classify_copy, lock, repeat, sha256, watched};
use super::cache::{CacheDirs, endpoint, revision, token};
use super::error::Failure;

/// Downloads `file` into the hub's cache.
pub(super) fn fetch(repository: &str, file: &str, caches: &CacheDirs) -> Result<PathBuf, Failure> {
    let what = format!("{file} of {repository}");
    let cache =
        std::path::absolute(&caches.hub).map_err(|error| Failure::Io(caches.hub.clone(), error))?;
    let folder = caches.repository(repository);
    let locks = cache
        .join(".locks")
        .join(folder.file_name().unwrap_or_default());
    let lock = lock(
        &locks.join(format!("{}.openclip", file.replace('/', "--"))),
        &what,
    )?;
    if let Some(path) = caches.cached(repository, file) {
        return Ok(path);
    }
    let api = ApiBuilder::from_cache(Cache::new(cache.clone()))
        .with_endpoint(endpoint())
        .with_token(token())
        .with_progress(false)
        .build()
        .map_err(|error| from_api(&cache, error))?;
    repeat(&what, || attempt(&api, repository, file, &cache, &lock))
}

fn attempt(
    api: &Api,
    repository: &str,
    file: &str,
    cache: &Path,
    lock: &Lock,
) -> Result<PathBuf, Failure> {
    let (name, revision) = revision(repository);
    let repo = Repo::with_revision(name.to_owned(), RepoType::Model, revision.to_owned());
    let (client, url) = (api.clone(), api.repo(repo.clone()).url(file));
    let metadata = watched(move |_| client.metadata(&url))?;
    let metadata = metadata.map_err(|error| from_api(cache, error))?;
    if !is_label(metadata.etag()) || !is_label(metadata.commit_hash()) {
        return Err(Failure::Final("the answer is not the hub's".into()));
    }
    let blob = Cache::new(cache.to_path_buf())
        .repo(repo.clone())
        .blob_path(metadata.etag());
    let resumed = begun(&blob, metadata.size())?;
    if resumed == 0 {
        log::info!(
            "downloading {file} of {repository} ({}) to {}",
            indicatif::HumanBytes(metadata.size() as u64),
            cache.display()
        );
    }
    let _lent = lock.lend(&blob.with_extension("lock"));
    let (client, name) = (api.repo(repo), file.to_owned());
    let path = watched(move |pulse| client.download_with_progress(&name, Bar::new(pulse)))?;
    let path = path.map_err(|error| from_api(cache, error))?;
    verify(&path, &blob, metadata.etag(), resumed > 0)?;
    Ok(path)
}

/// Bytes that an earlier attempt left. If those are all there are, or more, they are thrown away: the crate would ask for what
/// lies behind them.
fn begun(blob: &Path, size: usize) -> Result<u64, Failure> {
    let part = blob.with_extension("part");
    match fs::metadata(&part).map(|part| part.len()) {
        Ok(length) if length >= size as u64 => {
            fs::remove_file(&part).map_err(|error| Failure::Io(part, error))?;
            Ok(0)
        }
        Ok(length) => Ok(length),
        Err(_) => Ok(0),
    }
}

/// Compares a large file with its name, which is its checksum. A wrong one is deleted, it alone.
fn verify(path: &Path, blob: &Path, etag: &str, resumed: bool) -> Result<(), Failure> {
    let is_checksum = etag.len() == 64 && etag.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_checksum {
        return Ok(());
    }
    let found = sha256(path)?;
    if found.eq_ignore_ascii_case(etag) {
        return Ok(());
    }
    for path in [path, blob] {
        // The pointer is the blob itself where there are no symbolic links.
        let _ = fs::remove_file(path);
    }
    Err(match resumed {
        true => Failure::Transient("the resumed download is damaged".into()),
        false => Failure::Checksum {
            expected: etag.to_owned(),
            found,
        },
    })
}

/// Whether a header can be the name of a file, so that nothing is written outside the cache.
fn is_label(text: &str) -> bool {
    let text = text.strip_prefix("W/").unwrap_or(text);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    (1..=128).contains(&text.len()) && text.chars().all(is_plain)
}

fn from_api(cache: &Path, error: ApiError) -> Failure {
    match error {
        ApiError::RequestError(error) => classify(*error),
        ApiError::IoError(error) => classify_copy(cache, error),
        ApiError::MissingHeader(_) | ApiError::InvalidHeader(_) | ApiError::ParseIntError(_) => {
            Failure::Final(format!("the answer is not the hub's ({error})"))
        }
        ApiError::LockAcquisition(path) => Failure::Transient(format!(
            "{} cannot be locked: another process downloads the file, or the folder has no file locks",
            path.display()
        )),
        error => Failure::Transient(error.to_string()),
    }
}
