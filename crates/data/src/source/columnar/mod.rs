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
mod parquet;
mod row;
mod schema;
mod unit;

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use self::input::Input;
use self::schema::{Misfit, Role, top_level};
pub(crate) use self::unit::Unit;
use super::columns::Columns;
use super::listing;
use super::sharded::Shard;
use crate::error::{DataError, panic_message};
use crate::storage::Place;

/// Files whose descriptions are read at a time.
const OPENED_AT_A_TIME: usize = 16;

/// The two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Parquet,
    Arrow,
}

impl Format {
    /// Of the files in a folder.
    fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Parquet => &["parquet", "pq"],
            Self::Arrow => &["arrow", "feather"],
        }
    }
}

/// Why a file, or a part of it, cannot be read.
#[derive(Debug)]
enum Fault {
    Io(io::Error),
    /// It is not as it should be.
    Broken(String),
    /// It has other columns than those that are wanted.
    Misfit {
        misfit: Misfit,
        columns: Vec<String>,
    },
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

/// The rows of files.
pub(crate) struct Opened {
    pub units: Vec<Unit>,
    /// Whether they hold pictures, and not only paths or addresses of them.
    pub has_pictures: bool,
    /// Whether they hold captions.
    pub is_captioned: bool,
}

/// Opens the files that `spec` stands for: one, or several by braces, `*` or their folder. Units are in the order of the files; a
/// file that cannot be read is a unit that says so.
///
/// # Errors
/// When a file lacks a column that is wanted, none can be read, or there is no row.
pub(crate) fn open(spec: &str, format: Format, columns: &Columns) -> Result<Opened, DataError> {
    let places = listing::files(spec, format.extensions())?;
    let mut units = Vec::new();
    let mut first_fault = None;
    for (place, found) in places.iter().zip(open_all(&places, format, columns)) {
        match found {
            Ok(found) => units.extend(found),
            Err(Fault::Misfit { misfit, columns }) => return Err(misfit.of(place, columns)),
            Err(fault) => {
                first_fault.get_or_insert_with(|| (place, fault.to_string()));
                units.push(Unit::unreadable(place, &fault));
            }
        }
    }
    let rows = units.iter().filter_map(Shard::len).sum::<u64>();
    if rows == 0 {
        let none = || (&places[0], "no row in it".to_owned());
        let (place, reason) = first_fault.unwrap_or_else(none);
        return Err(DataError::Table {
            path: place.to_string().into(),
            reason,
        });
    }
    let selections = || {
        units
            .iter()
            .filter_map(Unit::rows)
            .map(|rows| (rows, &rows.selection))
    };
    if let Some((rows, _)) = selections().find(|(_, selection)| selection.has_many_captions) {
        log::info!(
            "{}: rows have lists of captions; the first of each is read",
            rows.file
        );
    }
    let opened = Opened {
        has_pictures: selections().any(|(_, selection)| selection.leaf(Role::Bytes).is_some()),
        is_captioned: selections().any(|(_, selection)| selection.leaf(Role::Caption).is_some()),
        units: Vec::new(),
    };
    Ok(Opened { units, ..opened })
}

/// What each file has, found by several threads.
fn open_all(places: &[Place], format: Format, columns: &Columns) -> Vec<Result<Vec<Unit>, Fault>> {
    let next = AtomicUsize::new(0);
    let opened = Mutex::new(Vec::with_capacity(places.len()));
    let work = || {
        while let Some((at, place)) = {
            let at = next.fetch_add(1, Relaxed);
            places.get(at).map(|place| (at, place))
        } {
            let found = open_file(place, format, columns);
            let mut opened = opened.lock().unwrap_or_else(PoisonError::into_inner);
            opened.push((at, found));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..OPENED_AT_A_TIME.min(places.len()) {
            scope.spawn(work);
        }
        work();
    });
    let mut opened = opened.into_inner().unwrap_or_else(PoisonError::into_inner);
    opened.sort_by_key(|(at, _)| *at);
    opened.into_iter().map(|(_, found)| found).collect()
}

fn open_file(place: &Place, format: Format, columns: &Columns) -> Result<Vec<Unit>, Fault> {
    let input = Input(place.clone());
    Ok(match format {
        Format::Parquet => {
            let groups = parquet::open(input, columns)?;
            groups.into_iter().map(Unit::from).collect()
        }
        Format::Arrow => {
            let arrow::Batches { batches, cut } = arrow::open(input, columns)?;
            let batches = batches.into_iter().map(Unit::from);
            batches
                .chain(cut.map(|reason| Unit::cut(place, reason)))
                .collect()
        }
    })
}

impl Misfit {
    fn with(self, leaves: &[schema::Leaf]) -> Fault {
        let columns = top_level(leaves).into_iter().map(str::to_owned).collect();
        Fault::Misfit {
            misfit: self,
            columns,
        }
    }

    fn of(self, place: &Place, columns: Vec<String>) -> DataError {
        let path = place.to_string().into();
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
