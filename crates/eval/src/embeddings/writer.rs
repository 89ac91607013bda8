//! The files of one partition.

use openclip_data::source::Fields;

use super::contents::Contents;
use super::layout::Partition;
use super::metadata::Metadata;
use super::npy::{Array, NpyWriter, Numbers};
use crate::error::EvalError;

/// Writes embedding rows and their metadata as they are computed.
///
/// Nothing appears in the directory under its final name before [`finish`](Self::finish); a writer that is dropped
/// earlier removes its partial files.
pub struct EmbeddingWriter {
    partition: Partition,
    contents: Contents,
    width: usize,
    numbers: Numbers,
    images: Option<NpyWriter>,
    texts: Option<NpyWriter>,
    metadata: Metadata,
}

impl EmbeddingWriter {
    /// A writer of rows of `width` numbers. Folders and files are made when there is a row for them.
    pub fn new(partition: Partition, width: usize, numbers: Numbers, contents: Contents) -> Self {
        Self {
            metadata: Metadata::new(partition.place("metadata", "parquet")),
            partition,
            contents,
            width,
            numbers,
            images: None,
            texts: None,
        }
    }

    /// Appends image embeddings: `rows` is `[paths.len(), width]`, row-major.
    ///
    /// # Errors
    /// When the writer was created without images, the shape does not fit, or a file cannot be written.
    pub fn append_images<S: AsRef<str>>(
        &mut self,
        rows: &[f32],
        paths: &[S],
    ) -> Result<(), EvalError> {
        if !self.contents.has_images() {
            return Err(EvalError::UnexpectedRows { kind: "images" });
        }
        if !paths.is_empty() {
            let made = array(&self.partition, "img_emb", self.width, self.numbers);
            made_once(&mut self.images, made)?.append(rows, paths.len())?;
        }
        self.metadata.image_paths(paths);
        Ok(())
    }

    /// Appends what the pictures of the last images bring beside name and caption.
    pub fn append_fields(&mut self, rows: impl IntoIterator<Item = Fields>) {
        self.metadata.fields(rows);
    }

    /// Appends text embeddings: `rows` has one row of `width` values for every caption that is there.
    ///
    /// # Errors
    /// When the writer was created without texts, the shape does not fit, or a file cannot be written.
    pub fn append_texts<S: AsRef<str>>(
        &mut self,
        rows: &[f32],
        captions: &[Option<S>],
    ) -> Result<(), EvalError> {
        if !self.contents.has_texts() {
            return Err(EvalError::UnexpectedRows { kind: "texts" });
        }
        let count = captions.iter().flatten().count();
        if count > 0 {
            let made = array(&self.partition, "text_emb", self.width, self.numbers);
            made_once(&mut self.texts, made)?.append(rows, count)?;
        }
        self.metadata.captions(captions);
        Ok(())
    }

    /// Completes the files and moves them to their places, the metadata last; says what `img_emb` and `text_emb` hold. Without a row
    /// there is no file.
    ///
    /// # Errors
    /// When a file cannot be written or moved.
    pub fn finish(self) -> Result<[Array; 2], EvalError> {
        let close =
            |array: Option<NpyWriter>| array.map_or(Ok(Array::default()), NpyWriter::finish);
        let written = [close(self.images)?, close(self.texts)?];
        if written.iter().any(|array| array.rows > 0) {
            self.partition.made("metadata", "parquet")?;
            self.metadata.finish()?;
        }
        Ok(written)
    }
}

fn array<'a>(
    partition: &'a Partition,
    kind: &'a str,
    width: usize,
    numbers: Numbers,
) -> impl FnOnce() -> Result<NpyWriter, EvalError> + 'a {
    move || NpyWriter::create(&partition.made(kind, "npy")?, width, numbers)
}

/// What is there, or is made now.
fn made_once(
    slot: &mut Option<NpyWriter>,
    make: impl FnOnce() -> Result<NpyWriter, EvalError>,
) -> Result<&mut NpyWriter, EvalError> {
    match slot {
        Some(array) => Ok(array),
        none => Ok(none.insert(make()?)),
    }
}
