//! Columns that are neither pictures nor captions.

use std::io;
use std::sync::Arc;

use super::super::fields::{Field, Fields};
use super::rows::Row;

/// The values of such columns, end to end.
#[derive(Clone, Debug, Default)]
pub(super) struct Others {
    /// Name and place of each column.
    columns: Vec<(Arc<str>, usize)>,
    text: String,
    /// Where the values of each row end, one after the other.
    ends: Vec<usize>,
}

impl Others {
    /// All columns of a header but those that are `used`.
    pub fn new(names: &[&str], used: impl Fn(usize) -> bool) -> Self {
        let others = names
            .iter()
            .enumerate()
            .filter(|(column, _)| !used(*column));
        Self {
            columns: others
                .map(|(column, name)| ((*name).into(), column))
                .collect(),
            ..Self::default()
        }
    }

    /// # Errors
    /// When a field is not UTF-8.
    pub fn add(&mut self, row: &Row) -> io::Result<()> {
        for (_, column) in &self.columns {
            self.text.push_str(row.field(*column)?);
            self.ends.push(self.text.len());
        }
        Ok(())
    }

    /// The values of a row; an empty field is none.
    pub fn of(&self, row: usize) -> Fields {
        let first = row * self.columns.len();
        let field = |(at, (name, _)): (usize, &(Arc<str>, usize))| {
            let at = first + at;
            let start = if at == 0 { 0 } else { self.ends[at - 1] };
            let text = &self.text[start..self.ends[at]];
            let value = (!text.is_empty()).then(|| Field::Text(text.to_owned()));
            (Arc::clone(name), value)
        };
        self.columns.iter().enumerate().map(field).collect()
    }
}
