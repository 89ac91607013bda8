//! Files that grow while a run goes on. A disk that is full or gone costs a message and no step: what could not be written waits in
//! memory and comes later.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::TrainError;

/// Bytes that wait for a disk at most. What comes when so many wait is counted and lost.
const MOST: usize = 8 << 20;

/// A file that is appended to.
#[derive(Debug)]
pub struct AppendFile {
    place: Place,
    pending: Vec<u8>,
    lost: u64,
    failing: bool,
    /// Puts the end of a file in order that another process has written.
    repair: fn(&mut File) -> io::Result<()>,
    /// Content is forced to the disk.
    durable: bool,
}

#[derive(Debug)]
enum Place {
    /// Of a run that keeps no files: nothing is taken.
    Nowhere,
    Path(PathBuf),
    /// A file of its own in this folder, which takes this name or, if there is one, a number behind it.
    New(PathBuf, String),
}

/// What is worth telling of a file.
#[derive(Debug)]
pub enum News {
    /// It cannot be written, which was possible before.
    Failed(TrainError),
    /// It is written again.
    Mended {
        /// The file.
        path: PathBuf,
        /// Entries that are missing from it.
        lost: u64,
    },
}

impl AppendFile {
    /// The file `path`, created when missing.
    pub fn new(path: PathBuf) -> Self {
        Self {
            place: Place::Path(path),
            pending: Vec::new(),
            lost: 0,
            failing: false,
            repair: |_| Ok(()),
            durable: false,
        }
    }

    /// No file.
    pub fn nowhere() -> Self {
        Self {
            place: Place::Nowhere,
            ..Self::new(PathBuf::new())
        }
    }

    /// A new file `name` in `dir`, both created with the first content.
    pub fn fresh(dir: PathBuf, name: String) -> Self {
        Self {
            place: Place::New(dir, name),
            ..Self::new(PathBuf::new())
        }
    }

    /// The same, put in order by `repair` each time before it grows.
    pub fn repaired(self, repair: fn(&mut File) -> io::Result<()>) -> Self {
        Self { repair, ..self }
    }

    /// The same, forced to the disk.
    pub fn durable(self) -> Self {
        Self {
            durable: true,
            ..self
        }
    }

    /// The file, or the folder that it will be in.
    pub fn path(&self) -> &Path {
        match &self.place {
            Place::Nowhere => Path::new(""),
            Place::Path(path) | Place::New(path, _) => path,
        }
    }

    /// Whether the file can be written.
    ///
    /// # Errors
    /// When it cannot.
    pub fn check(&mut self) -> Result<(), TrainError> {
        let opened = self.open().map(drop);
        opened.map_err(|source| self.failed(source))
    }

    /// Takes an entry, which [`flush`](Self::flush) writes. False if too much waits already and the entry is lost.
    pub fn append(&mut self, entry: &[u8]) -> bool {
        if matches!(self.place, Place::Nowhere) {
            return true;
        }
        let fits = self.pending.len() + entry.len() <= MOST;
        match fits {
            true => self.pending.extend_from_slice(entry),
            false => self.lost += 1,
        }
        fits
    }

    /// Bytes that wait.
    pub fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// Writes what waits, if that is possible; says when this changes.
    pub fn flush(&mut self) -> Option<News> {
        if self.pending.is_empty() {
            return None;
        }
        match (self.write(), self.failing) {
            (Ok(()), false) => None,
            (Ok(()), true) => {
                self.failing = false;
                Some(News::Mended {
                    path: self.path().to_owned(),
                    lost: std::mem::take(&mut self.lost),
                })
            }
            (Err(_), true) => None,
            (Err(source), false) => {
                self.failing = true;
                Some(News::Failed(self.failed(source)))
            }
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let mut file = self.open()?;
        (self.repair)(&mut file)?;
        let length = file.metadata()?.len();
        let mut write = || {
            file.write_all(&self.pending)?;
            match self.durable {
                true => file.sync_data(),
                false => Ok(()),
            }
        };
        if let Err(error) = write() {
            // Half an entry would be in the way of the next one; what is no file has no length.
            let _ = file.set_len(length);
            return Err(error);
        }
        self.pending.clear();
        Ok(())
    }

    /// Opened anew each time: another file may have taken the name.
    fn open(&mut self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).append(true);
        match &self.place {
            Place::Nowhere => Err(io::ErrorKind::Unsupported.into()),
            Place::Path(path) => match options.create(true).open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
                    options.open(path)
                }
                opened => opened,
            },
            Place::New(dir, name) => {
                fs::create_dir_all(dir)?;
                options.create_new(true);
                let mut path = dir.join(name);
                let mut again = 0;
                loop {
                    match options.open(&path) {
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                            again += 1;
                            path = dir.join(format!("{name}.{again}"));
                        }
                        Err(error) => return Err(error),
                        Ok(file) => {
                            self.place = Place::Path(path);
                            return Ok(file);
                        }
                    }
                }
            }
        }
    }

    fn failed(&self, source: io::Error) -> TrainError {
        TrainError::Write {
            path: self.path().to_owned(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    #[test]
    fn what_a_disk_does_not_take_comes_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("steps");
        let mut file = AppendFile::new(path.clone());
        assert!(file.append(b"one\n") && file.flush().is_none());
        // A folder where the file should be.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(file.append(b"two\n"));
        assert!(matches!(file.flush(), Some(News::Failed(_))));
        assert!(file.append(b"three\n"));
        assert!(file.flush().is_none(), "told once");
        fs::remove_dir(&path).unwrap();
        let Some(News::Mended { lost: 0, .. }) = file.flush() else {
            panic!("not mended");
        };
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\nthree\n");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_takes_a_bounded_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("steps");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let mut file = AppendFile::new(path.clone());
        let entry = [7; 100_000];
        let taken = (0..1000).filter(|_| file.append(&entry)).count();
        assert!(file.waiting() <= MOST && taken == MOST / entry.len());
        assert!(matches!(file.flush(), Some(News::Failed(_))));
        fs::remove_file(&path).unwrap();
        let lost = 1000 - taken as u64;
        assert!(matches!(file.flush(), Some(News::Mended { lost: l, .. }) if l == lost));
        assert_eq!(fs::read(&path).unwrap().len(), taken * entry.len());
    }

    #[test]
    fn a_new_file_takes_no_name_that_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["events", "events.1", "events.2"] {
            let mut file = AppendFile::fresh(dir.path().join("new"), "events".into());
            assert!(file.append(b"one") && file.flush().is_none());
            assert!(file.append(b"two") && file.flush().is_none());
            assert_eq!(file.path(), dir.path().join("new").join(name));
            assert_eq!(fs::read(file.path()).unwrap(), b"onetwo");
        }
    }
}
