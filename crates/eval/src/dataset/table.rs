//! CSV files: pictures with a class, a caption, or captions to choose from.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use openclip_data::source::Item;
use openclip_data::source::columns::Columns;
use openclip_data::source::csv::{Csv, CsvFormat};
use openclip_data::source::open::OpenOptions;
use openclip_data::source::table::Table;

use super::names::Names;
use super::pictures::{Bytes, Pictures};
use super::rows::{self, Row};
use super::{Dataset, Labels, Targets, choices};
use crate::error::EvalError;

/// Columns of classes, the first there is.
const LABELS: [&str; 6] = ["label", "labels", "class", "cls", "class_name", "target"];
/// Longest header.
const MAX_HEADER: u64 = 1 << 20;

/// A CSV file whose header was read.
pub(super) struct Sheet<'a> {
    path: &'a Path,
    format: CsvFormat,
    columns: Vec<String>,
}

impl<'a> Sheet<'a> {
    /// Reads the header. A separator that is not in it gives way to a comma or a semicolon that is.
    fn open(path: &'a Path, options: &OpenOptions) -> Result<Self, EvalError> {
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

/// Opens a CSV file by its columns.
pub(super) fn open(path: &Path, options: &OpenOptions) -> Result<Dataset, EvalError> {
    let sheet = Sheet::open(path, options)?;
    if let Some(set) = choices::of_sheet(&sheet)? {
        return Ok(set);
    }
    let is_captioned = options.csv.columns.caption.is_some();
    let label = LABELS.iter().find_map(|name| sheet.column(name));
    match label.filter(|_| !is_captioned) {
        Some(label) => labelled(&sheet, label),
        None => rows::captioned(&sheet.what(), sheet.rows(None, None)?, true),
    }
}

/// Pictures with the number or the name of a class.
fn labelled(sheet: &Sheet<'_>, column: &str) -> Result<Dataset, EvalError> {
    let fail = |problem: String| EvalError::list(sheet.path, problem);
    let folder = sheet.path.parent().unwrap_or(Path::new(""));
    let mut names = Names::beside(&[folder])?;
    let rows = sheet.rows(None, Some(column))?;
    let mut pictures = Pictures::new(sheet.what());
    let mut texts = Vec::with_capacity(rows.len());
    for (row, (name, image, text)) in rows.into_iter().enumerate() {
        let text = text.ok_or_else(|| fail(format!("row {}: no {column}", row + 1)))?;
        texts.push(text.trim().to_owned());
        pictures.push(name, Bytes::Whole(image));
    }
    if texts.is_empty() {
        return Err(fail("no row in it".into()));
    }
    let is_number = |text: &String| text.parse::<usize>().is_ok();
    let numbers = texts.iter().all(is_number);
    if names.classes.is_none() && !numbers {
        let sorted: BTreeSet<&String> = texts.iter().collect();
        names.classes = Some(sorted.into_iter().cloned().collect());
    }
    let label = |(row, text): (usize, &String)| match &names.classes {
        Some(classes) if !numbers => {
            classes
                .iter()
                .position(|class| class == text)
                .ok_or_else(|| {
                    fail(format!(
                        "row {}: {text:?} is none of the {} class names in classnames.txt",
                        row + 1,
                        classes.len()
                    ))
                })
        }
        _ => text
            .parse()
            .map_err(|_| fail(format!("row {}: the class {text:?} is no number", row + 1))),
    };
    let labels: Vec<usize> = texts
        .iter()
        .enumerate()
        .map(label)
        .collect::<Result<_, _>>()?;
    Ok(Dataset {
        len: labels.len(),
        pictures: Arc::new(pictures),
        targets: Targets::Labels {
            labels: Labels::One(labels),
            names,
        },
    })
}
