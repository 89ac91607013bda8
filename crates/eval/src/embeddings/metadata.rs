//! The parquet table beside the arrays: `image_path` and `caption`, both nullable strings.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use openclip_model::files::atomic::AtomicFile;
use parquet::basic::Compression;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::contents::Contents;
use crate::error::EvalError;

const SCHEMA: &str =
    "message schema { OPTIONAL BYTE_ARRAY image_path (UTF8); OPTIONAL BYTE_ARRAY caption (UTF8); }";

/// Rows per row group: the most strings held in memory while both columns arrive in step.
const GROUP: usize = 1 << 16;

pub(super) struct MetadataWriter {
    file: SerializedFileWriter<AtomicFile>,
    contents: Contents,
    image_paths: VecDeque<Option<String>>,
    captions: VecDeque<Option<String>>,
}

impl MetadataWriter {
    pub(super) fn create(path: &Path, contents: Contents) -> Result<Self, EvalError> {
        let error = |source| EvalError::Parquet {
            path: path.to_owned(),
            source,
        };
        let schema = Arc::new(parse_message_type(SCHEMA).map_err(error)?);
        let properties = Arc::new(
            WriterProperties::builder()
                .set_compression(Compression::SNAPPY)
                .build(),
        );
        let file = AtomicFile::create(path).map_err(|error| EvalError::io(path, error))?;
        let file = SerializedFileWriter::new(file, schema, properties).map_err(error)?;
        Ok(Self {
            file,
            contents,
            image_paths: VecDeque::new(),
            captions: VecDeque::new(),
        })
    }

    pub(super) fn image_paths<S: AsRef<str>>(&mut self, paths: &[S]) -> Result<(), EvalError> {
        self.image_paths
            .extend(paths.iter().map(|path| Some(path.as_ref().to_owned())));
        self.write_full_groups()
    }

    pub(super) fn captions<S: AsRef<str>>(
        &mut self,
        captions: &[Option<S>],
    ) -> Result<(), EvalError> {
        let owned = |caption: &Option<S>| caption.as_ref().map(|text| text.as_ref().to_owned());
        self.captions.extend(captions.iter().map(owned));
        self.write_full_groups()
    }

    pub(super) fn finish(mut self) -> Result<(), EvalError> {
        while !(self.image_paths.is_empty() && self.captions.is_empty()) {
            self.write_group(GROUP)?;
        }
        let path = self.file.inner().path().to_owned();
        match self.file.into_inner() {
            Ok(file) => file.finish().map_err(|error| EvalError::io(&path, error)),
            Err(source) => Err(EvalError::Parquet { path, source }),
        }
    }

    /// A row is complete once every column that is still to come has it.
    fn write_full_groups(&mut self) -> Result<(), EvalError> {
        let complete = match self.contents {
            Contents::Images => self.image_paths.len(),
            Contents::Texts => self.captions.len(),
            Contents::Both | Contents::Paired => self.image_paths.len().min(self.captions.len()),
        };
        for _ in 0..complete / GROUP {
            self.write_group(GROUP)?;
        }
        Ok(())
    }

    /// Writes the next rows, at most `most`, as one row group.
    fn write_group(&mut self, most: usize) -> Result<(), EvalError> {
        let rows = self.image_paths.len().max(self.captions.len()).min(most);
        let columns = [
            take(&mut self.image_paths, rows),
            take(&mut self.captions, rows),
        ];
        let written = write_row_group(&mut self.file, columns);
        written.map_err(|source| EvalError::Parquet {
            path: self.file.inner().path().to_owned(),
            source,
        })
    }
}

/// The strings of the next `rows` rows with their definition levels (1: a value, 0: null).
fn take(column: &mut VecDeque<Option<String>>, rows: usize) -> (Vec<ByteArray>, Vec<i16>) {
    let mut levels = vec![0; rows];
    let mut values = Vec::with_capacity(rows);
    for (level, text) in levels
        .iter_mut()
        .zip(column.drain(..rows.min(column.len())))
    {
        if let Some(text) = text {
            *level = 1;
            values.push(ByteArray::from(text.into_bytes()));
        }
    }
    (values, levels)
}

fn write_row_group(
    file: &mut SerializedFileWriter<AtomicFile>,
    columns: [(Vec<ByteArray>, Vec<i16>); 2],
) -> Result<(), ParquetError> {
    let mut group = file.next_row_group()?;
    for (values, levels) in columns {
        let Some(mut column) = group.next_column()? else {
            return Err(ParquetError::General(
                "the schema has fewer columns than the table".to_owned(),
            ));
        };
        let ColumnWriter::ByteArrayColumnWriter(writer) = column.untyped() else {
            return Err(ParquetError::General(
                "the schema has a column that is not a string".to_owned(),
            ));
        };
        writer.write_batch(&values, Some(&levels), None)?;
        column.close()?;
    }
    group.close()?;
    Ok(())
}
