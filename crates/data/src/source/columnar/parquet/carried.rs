//! Columns that are neither pictures nor captions, and go along with them.

use std::sync::Arc;

use parquet::basic::Type;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::schema::types::ColumnDescPtr;

use super::super::super::fields::Field;
use super::super::fault::Fault;
use super::super::schema::{Kind, Leaf};

/// Whether a leaf of a file can go along: text, a number, yes or no, one of them for each row.
pub(super) fn can_be(leaf: &Leaf, column: &ColumnDescPtr) -> bool {
    let is_number = matches!(
        column.physical_type(),
        Type::BOOLEAN | Type::INT32 | Type::INT64 | Type::FLOAT | Type::DOUBLE
    );
    !leaf.is_list && (leaf.kind == Kind::Text || is_number)
}

/// One such column of a row group.
pub(super) struct CarriedValues {
    pub name: Arc<str>,
    pub reader: ColumnReader,
    /// The level of a value that is there.
    pub level: i16,
}

impl CarriedValues {
    /// Passes over some rows and reads those behind them.
    pub fn read(&mut self, skipped: usize, count: usize) -> Result<Vec<Option<Field>>, Fault> {
        let level = self.level;
        let text = |bytes: &parquet::data_type::ByteArray| {
            Field::Text(String::from_utf8_lossy(bytes.data()).into_owned())
        };
        let found = match &mut self.reader {
            ColumnReader::BoolColumnReader(reader) => {
                read(reader, level, skipped, count, |x| Field::Bool(*x))
            }
            ColumnReader::Int32ColumnReader(reader) => {
                read(reader, level, skipped, count, |x| Field::Int(i64::from(*x)))
            }
            ColumnReader::Int64ColumnReader(reader) => {
                read(reader, level, skipped, count, |x| Field::Int(*x))
            }
            ColumnReader::FloatColumnReader(reader) => read(reader, level, skipped, count, |x| {
                Field::Float(f64::from(*x))
            }),
            ColumnReader::DoubleColumnReader(reader) => {
                read(reader, level, skipped, count, |x| Field::Float(*x))
            }
            ColumnReader::ByteArrayColumnReader(reader) => {
                read(reader, level, skipped, count, text)
            }
            _ => Ok(vec![None; count]),
        }?;
        match found.len() == count {
            true => Ok(found),
            false => Err(Fault::Broken(format!(
                "column {} has fewer rows than its row group",
                self.name
            ))),
        }
    }
}

fn read<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    there: i16,
    skipped: usize,
    count: usize,
    field: impl Fn(&T::T) -> Field,
) -> Result<Vec<Option<Field>>, Fault> {
    reader.skip_records(skipped)?;
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    let mut read = 0;
    while read < count {
        let (records, ..) =
            reader.read_records(count - read, Some(&mut levels), None, &mut values)?;
        if records == 0 {
            break;
        }
        read += records;
    }
    let mut values = values.iter();
    let value = |row| match levels.get(row) {
        Some(level) if *level != there => None,
        _ => values.next().map(&field),
    };
    Ok((0..read).map(value).collect())
}
