//! The names of files, as clip-retrieval gives them.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::EvalError;

/// Folder, which is also the beginning of its files' names, and extension of every kind of file. The metadata come first: a set
/// without them is not whole.
pub(super) const KINDS: [(&str, &str); 3] = [
    ("metadata", "parquet"),
    ("img_emb", "npy"),
    ("text_emb", "npy"),
];

/// One partition of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    root: PathBuf,
    /// Its number, with as many digits as the largest has.
    name: String,
}

impl Partition {
    /// Partition `number` of `count` in `root`.
    pub fn new(root: &Path, number: usize, count: usize) -> Self {
        let digits = count.max(1).ilog10() as usize + 1;
        Self {
            root: root.to_owned(),
            name: format!("{number:0digits$}"),
        }
    }

    /// Where its file of a kind is.
    pub(super) fn place(&self, kind: &str, extension: &str) -> PathBuf {
        let name = format!("{kind}_{}.{extension}", self.name);
        self.root.join(kind).join(name)
    }

    /// The same; the folder is made.
    pub(super) fn made(&self, kind: &str, extension: &str) -> Result<PathBuf, EvalError> {
        let path = self.place(kind, extension);
        let folder = self.root.join(kind);
        let made = std::fs::create_dir_all(&folder);
        made.map_err(|error| EvalError::io(&folder, error))?;
        Ok(path)
    }

    /// Removes what a process that was killed has left of the partition.
    pub(super) fn clean(&self) -> Result<(), EvalError> {
        for (kind, extension) in KINDS {
            let place = self.place(kind, extension);
            remove(&begun(&place)?)?;
            remove(&[place])?;
        }
        Ok(())
    }
}

/// The embedding files in a folder, of any partition, in the order of [`KINDS`].
pub(super) fn embeddings(root: &Path) -> Result<Vec<PathBuf>, EvalError> {
    let mut found = Vec::new();
    for (kind, extension) in KINDS {
        let begins = format!("{kind}_");
        found.extend(files(&root.join(kind), |name| {
            let is_of_kind = Path::new(name).extension() == Some(OsStr::new(extension));
            name.starts_with(&begins) && is_of_kind
        })?);
    }
    Ok(found)
}

/// The files of a folder whose names fit, in order; none where there is no such folder.
pub(super) fn files(folder: &Path, fits: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, EvalError> {
    let fail = |error| EvalError::io(folder, error);
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(fail)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(fail)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if fits(&name) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// What processes that were killed have left of a file.
pub(super) fn begun(path: &Path) -> Result<Vec<PathBuf>, EvalError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let begins = format!(".{name}.");
    files(path.parent().unwrap_or(path), |name| {
        name.starts_with(&begins) && name.ends_with(".partial")
    })
}

/// Removes files, of which some may be gone.
pub(super) fn remove(files: &[PathBuf]) -> Result<(), EvalError> {
    for path in files {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(EvalError::io(path, error));
            }
            _ => {}
        }
    }
    Ok(())
}
