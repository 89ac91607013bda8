//! The metadata of a partition: single rows of a parquet file, or one column of all.

use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::basic::{ConvertedType, LogicalType};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;
use serde_json::{Map, Value};

use crate::error::EvalError;

/// Names that the elements of a list have in the files of different writers.
const ELEMENTS: [&str; 6] = ["list", "element", "item", "bag", "array", "array_element"];

pub(super) struct Table {
    path: PathBuf,
    reader: SerializedFileReader<File>,
}

impl Table {
    pub(super) fn open(path: &Path) -> Result<Self, EvalError> {
        let file = File::open(path).map_err(|error| EvalError::io(path, error))?;
        Ok(Self {
            path: path.to_owned(),
            reader: SerializedFileReader::new(file).map_err(|source| EvalError::Parquet {
                path: path.to_owned(),
                source,
            })?,
        })
    }

    fn lines(&self) -> usize {
        let metadata = self.reader.metadata().file_metadata();
        usize::try_from(metadata.num_rows()).unwrap_or_default()
    }

    /// Names of the columns.
    pub(super) fn columns(&self) -> Vec<String> {
        let schema = self.reader.metadata().file_metadata().schema_descr();
        schema.columns().iter().map(|column| name(column)).collect()
    }

    /// The line of each of `rows` vectors, which have one in `column`; `None` where every line has one.
    pub(super) fn places(
        &self,
        column: &str,
        rows: usize,
    ) -> Result<Option<Vec<usize>>, EvalError> {
        if self.lines() == rows {
            return Ok(None);
        }
        let cells = self.column(column)?.unwrap_or_default();
        let places = cells.iter().enumerate().filter(|(_, cell)| !cell.is_null());
        let places: Vec<usize> = places.map(|(line, _)| line).collect();
        match places.len() == rows {
            true => Ok(Some(places)),
            false => Err(EvalError::Metadata {
                path: self.path.clone(),
                reason: format!(
                    "{} lines, {} of them with a value in column {column}, for {rows} vectors",
                    self.lines(),
                    places.len()
                ),
            }),
        }
    }

    /// All values of a column; `None` where there is no such column.
    pub(super) fn column(&self, column: &str) -> Result<Option<Vec<Value>>, EvalError> {
        let schema = self.reader.metadata().file_metadata().schema_descr();
        let Some(at) = schema
            .columns()
            .iter()
            .position(|leaf| name(leaf) == column)
        else {
            return Ok(None);
        };
        let read = || {
            let mut cells = Vec::with_capacity(self.lines());
            for group in 0..self.reader.num_row_groups() {
                let group = self.reader.get_row_group(group)?;
                let lines = usize::try_from(group.metadata().num_rows()).unwrap_or_default();
                cells.extend(values(group.as_ref(), at, &[(0, lines)])?);
            }
            Ok(cells)
        };
        read().map(Some).map_err(|source| self.failed(source))
    }

    /// Some lines, which ascend, each with the values of all columns that are text, numbers, or yes and no.
    pub(super) fn rows(&self, lines: &[usize]) -> Result<Vec<Map<String, Value>>, EvalError> {
        let mut found = vec![Map::new(); lines.len()];
        let mut first = 0;
        for group in 0..self.reader.num_row_groups() {
            let group = self.reader.get_row_group(group);
            let group = group.map_err(|source| self.failed(source))?;
            let rows = usize::try_from(group.metadata().num_rows()).unwrap_or_default();
            let from = lines.partition_point(|line| *line < first);
            let to = lines.partition_point(|line| *line < first + rows);
            let wanted: Vec<_> = lines[from..to]
                .iter()
                .map(|line| (line - first, 1))
                .collect();
            first += rows;
            if wanted.is_empty() {
                continue;
            }
            for (at, column) in self.columns().into_iter().enumerate() {
                let cells = values(group.as_ref(), at, &wanted);
                let cells = cells.map_err(|source| self.failed(source))?;
                for (line, cell) in found[from..to].iter_mut().zip(cells) {
                    line.insert(column.clone(), cell);
                }
            }
        }
        match lines.last() {
            Some(last) if *last >= first => Err(EvalError::Metadata {
                path: self.path.clone(),
                reason: format!("{first} lines, and line {last} is wanted"),
            }),
            _ => Ok(found),
        }
    }

