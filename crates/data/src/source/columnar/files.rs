//! From the names of files to their units.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use super::super::columns::Columns;
use super::super::listing;
use super::super::shard::Shard;
use super::fault::Fault;
use super::input::Input;
use super::schema::{Misfit, Role};
use super::unit::Unit;
use super::{arrow, parquet};
use crate::error::DataError;
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
    pub(crate) fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Parquet => &["parquet", "pq"],
            Self::Arrow => &["arrow", "feather"],
        }
    }
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
            Err(Fault::Misfit { misfit, columns }) => {
                return Err(self::misfit(misfit, place, columns));
            }
            Err(fault) => {
                first_fault.get_or_insert_with(|| (place, fault.to_string()));
                units.push(Unit::unreadable(place, &fault));
            }
        }
    }
    let rows = units.iter().filter_map(Shard::samples).sum::<u64>();
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

/// The columns are not those that are wanted.
fn misfit(misfit: Misfit, place: &Place, columns: Vec<String>) -> DataError {
    let path = place.to_string().into();
    match misfit {
        Misfit::Missing { wanted } => DataError::MissingColumn {
            path,
            column: wanted,
            columns,
        },
        Misfit::Kind {
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
