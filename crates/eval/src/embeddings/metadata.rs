//! The parquet table beside the arrays: `image_path` and `caption`, both nullable strings.

use std::path::PathBuf;
use std::sync::Arc;

use openclip_model::files::atomic::AtomicFile;
use parquet::basic::Compression;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use crate::error::EvalError;

const SCHEMA: &str =
    "message schema { OPTIONAL BYTE_ARRAY image_path (UTF8); OPTIONAL BYTE_ARRAY caption (UTF8); }";

/// Rows per row group.
const GROUP: usize = 1 << 16;

/// The rows of a partition, which are written when all are there.
pub(super) struct Metadata {
    path: PathBuf,
    image_paths: Vec<Option<String>>,
    captions: Vec<Option<String>>,
}

impl Metadata {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            image_paths: Vec::new(),
            captions: Vec::new(),
        }
    }

    pub(super) fn image_paths<S: AsRef<str>>(&mut self, paths: &[S]) {
        let owned = paths.iter().map(|path| Some(path.as_ref().to_owned()));
        self.image_paths.extend(owned);
    }

    pub(super) fn captions<S: AsRef<str>>(&mut self, captions: &[Option<S>]) {
        let owned = |caption: &Option<S>| caption.as_ref().map(|text| text.as_ref().to_owned());
        self.captions.extend(captions.iter().map(owned));
    }

    /// Writes the file. A column that is shorter than the other ends in nulls.
    pub(super) fn finish(mut self) -> Result<(), EvalError> {
        let rows = self.image_paths.len().max(self.captions.len());
        self.image_paths.resize(rows, None);
        self.captions.resize(rows, None);
        let file = AtomicFile::create(&self.path);
        let file = file.map_err(|error| EvalError::io(&self.path, error))?;
        let columns = [&self.image_paths, &self.captions];
        let written = write(file, rows, &columns).map_err(|source| EvalError::Parquet {
            path: self.path.clone(),
            source,
        })?;
        written
            .finish()
            .map_err(|error| EvalError::io(&self.path, error))
    }
}

fn write(
    file: AtomicFile,
    rows: usize,
    columns: &[&Vec<Option<String>>],
) -> Result<AtomicFile, ParquetError> {
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY);
    let mut file = SerializedFileWriter::new(file, schema, Arc::new(properties.build()))?;
    for start in (0..rows).step_by(GROUP) {
        let end = rows.min(start + GROUP);
        let mut group = file.next_row_group()?;
        for column in columns {
            let missing = || ParquetError::General("fewer columns than the table has".to_owned());
            let mut writer = group.next_column()?.ok_or_else(missing)?;
            let (values, levels) = values(&column[start..end]);
            if let ColumnWriter::ByteArrayColumnWriter(writer) = writer.untyped() {
                writer.write_batch(&values, Some(&levels), None)?;
            }
            writer.close()?;
        }
        group.close()?;
    }
    file.into_inner()
}

/// The strings that are there, and for each row whether one is (1) or not (0).
fn values(column: &[Option<String>]) -> (Vec<ByteArray>, Vec<i16>) {
    let levels = column.iter().map(|text| i16::from(text.is_some()));
    let values = column.iter().flatten().map(|text| text.as_str().into());
    (values.collect(), levels.collect())
}
