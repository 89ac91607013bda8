//! What is read from its start to its end: a row group, a record batch, or the word on a file that has none.

use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Arc;

use super::super::{Item, Problem, ProblemKind};
use super::row::Rows;
use super::{Fault, arrow, parquet};

/// A part of a data set.
#[derive(Debug)]
pub(crate) enum Unit {
    RowGroup(parquet::RowGroup),
    Batch(arrow::Batch),
    /// A file that cannot be read, or not to its end.
    Broken(Problem),
}

impl Unit {
    pub(super) fn unreadable(path: &Path, fault: &Fault) -> Self {
        Self::broken(path, ProblemKind::UnreadableShard, fault.to_string())
    }

    pub(super) fn cut(path: &Path, reason: String) -> Self {
        Self::broken(path, ProblemKind::TruncatedShard, reason)
    }

    fn broken(path: &Path, kind: ProblemKind, reason: String) -> Self {
        Self::Broken(Problem {
            kind,
            place: path.display().to_string(),
            reason,
        })
    }

    fn rows(&self) -> Option<&Rows> {
        match self {
            Self::RowGroup(group) => Some(&group.file.rows),
            Self::Batch(batch) => Some(&batch.file.rows),
            Self::Broken(_) => None,
        }
    }

    /// The file that it is of.
    pub fn file(&self) -> Arc<str> {
        match self {
            Self::Broken(problem) => problem.place.as_str().into(),
            _ => self.rows().map(|rows| Arc::clone(&rows.file)).unwrap_or_default(),
        }
    }

    /// What tells it from others of the file.
    pub fn number(&self) -> usize {
        match self {
            Self::RowGroup(group) => group.number,
            Self::Batch(batch) => batch.number,
            Self::Broken(_) => usize::MAX,
        }
    }

    /// How many rows it has; `None` where nothing can be read.
    pub fn len(&self) -> Option<u64> {
        match self {
            Self::RowGroup(group) => Some(group.len),
            Self::Batch(batch) => Some(batch.len),
            Self::Broken(_) => None,
        }
    }

    pub(super) fn has_many_captions(&self) -> bool {
        self.rows().is_some_and(|rows| rows.selection.has_many_captions)
    }

    /// Pushes the items of some rows, given by ascending ranges of their numbers within the unit. Each row is one item, also
    /// where the file cannot be read on.
    pub fn read(
        &self,
        ranges: impl IntoIterator<Item = Range<u64>>,
        push: &mut dyn FnMut(u64, Item) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        match self {
            Self::RowGroup(group) => group.read(ranges, push),
            Self::Batch(batch) => batch.read(ranges, push),
            Self::Broken(problem) => push(0, Item::Problem(problem.clone())),
        }
    }
}
