//! A folder that embeddings are written to, by any number of processes at a time.
//!
//! A partition is whole or absent: it is there when its record is. Who works on one holds a lock on a file beside the record, which
//! the system takes off when the process ends, however that is. Whoever uses the folder holds a shared lock on it; who decides what
//! the folder is for, or replaces what is in it, holds it alone.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::layout::{KINDS, Partition, begun, embeddings, files, remove};
use super::npy::Array;
use super::record::Record;
use super::settings::Settings;
use crate::error::EvalError;

/// The file whose lock is the folder's.
const LOCK: &str = ".embed.lock";
/// Where embeddings grow that will replace others.
const NEXT: &str = ".next";
/// The folder of records.
const RECORDS: &str = "partitions";
/// How often, and in which distance, it is asked for a folder that another process has for itself: to look at it takes no time.
const ATTEMPTS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

/// A folder with the settings of this run.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    /// The folder itself, or the one within it that will replace what is there.
    root: PathBuf,
    count: usize,
    /// Partitions that are known to be whole.
    whole: Mutex<Vec<bool>>,
    _lock: File,
}

/// A partition that nobody else works on.
#[derive(Debug)]
pub struct Claim {
    /// Which one.
    pub number: usize,
    /// Where its files go.
    pub partition: Partition,
    record: PathBuf,
    lock: (PathBuf, File),
}

/// What the partitions of a folder have together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// The sum of their records.
    pub sum: Record,
    /// Partitions that are whole.
    pub whole: usize,
    /// All of them.
    pub count: usize,
}

impl Totals {
    /// Those of the `count` partitions in `root`.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn read(root: &Path, count: usize) -> Result<Self, EvalError> {
        let mut totals = Self {
            count,
            ..Self::default()
        };
        for number in 0..count {
            if let Some(record) = Record::read(&record(root, number, count))? {
                totals.sum.add(&record);
                totals.whole += 1;
            }
        }
        Ok(totals)
    }

    /// Whether nothing is left to do.
    pub fn is_complete(&self) -> bool {
        self.whole == self.count
    }
}

impl Folder {
    /// Opens `dir`, which is made when missing, for a run with these settings: an empty one, or one that was begun with the same.
    /// With `overwrite`, what is there gives way when the new embeddings are whole; that needs the folder alone.
    ///
    /// # Errors
    /// When it has other embeddings that are not to be replaced, other processes are in the way, or it cannot be written.
    pub fn open(dir: &Path, settings: &Settings, overwrite: bool) -> Result<Self, EvalError> {
        let failed = |error| EvalError::io(dir, error);
        fs::create_dir_all(dir).map_err(failed)?;
        let lock = open_lock(&dir.join(LOCK))?;
        let folder = |root: PathBuf, lock| Self {
            dir: dir.to_owned(),
            root,
            count: settings.partitions,
            whole: Mutex::new(vec![false; settings.partitions]),
            _lock: lock,
        };
        let busy = || EvalError::Busy {
            dir: dir.to_owned(),
        };
        for _ in 0..ATTEMPTS {
            if taken(lock.try_lock(), dir)? {
                let next = dir.join(NEXT);
                if overwrite && (next.exists() || is_used(dir)?.is_some()) {
                    begin_next(&next, settings)?;
                    return Ok(folder(next, lock));
                }
                begin(dir, settings)?;
                lock.unlock().map_err(failed)?;
            }
            // Between the two locks another process may have decided otherwise.
            if taken(lock.try_lock_shared(), dir)?
                && let Some(found) = Settings::read(dir)?
            {
                return match found == *settings {
                    true if overwrite && is_used(dir)?.is_some() => Err(busy()),
                    true => Ok(folder(dir.to_owned(), lock)),
                    false => Err(other(dir, &found, settings)),
                };
            }
            std::thread::sleep(PAUSE);
        }
        Err(busy())
    }