    fn failed(&self, source: ParquetError) -> EvalError {
        EvalError::Parquet {
            path: self.path.clone(),
            source,
        }
    }
}

fn name(column: &ColumnDescriptor) -> String {
    let parts = column.path().parts().iter().enumerate();
    let is_list = column.max_rep_level() > 0;
    let parts =
        parts.filter(|(at, part)| *at == 0 || !is_list || !ELEMENTS.contains(&part.as_str()));
    let parts: Vec<&str> = parts.map(|(_, part)| part.as_str()).collect();
    parts.join(".")
}

/// The values of a column in stretches of lines, given by their first line and length.
fn values(
    group: &dyn RowGroupReader,
    at: usize,
    wanted: &[(usize, usize)],
) -> Result<Vec<Value>, ParquetError> {
    let column = group.metadata().column(at).column_descr_ptr();
    match group.get_column_reader(at)? {
        ColumnReader::BoolColumnReader(reader) => read(reader, &column, wanted, |x| (*x).into()),
        ColumnReader::Int32ColumnReader(reader) => read(reader, &column, wanted, |x| (*x).into()),
        ColumnReader::Int64ColumnReader(reader) => read(reader, &column, wanted, |x| (*x).into()),
        ColumnReader::FloatColumnReader(reader) => read(reader, &column, wanted, |x| {
            // The shortest number that is this float.
            x.to_string()
                .parse::<f64>()
                .map_or(Value::Null, Value::from)
        }),
        ColumnReader::DoubleColumnReader(reader) => read(reader, &column, wanted, |x| (*x).into()),
        ColumnReader::ByteArrayColumnReader(reader) if is_text(&column) => {
            read(reader, &column, wanted, |x| {
                String::from_utf8_lossy(x.data()).into_owned().into()
            })
        }
        _ => Ok(vec![
            Value::Null;
            wanted.iter().map(|(_, count)| count).sum()
        ]),
    }
}

fn is_text(column: &ColumnDescriptor) -> bool {
    matches!(
        column.converted_type(),
        ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON
    ) || matches!(
        column.logical_type_ref(),
        Some(LogicalType::String | LogicalType::Enum | LogicalType::Json)
    )
}

fn read<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    column: &ColumnDescriptor,
    wanted: &[(usize, usize)],
    value: impl Fn(&T::T) -> Value,
) -> Result<Vec<Value>, ParquetError> {
    let mut cells = Vec::new();
    let mut line = 0;
    for (first, count) in wanted {
        let (mut definitions, mut repetitions, mut values) = (Vec::new(), Vec::new(), Vec::new());
        reader.skip_records(first - line)?;
        let mut read = 0;
        while read < *count {
            let (records, _, _) = reader.read_records(
                count - read,
                Some(&mut definitions),
                Some(&mut repetitions),
                &mut values,
            )?;
            if records == 0 {
                return Err(ParquetError::EOF("a column ends before its rows do".into()));
            }
            read += records;
        }
        line = first + count;
        let mut values = values.iter();
        let levels = definitions
            .len()
            .max(repetitions.len())
            .max(match column.max_def_level() {
                0 => *count,
                _ => 0,
            });
        for level in 0..levels {
            let definition = definitions.get(level);
            let is_there = definition.is_none_or(|level| *level == column.max_def_level());
            let found = match is_there {
                true => values.next().map_or(Value::Null, &value),
                false => Value::Null,
            };
            match (repetitions.get(level), cells.last_mut()) {
                (Some(1..), Some(Value::Array(list))) => list.push(found),
                _ if column.max_rep_level() > 0 && is_there => cells.push(vec![found].into()),
                _ => cells.push(found),
            }
        }
    }
    Ok(cells)
}
