//! Embeddings on disk, in the layout of [clip-retrieval](https://github.com/rom1504/clip-retrieval):
//!
//! ```text
//! DIR/img_emb/img_emb_0.npy              float32 [images, width]
//! DIR/text_emb/text_emb_0.npy            float32 [texts, width]
//! DIR/metadata/metadata_0.parquet        image_path, caption: one row per embedding row
//! ```
//!
//! Rows stream to disk. Each file takes its name once it is complete, so a reader never sees half a file.

mod contents;
mod metadata;
mod npy;

use std::path::Path;

use self::metadata::MetadataWriter;
use self::npy::NpyWriter;
use crate::error::EvalError;

pub use self::contents::Contents;

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
    images: Option<NpyWriter>,
    texts: Option<NpyWriter>,
    metadata: MetadataWriter,
}

impl EmbeddingWriter {
    /// Opens the files for rows of `width` values below `dir`, which is created when missing.
    ///
    /// # Errors
    /// When a directory or file cannot be created.
    pub fn create(dir: &Path, width: usize, contents: Contents) -> Result<Self, EvalError> {
        let has_images = contents != Contents::Texts;
        let has_texts = contents != Contents::Images;
        let place = |kind: &str, file: &str| {
            let folder = dir.join(kind);
            let made = std::fs::create_dir_all(&folder);
            made.map_err(|error| EvalError::io(&folder, error))?;
            Ok::<_, EvalError>(folder.join(file))
        };
        let array = |kind: &str| NpyWriter::create(&place(kind, &format!("{kind}_0.npy"))?, width);
        Ok(Self {
            images: has_images.then(|| array("img_emb")).transpose()?,
            texts: has_texts.then(|| array("text_emb")).transpose()?,
            metadata: MetadataWriter::create(&place("metadata", "metadata_0.parquet")?, contents)?,
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

    /// Appends text embeddings: `rows` is `[captions.len(), width]`, row-major.
    ///
    /// # Errors
    /// When the writer was created without texts, the shape does not fit, or a file cannot be written.
    pub fn append_texts<S: AsRef<str>>(
        &mut self,
        rows: &[f32],
        captions: &[S],
    ) -> Result<(), EvalError> {
        let array = self
            .texts
            .as_mut()
            .ok_or(EvalError::UnexpectedRows { kind: "texts" })?;
        array.append(rows, captions.len())?;
        self.metadata.captions(captions)
    }

    /// Completes the files and moves them to their places.
    ///
    /// # Errors
    /// When a file cannot be written or moved.
    pub fn finish(self) -> Result<Written, EvalError> {
        let close = |array: Option<NpyWriter>| array.map_or(Ok(0), NpyWriter::finish);
        let written = Written {
            images: close(self.images)?,
            texts: close(self.texts)?,
        };
        self.metadata.finish()?;
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;

    fn metadata(dir: &Path) -> Vec<(Option<String>, Option<String>)> {
        let file = std::fs::File::open(dir.join("metadata/metadata_0.parquet")).unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        let text = |field: &Field| match field {
            Field::Str(text) => Some(text.clone()),
            Field::Null => None,
            other => panic!("{other:?}"),
        };
        let rows = reader.get_row_iter(None).unwrap().map(|row| {
            let fields: Vec<_> = row.unwrap().into_columns();
            assert_eq!(
                (fields[0].0.as_str(), fields[1].0.as_str()),
                ("image_path", "caption")
            );
            (text(&fields[0].1), text(&fields[1].1))
        });
        rows.collect()
    }

    #[test]
    fn images_and_texts_of_different_number() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = EmbeddingWriter::create(dir.path(), 2, Contents::Both).unwrap();
        writer.append_images(&[1.0, 2.0], &["a.png"]).unwrap();
        writer
            .append_images(&[3.0, 4.0, 5.0, 6.0], &["b.png", "c.png"])
            .unwrap();
        writer
            .append_texts(&[7.0, 8.0, 9.0, 10.0], &["ein Hund", ""])
            .unwrap();
        assert!(!dir.path().join("img_emb/img_emb_0.npy").exists());
        assert_eq!(
            writer.finish().unwrap(),
            Written {
                images: 3,
                texts: 2
            }
        );

        let bytes = std::fs::read(dir.path().join("img_emb/img_emb_0.npy")).unwrap();
        assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
        assert!(String::from_utf8_lossy(&bytes[10..128]).contains("'shape': (3, 2)"));
        assert_eq!(bytes[127], b'\n');
        let values: Vec<f32> = bytes[128..]
            .chunks(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect();
        assert_eq!(values, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);

        let row = |path: Option<&str>, caption: Option<&str>| {
            (path.map(str::to_owned), caption.map(str::to_owned))
        };
        let expected = [
            row(Some("a.png"), Some("ein Hund")),
            row(Some("b.png"), Some("")),
            row(Some("c.png"), None),
        ];
        assert_eq!(metadata(dir.path()), expected);
        assert_eq!(
            std::fs::read_dir(dir.path().join("img_emb"))
                .unwrap()
                .count(),
            1
        );
    }

    #[test]
    fn many_row_groups_and_texts_only() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = EmbeddingWriter::create(dir.path(), 1, Contents::Texts).unwrap();
        let captions: Vec<String> = (0..150_000).map(|i| format!("caption {i}")).collect();
        for batch in captions.chunks(1000) {
            writer.append_texts(&vec![0.5; batch.len()], batch).unwrap();
        }
        assert_eq!(
            writer.finish().unwrap(),
            Written {
                images: 0,
                texts: 150_000
            }
        );
        assert!(!dir.path().join("img_emb").exists());
        let rows = metadata(dir.path());
        assert_eq!(rows.len(), captions.len());
        assert!(
            rows.iter()
                .zip(&captions)
                .all(|(row, caption)| *row == (None, Some(caption.clone())))
        );
    }

    #[test]
    fn nothing_stays_behind_an_unfinished_writer() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = EmbeddingWriter::create(dir.path(), 2, Contents::Images).unwrap();
        writer.append_images(&[1.0, 2.0], &["a.png"]).unwrap();
        drop(writer);
        assert_eq!(
            std::fs::read_dir(dir.path().join("img_emb"))
                .unwrap()
                .count(),
            0
        );
        assert_eq!(
            std::fs::read_dir(dir.path().join("metadata"))
                .unwrap()
                .count(),
            0
        );
    }

    #[test]
    fn misuse_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = EmbeddingWriter::create(dir.path(), 2, Contents::Images).unwrap();
        assert!(matches!(
            writer.append_images(&[1.0; 3], &["a", "b"]),
            Err(EvalError::Rows {
                values: 3,
                rows: 2,
                width: 2
            })
        ));
        assert!(matches!(
            writer.append_texts(&[1.0; 2], &["a"]),
            Err(EvalError::UnexpectedRows { kind: "texts" })
        ));
        let file = dir.path().join("taken");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(
            EmbeddingWriter::create(&file, 2, Contents::Images),
            Err(EvalError::Io { .. })
        ));
    }
}
