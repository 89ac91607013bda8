//! Where downloaded files lie.

use std::path::{Path, PathBuf};

/// The hub's address, unless `HF_ENDPOINT` says otherwise.
pub const HUB: &str = "https://huggingface.co";

/// Folders of downloaded files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheDirs {
    /// Of the hub, in the layout of Python's `huggingface_hub`.
    pub hub: PathBuf,
    /// Of plain addresses.
    pub addresses: PathBuf,
}

impl CacheDirs {
    /// Those in `cache_dir`, else those that the environment names.
    pub fn new(cache_dir: Option<&Path>) -> Self {
        match cache_dir {
            Some(dir) => Self {
                hub: dir.to_path_buf(),
                addresses: dir.to_path_buf(),
            },
            None => Self {
                hub: variable("HF_HUB_CACHE")
                    .or_else(|| variable("HUGGINGFACE_HUB_CACHE"))
                    .map_or_else(|| hugging_face_home().join("hub"), PathBuf::from),
                addresses: home().join(".cache/clip"),
            },
        }
    }

    /// A repository's folder, whatever its revision.
    pub fn repository(&self, repository: &str) -> PathBuf {
        let (name, _) = revision(repository);
        let name = format!("models--{}", name.replace('/', "--"));
        self.hub.join(name)
    }

    /// A file that is there already: in the snapshot of the revision, which is the branch `main` unless `repository` ends in
    /// `@REVISION`; of `main` in any snapshot where no branch is recorded.
    pub fn cached(&self, repository: &str, file: &str) -> Option<PathBuf> {
        let dir = self.repository(repository);
        let (_, revision) = revision(repository);
        let snapshots = dir.join("snapshots");
        let commit = match std::fs::read_to_string(dir.join("refs").join(revision)) {
            Ok(commit) => commit.trim().to_owned(),
            Err(_) if revision == MAIN && !dir.join("refs").is_dir() => {
                let entries = std::fs::read_dir(snapshots).ok()?;
                let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path().join(file)));
                return paths.find(|path| path.is_file());
            }
            // A commit by its own name.
            Err(_) => revision.to_owned(),
        };
        let path = snapshots.join(commit).join(file);
        path.is_file().then_some(path)
    }
}

/// The branch that is meant where none is named.
pub(super) const MAIN: &str = "main";

/// Name and revision in `ORG/NAME@REVISION`.
pub(super) fn revision(repository: &str) -> (&str, &str) {
    repository.split_once('@').unwrap_or((repository, MAIN))
}

/// Whether a name can be a branch's, a tag's or a commit's, and needs no escape in an address but that of `/`.
pub(super) fn is_revision(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    !name.is_empty()
        && name.chars().all(is_plain)
        && !name.contains("..")
        && !name.starts_with(['/', '.', '-'])
        && !name.ends_with('/')
}

/// Whether a name is `NAME` or `ORG/NAME` of the hub's characters, which cannot leave the cache's folder.
pub(super) fn is_repository(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && !part.contains("..")
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    name.split('/').count() <= 2 && name.split('/').all(is_part)
}

/// Whether the user forbids the network.
pub fn is_offline() -> bool {
    let value = variable("HF_HUB_OFFLINE").unwrap_or_default();
    ["1", "true", "yes", "on"].contains(&value.to_lowercase().as_str())
}

/// The hub's address, or what `HF_ENDPOINT` says, without a slash at its end.
pub fn endpoint() -> String {
    let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| HUB.into());
    endpoint.trim_end_matches('/').to_owned()
}

/// The user's token, where `hf auth login` leaves it.
pub fn token() -> Option<String> {
    let file = || {
        let path = variable("HF_TOKEN_PATH")
            .map_or_else(|| hugging_face_home().join("token"), PathBuf::from);
        std::fs::read_to_string(path).ok()
    };
    let token = variable("HF_TOKEN").or_else(file)?.trim().to_owned();
    (!token.is_empty()).then_some(token)
}

/// `~/.cache`, or what `XDG_CACHE_HOME` says.
pub fn home_cache() -> PathBuf {
    variable("XDG_CACHE_HOME").map_or_else(|| home().join(".cache"), PathBuf::from)
}

/// Where Hugging Face's libraries keep everything.
pub(super) fn hugging_face_home() -> PathBuf {
    variable("HF_HOME").map_or_else(|| home_cache().join("huggingface"), PathBuf::from)
}

fn home() -> PathBuf {
    std::env::home_dir().unwrap_or_default()
}

/// A variable of the environment that is not empty.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn names_stay_in_the_cache() {
        assert!(is_repository("laion/CLIP-ViT-B-32-laion2B-s34B-b79K"));
        assert!(is_repository("gpt2"));
        for name in [
            "", "/", "a/", "../x", "a/..", "a/b/c", "a\\b", "a b/c", "/etc",
        ] {
            assert!(!is_repository(name), "{name}");
        }
    }

    #[test]
    fn revisions_are_names_that_stay_where_they_are() {
        assert_eq!(revision("org/name"), ("org/name", "main"));
        assert_eq!(revision("org/name@v1/a"), ("org/name", "v1/a"));
        for name in ["main", "v1.0", "refs/pr/3", "a1b2c3"] {
            assert!(is_revision(name), "{name}");
        }
        for name in ["", "../x", "a b", "/a", "a/", "-x", "a?b", "a%2Fb", "a@b"] {
            assert!(!is_revision(name), "{name}");
        }
    }

    #[test]
    fn a_file_is_found_in_the_snapshot_of_main() {
        let dir = tempfile::tempdir().unwrap();
        let caches = CacheDirs::new(Some(dir.path()));
        let root = caches.repository("org/name");
        assert!(root.ends_with("models--org--name"));
        for (snapshot, file) in [("one", "a.txt"), ("two", "b.txt")] {
            std::fs::create_dir_all(root.join("snapshots").join(snapshot)).unwrap();
            std::fs::write(root.join("snapshots").join(snapshot).join(file), "").unwrap();
        }
        assert!(caches.cached("org/name", "a.txt").is_some());
        std::fs::create_dir_all(root.join("refs")).unwrap();
        std::fs::write(root.join("refs/main"), "two\n").unwrap();
        assert!(caches.cached("org/name", "a.txt").is_none());
        assert!(caches.cached("org/name", "b.txt").is_some());
        // A commit by its name, or a branch.
        assert!(caches.cached("org/name@one", "a.txt").is_some());
        assert!(caches.cached("org/name@v1", "a.txt").is_none());
        std::fs::write(root.join("refs/v1"), "one").unwrap();
        assert!(caches.cached("org/name@v1", "a.txt").is_some());
    }
}
