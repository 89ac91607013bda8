//! A CSV file whose header was read, so that it is known which columns there are.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use openclip_data::source::Item;
use openclip_data::source::columns::Columns;
use openclip_data::source::csv::{Csv, CsvFormat};
use openclip_data::source::open::OpenOptions;
use openclip_data::source::table::Table;

use super::rows::Row;
use crate::error::EvalError;

/// Longest header.
const MAX_HEADER: u64 = 1 << 20;

/// A CSV file whose header was read.
pub(super) struct Sheet<'a> {
    /// The file.
    pub path: &'a Path,
    format: CsvFormat,
    columns: Vec<String>,
}

impl<'a> Sheet<'a> {
    /// Reads the header. A separator that is not in it gives way to a comma or a semicolon that is.
    pub fn open(path: &'a Path, options: &OpenOptions) -> Result<Self, EvalError> {
        let io = |error| EvalError::io(path, error);
        let file = File::open(path).map_err(io)?;
        let mut line = Vec::new();
        BufReader::new(file.take(MAX_HEADER))
            .read_until(b'\n', &mut line)
            .map_err(io)?;
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_start_matches('\u{feff}').trim_end();
        let mut format = options.csv.clone();
        if !line.contains(&format.separator)
            && let Some(other) = [",", ";", "\t"].iter().find(|other| line.contains(**other))
        {
            format.separator = (*other).to_owned();
        }
        let columns = line.split(format.separator.as_str());
        let columns = columns.map(|name| name.trim().trim_matches('"').to_owned());
        Ok(Self {
            path,
            columns: columns.collect(),
            format,
        })
    }

    /// The column of this name, in any case.
    pub fn column(&self, name: &str) -> Option<&str> {
        let mut columns = self.columns.iter().map(String::as_str);
        columns.find(|column| column.eq_ignore_ascii_case(name))
    }

    /// Every row's picture, by the column `image` or the usual one, with the text of `text` or the usual column of captions.
    pub fn rows(&self, image: Option<&str>, text: Option<&str>) -> Result<Vec<Row>, EvalError> {
        let given = &self.format.columns;
        let format = CsvFormat {
            separator: self.format.separator.clone(),
            columns: Columns {
                image: image.map(str::to_owned).or_else(|| given.image.clone()),
                caption: text.map(str::to_owned).or_else(|| given.caption.clone()),
                needs_captions: true,
                carried: false,
            },
        };
        let csv = Csv::open(self.path, &format)?;
        let rows = (0..csv.len()).filter_map(|index| match csv.item(index) {
            Item::Sample(sample) => Some((sample.name, sample.image, sample.caption)),
            Item::Problem(_) => None,
        });
        Ok(rows.collect())
    }

    /// What the rows are of, for messages.
    pub fn what(&self) -> String {
        self.path.display().to_string()
    }
}
