//! Embeddings on disk, in the layout of [clip-retrieval](https://github.com/rom1504/clip-retrieval):
//!
//! ```text
//! DIR/img_emb/img_emb_0.npy              float32 [images, width]
//! DIR/text_emb/text_emb_0.npy            float32 [texts, width]
//! DIR/metadata/metadata_0.parquet        image_path, caption: one row per embedding row
//! ```
//!
//! Row k of an array belongs to the k-th row of the metadata that has a value in its column: a picture without a caption has a row
//! there whose `caption` is null, and none in `text_emb`.
//!
//! Rows stream to disk. Each file takes its name once it is complete, so a reader never sees half a file; the metadata comes last.

mod contents;
mod destination;
mod metadata;
mod npy;

use self::metadata::MetadataWriter;
use self::npy::NpyWriter;
use crate::error::EvalError;

pub use self::contents::Contents;
pub use self::destination::Destination;

/// How many rows an [`EmbeddingWriter`] wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Rows of `img_emb`.
    pub images: u64,
    /// Rows of `text_emb`.
    pub texts: u64,
}

/// Writes embedding rows and their metadata as they are computed.
///
/// Nothing appears in the directory under its final name before [`finish`](Self::finish); a writer that is dropped
/// earlier removes its partial files.
pub struct EmbeddingWriter {
    destination: Destination,
    contents: Contents,
    width: usize,
    images: Option<NpyWriter>,
    texts: Option<NpyWriter>,
    metadata: MetadataWriter,
}

impl EmbeddingWriter {
    /// Opens the files for rows of `width` values in a folder, which is created when missing.
    ///
    /// # Errors
    /// When a directory or file cannot be created.
    pub fn create(
        destination: Destination,
        width: usize,
        contents: Contents,
    ) -> Result<Self, EvalError> {
        let array = |kind| array(&destination, kind, width);
        let texts_are_sure = contents.has_texts() && contents != Contents::Paired;
        Ok(Self {
            images: contents
                .has_images()
                .then(|| array("img_emb"))
                .transpose()?,
            texts: texts_are_sure.then(|| array("text_emb")).transpose()?,
            metadata: MetadataWriter::create(&destination.place("metadata", "parquet")?, contents)?,
            destination,
            contents,
            width,
        })
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
        let array = self
            .images
            .as_mut()
            .ok_or(EvalError::UnexpectedRows { kind: "images" })?;
        array.append(rows, paths.len())?;
        self.metadata.image_paths(paths)
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
            let array = match &mut self.texts {
                Some(array) => array,
                none => none.insert(array(&self.destination, "text_emb", self.width)?),
            };
            array.append(rows, count)?;
        }
        self.metadata.captions(captions)
    }

    /// Completes the files and moves them to their places.
    ///
    /// # Errors
    /// When a file cannot be written or moved, or another run has put its files there meanwhile.
    pub fn finish(self) -> Result<Written, EvalError> {
        self.destination.clear()?;
        let close = |array: Option<NpyWriter>| array.map_or(Ok(0), NpyWriter::finish);
        let written = Written {
            images: close(self.images)?,
            texts: close(self.texts)?,
        };
        self.metadata.finish()?;
        Ok(written)
    }
}

fn array(destination: &Destination, kind: &str, width: usize) -> Result<NpyWriter, EvalError> {
    NpyWriter::create(&destination.place(kind, "npy")?, width)
}

#[cfg(test)]
mod tests;
