//! CSV files: pictures with a class, a caption, or captions to choose from.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use openclip_data::source::open::OpenOptions;

use super::choices;
use super::names::Names;
use super::pictures::{Bytes, Pictures};
use super::rows;
use super::sheet::Sheet;
use super::targets::Dataset;
use crate::error::EvalError;

/// Columns of classes, the first there is.
const LABELS: [&str; 6] = ["label", "labels", "class", "cls", "class_name", "target"];

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
    Ok(Dataset::labelled(Arc::new(pictures), labels, names))
}
