//! A file that appears under its name only when it is complete.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::EvalError;

/// A file under construction at `PATH.partial`; removed when dropped before [`finish`](Self::finish).
pub(super) struct AtomicFile {
    file: BufWriter<File>,
    path: PathBuf,
    partial: PathBuf,
    finished: bool,
}

impl AtomicFile {
    /// Creates the partial file, and its directory when missing.
    pub(super) fn create(path: &Path) -> Result<Self, EvalError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".partial");
        let partial = PathBuf::from(name);
        let io = |source| EvalError::Io {
            path: path.to_owned(),
            source,
        };
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(io)?;
        }
        let file = BufWriter::with_capacity(1 << 20, File::create(&partial).map_err(io)?);
        Ok(Self {
            file,
            path: path.to_owned(),
            partial,
            finished: false,
        })
    }

    /// The final name.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `head` over the first bytes, forces everything to disk and moves the file to its name.
    pub(super) fn finish(mut self, head: &[u8]) -> Result<(), EvalError> {
        self.complete(head).map_err(|source| EvalError::Io {
            path: self.path.clone(),
            source,
        })?;
        self.finished = true;
        Ok(())
    }

    fn complete(&mut self, head: &[u8]) -> std::io::Result<()> {
        if !head.is_empty() {
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(head)?;
        }
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        std::fs::rename(&self.partial, &self.path)
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.finished {
            // Nobody is left to tell; the next run overwrites the file.
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}
