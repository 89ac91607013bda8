//! Tables whose rows hold pictures: Parquet and Arrow files.
//!
//! Hugging Face's data sets have a structure of bytes and path, img2dataset a column of bytes, others a column of paths or
//! addresses. A unit that is read from its start to its end is a row group, or a record batch; every row is one item.
//!
//! * `parquet`, `arrow` – the two formats
//! * `schema` – which leaves of a file are read, and for what
//! * `row` – the values of a row as an item
//! * `input` – bytes by range

mod arrow;
mod input;
mod listing;
mod parquet;
mod row;
mod schema;
mod unit;

use std::any::Any;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::columns::Columns;
use crate::error::{DataError, panic_message};
use input::Input;
use schema::{Misfit, top_level};
pub(crate) use unit::Unit;

/// Files whose descriptions are read at a time.
const OPENED_AT_A_TIME: usize = 16;

/// The two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Parquet,
    Arrow,
}

/// Why a file, or a part of it, cannot be read.
#[derive(Debug)]
enum Fault {
    Io(io::Error),
    /// It is not as it should be.
    Broken(String),
    /// It has other columns than those that are wanted.
    Misfit { misfit: Misfit, columns: Vec<String> },
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Broken(reason) => f.write_str(reason),
            Self::Misfit { misfit, .. } => write!(f, "{misfit:?}"),
        }
    }
}

/// A panic of a format's reader is the file's fault, and not the run's.
fn panicked(payload: &(dyn Any + Send)) -> Fault {
    Fault::Broken(format!("damaged: {}", panic_message(payload)))
}

/// Opens files and lists their units, in the files' order. A file that cannot be read is a unit that says so.
///
/// # Errors
/// When a file lacks a column that is wanted, or none can be read.
pub(crate) fn open(
    files: &[PathBuf],
    format: Format,
    columns: &Columns,
) -> Result<Vec<Unit>, DataError> {
    let mut units = Vec::new();
    let mut first_fault = None;
    for (path, found) in files.iter().zip(open_all(files, format, columns)) {
        match found {
            Ok(found) => units.extend(found),
            Err(Fault::Misfit { misfit, columns }) => return Err(misfit.of(path, columns)),
            Err(fault) => {
                first_fault.get_or_insert_with(|| (path, fault.to_string()));
                units.push(Unit::unreadable(path, &fault));
            }
        }
    }
    let is_usable = units.iter().any(|unit| unit.len().is_some());
    match first_fault {
        Some((path, reason)) if !is_usable => Err(DataError::Table {
            path: path.clone(),
            reason,
        }),
        _ => {
            tell_many_captions(&units);
            Ok(units)
        }
    }
}

/// What each file has, found by several threads.
fn open_all(
    files: &[PathBuf],
    format: Format,
    columns: &Columns,
) -> Vec<Result<Vec<Unit>, Fault>> {
    let next = AtomicUsize::new(0);
    let opened = Mutex::new(Vec::with_capacity(files.len()));
    let work = || {
        while let Some((at, path)) = {
            let at = next.fetch_add(1, Relaxed);
            files.get(at).map(|path| (at, path))
        } {
            let found = open_file(path, format, columns);
            opened.lock().unwrap_or_else(PoisonError::into_inner).push((at, found));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..OPENED_AT_A_TIME.min(files.len()) {
            scope.spawn(work);
        }
        work();
    });
    let mut opened = opened.into_inner().unwrap_or_else(PoisonError::into_inner);
    opened.sort_by_key(|(at, _)| *at);
    opened.into_iter().map(|(_, found)| found).collect()
}

fn open_file(path: &Path, format: Format, columns: &Columns) -> Result<Vec<Unit>, Fault> {
    let input = Input::new(path);
    Ok(match format {
        Format::Parquet => {
            let groups = parquet::open(input, columns)?;
            groups.into_iter().map(Unit::RowGroup).collect()
        }
        Format::Arrow => {
            let arrow::Batches { batches, cut } = arrow::open(input, columns)?;
            let batches = batches.into_iter().map(Unit::Batch);
            batches.chain(cut.map(|reason| Unit::cut(path, reason))).collect()
        }
    })
}

/// Says once that of several captions the first is read.
fn tell_many_captions(units: &[Unit]) {
    let file = units.iter().find(|unit| unit.has_many_captions());
    if let Some(unit) = file {
        log::info!("{}: rows have lists of captions, the first of each is read", unit.file());
    }
}

impl Misfit {
    fn with(self, leaves: &[schema::Leaf]) -> Fault {
        let columns = top_level(leaves).into_iter().map(str::to_owned).collect();
        Fault::Misfit {
            misfit: self,
            columns,
        }
    }

    fn of(self, path: &Path, columns: Vec<String>) -> DataError {
        let path = path.to_owned();
        match self {
            Self::Missing { wanted } => DataError::MissingColumn {
                path,
                column: wanted,
                columns,
            },
            Self::Kind {
                column,
                found,
                expected,
            } => DataError::ColumnKind {
                path,
                column,
                found,
                expected,
            },
        }
    }
}

#[cfg(test)]
mod tests;
