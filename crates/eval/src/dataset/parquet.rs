//! Labelled pictures in Parquet files, as Hugging Face's data sets have them.
//!
//! The pictures are read as `openclip_data` reads them, every row one item; the labels are read before, by themselves.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openclip_data::source::columns::Columns;
use openclip_data::source::csv::CsvFormat;
use openclip_data::source::open::{self, OpenOptions};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::Type;
use serde_json::Value;

use super::names::Names;
use super::numbered::Numbered;
use super::targets::Dataset;
use crate::error::EvalError;

/// Columns of classes, the first there is.
const LABELS: [&str; 5] = ["label", "labels", "fine_label", "cls", "class"];

/// Opens files of one set; `None` if they have no column of classes, as those with captions.
pub(super) fn open(
    files: &[PathBuf],
    folder: &Path,
    options: &OpenOptions,
) -> Result<Option<Dataset>, EvalError> {
    let mut names = Names::beside(&[folder])?;
    let mut labels = Vec::new();
    for path in files {
        let reader = reader(path)?;
        let Some(column) = column(&reader) else {
            return Ok(None);
        };
        if names.classes.is_none() {
            names.classes = class_names(&reader, &column);
        }
        read(path, &reader, &column, &mut labels)?;
    }
    if labels.is_empty() {
        return Err(EvalError::list(folder, "no row in it"));
    }
    let list: Vec<_> = files.iter().map(|path| path.to_string_lossy()).collect();
    let options = OpenOptions {
        csv: CsvFormat {
            columns: Columns {
                needs_captions: false,
                ..options.csv.columns.clone()
            },
            ..options.csv.clone()
        },
        ..options.clone()
    };
    Ok(Some(Dataset::labelled(
        Arc::new(Numbered(open::open(&list.join("::"), &options)?.source)),
        labels,
        names,
    )))
}

fn reader(path: &Path) -> Result<SerializedFileReader<File>, EvalError> {
    let file = File::open(path).map_err(|error| EvalError::io(path, error))?;
    SerializedFileReader::new(file).map_err(|source| EvalError::Parquet {
        path: path.to_owned(),
        source,
    })
}

/// The column of whole numbers among [`LABELS`].
fn column(reader: &SerializedFileReader<File>) -> Option<String> {
    let schema = reader.metadata().file_metadata().schema();
    let is_number = |field: &Type| {
        field.is_primitive() && {
            use parquet::basic::Type::{INT32, INT64};
            matches!(field.get_physical_type(), INT32 | INT64)
        }
    };
    let mut names = LABELS.iter();
    let found = names.find(|name| {
        let mut fields = schema.get_fields().iter();
        fields.any(|field| field.name() == **name && is_number(field))
    });
    found.map(|name| (*name).to_owned())
}

/// The names of the classes that Hugging Face's library writes into the file.
fn class_names(reader: &SerializedFileReader<File>, column: &str) -> Option<Vec<String>> {
    let metadata = reader.metadata().file_metadata().key_value_metadata()?;
    let text = metadata.iter().find(|entry| entry.key == "huggingface")?;
    let info: Value = serde_json::from_str(text.value.as_deref()?).ok()?;
    serde_json::from_value(info["info"]["features"][column]["names"].clone()).ok()
}

fn read(
    path: &Path,
    reader: &SerializedFileReader<File>,
    column: &str,
    labels: &mut Vec<usize>,
) -> Result<(), EvalError> {
    let fault = |source| EvalError::Parquet {
        path: path.to_owned(),
        source,
    };
    let schema = reader.metadata().file_metadata().schema();
    let fields = schema.get_fields().iter();
    let fields = fields.filter(|field| field.name() == column).cloned();
    let projection = Type::group_type_builder(schema.name())
        .with_fields(fields.collect())
        .build()
        .map_err(fault)?;
    for (row, values) in reader
        .get_row_iter(Some(projection))
        .map_err(fault)?
        .enumerate()
    {
        let values = values.map_err(fault)?.into_columns();
        let number = values.first().and_then(|(_, field)| match field {
            Field::Byte(value) => Some(i64::from(*value)),
            Field::Short(value) => Some(i64::from(*value)),
            Field::Int(value) => Some(i64::from(*value)),
            Field::Long(value) => Some(*value),
            Field::UByte(value) => Some(i64::from(*value)),
            Field::UShort(value) => Some(i64::from(*value)),
            Field::UInt(value) => Some(i64::from(*value)),
            _ => None,
        });
        let label = number.and_then(|number| usize::try_from(number).ok());
        labels.push(label.ok_or_else(|| {
            EvalError::list(path, format!("row {row}: no {column} that counts from 0"))
        })?);
    }
    Ok(())
}
