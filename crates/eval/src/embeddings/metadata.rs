//! The parquet table beside the arrays: `image_path` and `caption`, both nullable strings, and behind them the columns that the
//! source carries along.

use std::path::PathBuf;
use std::sync::Arc;

use openclip_data::source::{Field, Fields};
use openclip_model::files::atomic::AtomicFile;
use parquet::basic::{Compression, ConvertedType, Repetition, Type as Physical};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use crate::error::EvalError;

/// Rows per row group.
const GROUP: usize = 1 << 16;
/// The columns that every table has.
const PATH: &str = "image_path";
const CAPTION: &str = "caption";

/// The rows of a partition, which are written when all are there.
pub(super) struct Metadata {
    path: PathBuf,
    image_paths: Vec<Option<Field>>,
    captions: Vec<Option<Field>>,
    others: Vec<(Arc<str>, Vec<Option<Field>>)>,
    /// Rows that brought their columns.
    described: usize,
}

impl Metadata {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            image_paths: Vec::new(),
            captions: Vec::new(),
            others: Vec::new(),
            described: 0,
        }
    }

    pub(super) fn image_paths<S: AsRef<str>>(&mut self, paths: &[S]) {
        let text = |path: &S| Some(Field::Text(path.as_ref().to_owned()));
        self.image_paths.extend(paths.iter().map(text));
    }

    pub(super) fn captions<S: AsRef<str>>(&mut self, captions: &[Option<S>]) {
        let text = |text: &S| Field::Text(text.as_ref().to_owned());
        let captions = captions.iter().map(|caption| caption.as_ref().map(text));
        self.captions.extend(captions);
    }

    /// What the next pictures bring. A column that a row does not name is null there.
    pub(super) fn fields(&mut self, rows: impl IntoIterator<Item = Fields>) {
        for fields in rows {
            for (name, value) in fields {
                if [PATH, CAPTION].contains(&name.as_ref()) {
                    continue;
                }
                let at = self.others.iter().position(|(known, _)| *known == name);
                let at = at.unwrap_or_else(|| {
                    self.others.push((name, Vec::new()));
                    self.others.len() - 1
                });
                let values = &mut self.others[at].1;
                values.resize(self.described, None);
                values.push(value);
            }
            self.described += 1;
        }
    }

    /// Writes the file. A column that is shorter than the others ends in nulls.
    pub(super) fn finish(self) -> Result<(), EvalError> {
        let rows = self.image_paths.len().max(self.captions.len());
        let own = [
            (PATH.into(), self.image_paths),
            (CAPTION.into(), self.captions),
        ];
        let columns = own
            .into_iter()
            .enumerate()
            .chain(self.others.into_iter().map(|other| (2, other)));
        let columns = columns.map(|(at, (name, mut values))| {
            values.resize(rows, None);
            Column {
                kind: match at {
                    0 | 1 => Kind::Text,
                    _ => Kind::of(&values),
                },
                name,
                values,
            }
        });
        let columns: Vec<Column> = columns.collect();
        let file = AtomicFile::create(&self.path);
        let file = file.map_err(|error| EvalError::io(&self.path, error))?;
        let written = write(file, rows, &columns).map_err(|source| EvalError::Parquet {
            path: self.path.clone(),
            source,
        })?;
        written
            .finish()
            .map_err(|error| EvalError::io(&self.path, error))
    }
}

struct Column {
    name: Arc<str>,
    kind: Kind,
    values: Vec<Option<Field>>,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bool,
    Int,
    Float,
    Text,
}

impl Kind {
    /// The narrowest kind that holds all values; text, where there are none or they do not go together.
    fn of(values: &[Option<Field>]) -> Self {
        let kinds = values.iter().flatten().map(|value| match value {
            Field::Bool(_) => Self::Bool,
            Field::Int(_) => Self::Int,
            Field::Float(_) => Self::Float,
            Field::Text(_) => Self::Text,
        });
        let joined = kinds.reduce(|one, two| match (one, two) {
            (one, two) if one == two => one,
            (Self::Int, Self::Float) | (Self::Float, Self::Int) => Self::Float,
            _ => Self::Text,
        });
        joined.unwrap_or(Self::Text)
    }

    fn column(self, name: &str) -> Result<Arc<Type>, ParquetError> {
        let physical = match self {
            Self::Bool => Physical::BOOLEAN,
            Self::Int => Physical::INT64,
            Self::Float => Physical::DOUBLE,
            Self::Text => Physical::BYTE_ARRAY,
        };
        let column =
            Type::primitive_type_builder(name, physical).with_repetition(Repetition::OPTIONAL);
        let column = match self {
            Self::Text => column.with_converted_type(ConvertedType::UTF8),
            _ => column,
        };
        Ok(Arc::new(column.build()?))
    }
}

fn write(file: AtomicFile, rows: usize, columns: &[Column]) -> Result<AtomicFile, ParquetError> {
    let fields = columns
        .iter()
        .map(|column| column.kind.column(&column.name));
    let schema = Type::group_type_builder("schema").with_fields(fields.collect::<Result<_, _>>()?);
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY);
    let schema = Arc::new(schema.build()?);
    let mut file = SerializedFileWriter::new(file, schema, Arc::new(properties.build()))?;
    for start in (0..rows).step_by(GROUP) {
        let end = rows.min(start + GROUP);
        let mut group = file.next_row_group()?;
        for column in columns {
            let missing = || ParquetError::General("fewer columns than the table has".to_owned());
            let mut writer = group.next_column()?.ok_or_else(missing)?;
            let values = &column.values[start..end];
            // Whether there is a value (1) or not (0).
            let levels: Vec<i16> = values
                .iter()
                .map(|value| i16::from(value.is_some()))
                .collect();
            let (there, levels) = (values.iter().flatten(), Some(levels.as_slice()));
            match writer.untyped() {
                ColumnWriter::BoolColumnWriter(writer) => {
                    let values: Vec<bool> =
                        there.map(|value| *value == Field::Bool(true)).collect();
                    writer.write_batch(&values, levels, None)?;
                }
                ColumnWriter::Int64ColumnWriter(writer) => {
                    let whole = |value: &Field| match value {
                        Field::Int(value) => *value,
                        _ => 0,
                    };
                    writer.write_batch(&there.map(whole).collect::<Vec<i64>>(), levels, None)?;
                }
                ColumnWriter::DoubleColumnWriter(writer) => {
                    let number = |value: &Field| match value {
                        Field::Int(value) => *value as f64,
                        Field::Float(value) => *value,
                        _ => f64::NAN,
                    };
                    writer.write_batch(&there.map(number).collect::<Vec<f64>>(), levels, None)?;
                }
                ColumnWriter::ByteArrayColumnWriter(writer) => {
                    let values: Vec<ByteArray> = there.map(text).collect();
                    writer.write_batch(&values, levels, None)?;
                }
                _ => return Err(missing()),
            }
            writer.close()?;
        }
        group.close()?;
    }
    file.into_inner()
}

fn text(value: &Field) -> ByteArray {
    match value {
        Field::Text(text) => text.as_str().into(),
        Field::Bool(value) => value.to_string().as_str().into(),
        Field::Int(value) => value.to_string().as_str().into(),
        Field::Float(value) => value.to_string().as_str().into(),
    }
}