    /// The next partition that is neither whole nor worked on. `passed` is told of each that was found whole.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub fn claim(&self, mut passed: impl FnMut(&Record)) -> Result<Option<Claim>, EvalError> {
        let mut whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        let records = self.root.join(RECORDS);
        fs::create_dir_all(&records).map_err(|error| EvalError::io(&records, error))?;
        for number in 0..self.count {
            if whole[number] {
                continue;
            }
            let record = record(&self.root, number, self.count);
            let mut found = Record::read(&record)?;
            if found.is_none() {
                let path = record.with_extension("lock");
                let file = open_lock(&path)?;
                if !taken(file.try_lock(), &path)? {
                    continue;
                }
                // Whoever had it may have finished.
                found = Record::read(&record)?;
                if found.is_none() {
                    let partition = Partition::new(&self.root, number, self.count);
                    partition.clean()?;
                    remove(&begun(&record)?)?;
                    return Ok(Some(Claim {
                        number,
                        partition,
                        record,
                        lock: (path, file),
                    }));
                }
            }
            // A process that was killed behind its last step has left it.
            remove(&[record.with_extension("lock")])?;
            whole[number] = true;
            if let Some(record) = &found {
                passed(record);
            }
        }
        Ok(None)
    }

    /// What is there, of all processes.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn totals(&self) -> Result<Totals, EvalError> {
        Totals::read(&self.root, self.count)
    }

    /// Puts whole embeddings in the place of those that they replace.
    ///
    /// # Errors
    /// When a file cannot be moved; the same run with `overwrite` goes on with it.
    pub fn finish(self) -> Result<(), EvalError> {
        let (dir, next) = (&self.dir, &self.root);
        if dir == next {
            return Ok(());
        }
        // Without settings and records, what is in between counts as nothing.
        Settings::remove(dir)?;
        remove_folder(&dir.join(RECORDS))?;
        remove(&embeddings(dir)?)?;
        let kinds = KINDS.iter().map(|(kind, _)| *kind);
        for kind in kinds.chain([RECORDS]) {
            let from = next.join(kind);
            let to = dir.join(kind);
            for file in files(&from, |_| true)? {
                fs::create_dir_all(&to).map_err(|error| EvalError::io(&to, error))?;
                let place = to.join(file.file_name().unwrap_or_default());
                fs::rename(&file, &place).map_err(|error| EvalError::io(&place, error))?;
            }
        }
        if let Some(settings) = Settings::read(next)? {
            settings.write(dir)?;
        }
        remove_folder(next)
    }

    /// Gives up embeddings of which none has a row, so that the next run begins anew.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn discard(self) -> Result<(), EvalError> {
        if self.dir != self.root {
            return remove_folder(&self.root);
        }
        Settings::remove(&self.root)?;
        remove(&embeddings(&self.root)?)?;
        remove_folder(&self.root.join(RECORDS))
    }
}

impl Claim {
    /// Says that the partition is whole.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn finish(self, record: &Record) -> Result<(), EvalError> {
        record.write(&self.record)?;
        let (path, file) = self.lock;
        remove(&[path])?;
        drop(file);
        Ok(())
    }
}

/// The arrays of a kind in a folder, each with what is said of it where it is known: those of whole partitions, or all there are of
/// another program.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) fn arrays(dir: &Path, kind: &str) -> Result<Vec<(PathBuf, Option<Array>)>, EvalError> {
    let Some(settings) = Settings::read(dir)? else {
        let is_array = |name: &str| name.ends_with(".npy");
        let found = files(&dir.join(kind), is_array)?.into_iter();
        return Ok(found.map(|path| (path, None)).collect());
    };
    let mut found = Vec::new();
    for number in 0..settings.partitions {
        let record = Record::read(&record(dir, number, settings.partitions))?;
        let array = record.map(|record| match kind {
            "img_emb" => record.images,
            _ => record.texts,
        });
        if let Some(array) = array.filter(|array| array.rows > 0) {
            let partition = Partition::new(dir, number, settings.partitions);
            found.push((partition.place(kind, "npy"), Some(array)));
        }
    }
    Ok(found)
}

/// The file that says what is in a partition.
fn record(root: &Path, number: usize, count: usize) -> PathBuf {
    let digits = count.max(1).ilog10() as usize + 1;
    root.join(RECORDS).join(format!("{number:0digits$}.json"))
}

fn open_lock(path: &Path) -> Result<File, EvalError> {
    let file = File::options().create(true).append(true).open(path);
    file.map_err(|error| EvalError::io(path, error))
}

/// Whether a lock was given.
fn taken(asked: Result<(), TryLockError>, path: &Path) -> Result<bool, EvalError> {
    match asked {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(EvalError::io(path, error)),
    }
}

/// The first file of embeddings in a folder.
fn is_used(dir: &Path) -> Result<Option<PathBuf>, EvalError> {
    Ok(embeddings(dir)?.into_iter().next())
}

/// Begins embeddings in a folder, or finds them begun with the same settings.
fn begin(dir: &Path, settings: &Settings) -> Result<(), EvalError> {
    match (Settings::read(dir)?, is_used(dir)?) {
        (Some(found), _) if found == *settings => return Ok(()),
        (Some(found), Some(_)) => return Err(other(dir, &found, settings)),
        (None, Some(file)) => {
            let file = file.strip_prefix(dir).unwrap_or(&file);
            return Err(EvalError::Taken {
                dir: dir.to_owned(),
                found: file.display().to_string(),
            });
        }
        // Nothing of another run came to its end.
        (_, None) => remove_folder(&dir.join(RECORDS))?,
    }
    remove(&begun(&Settings::path(dir))?)?;
    settings.write(dir)
}

/// The error of a folder that is for something else.
fn other(dir: &Path, found: &Settings, settings: &Settings) -> EvalError {
    EvalError::Taken {
        dir: dir.to_owned(),
        found: format!("made with {}", found.differences(settings)),
    }
}

/// Makes room for what will replace the embeddings, or goes on with it.
fn begin_next(next: &Path, settings: &Settings) -> Result<(), EvalError> {
    if Settings::read(next).ok().flatten().as_ref() == Some(settings) {
        return Ok(());
    }
    remove_folder(next)?;
    fs::create_dir_all(next).map_err(|error| EvalError::io(next, error))?;
    settings.write(next)
}

fn remove_folder(folder: &Path) -> Result<(), EvalError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(EvalError::io(folder, error))
        }
        _ => Ok(()),
    }
}
