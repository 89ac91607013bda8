//! The folder that embeddings go to, and what an earlier run left there.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::EvalError;

/// Folder, name and extension of every kind of file, the metadata first: a set without metadata is not whole.
const KINDS: [(&str, &str); 3] = [
    ("metadata", "parquet"),
    ("img_emb", "npy"),
    ("text_emb", "npy"),
];

/// A folder without embeddings of an earlier run, or with some that are to be replaced.
#[derive(Debug, Clone)]
pub struct Destination {
    dir: PathBuf,
    overwrite: bool,
}

impl Destination {
    /// Looks at `dir`, which need not be there. With `overwrite`, the files of an earlier run are removed when those of the new one
    /// are complete, and all of them: nothing of two runs ever stands side by side.
    ///
    /// # Errors
    /// When there are such files and they are not to be replaced, or the folder cannot be read.
    pub fn open(dir: &Path, overwrite: bool) -> Result<Self, EvalError> {
        let destination = Self {
            dir: dir.to_owned(),
            overwrite,
        };
        destination.check()?;
        Ok(destination)
    }

    /// The place of the file of a kind; its folder is made.
    pub(super) fn place(&self, kind: &str, extension: &str) -> Result<PathBuf, EvalError> {
        let folder = self.dir.join(kind);
        let made = std::fs::create_dir_all(&folder);
        made.map_err(|error| EvalError::io(&folder, error))?;
        Ok(folder.join(format!("{kind}_0.{extension}")))
    }

    /// Makes room for the files of a run that is complete. Another run may have come first meanwhile.
    pub(super) fn clear(&self) -> Result<(), EvalError> {
        self.check()?;
        for path in self.earlier()? {
            std::fs::remove_file(&path).map_err(|error| EvalError::io(&path, error))?;
        }
        Ok(())
    }

    fn check(&self) -> Result<(), EvalError> {
        match self.earlier()?.into_iter().next() {
            Some(found) if !self.overwrite => Err(EvalError::Taken {
                dir: self.dir.clone(),
                found: found.strip_prefix(&self.dir).unwrap_or(&found).to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// The embedding files that are there, of this run's kinds or of others, in the order of [`KINDS`].
    fn earlier(&self) -> Result<Vec<PathBuf>, EvalError> {
        let mut found = Vec::new();
        for (kind, extension) in KINDS {
            let folder = self.dir.join(kind);
            let fail = |error| EvalError::io(&folder, error);
            let entries = match std::fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(fail)?,
            };
            let from = found.len();
            for entry in entries {
                let path = entry.map_err(fail)?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let is_of_kind = name.starts_with(&format!("{kind}_"))
                    && path.extension() == Some(OsStr::new(extension));
                if is_of_kind {
                    found.push(path);
                }
            }
            found[from..].sort();
        }
        Ok(found)
    }
}
