//! One row: the values of its columns as an item.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::super::beside::Beside;
use super::super::{Fields, ImageData, Item, MAX_MEMBER_BYTES, Problem, ProblemKind, Sample};
use super::schema::{Role, Selection};
use crate::storage::Place;

/// The values of a row by [`Role`]; `None` for null and for a column that is not read.
pub(super) type Cells<'a> = [Option<&'a [u8]>; Role::ALL.len()];

/// A row that was read, and whose item is yet to be made.
///
/// The item is made by the thread that keeps it: a thread that reads ahead has memory of its own, of which pages that come and go beside
/// samples that stay would leave half unused.
pub(super) struct Unmade {
    /// Of its picture and caption, and what else was read for it.
    pub bytes: usize,
    make: Box<dyn FnOnce() -> Item + Send>,
}

impl Unmade {
    pub fn new(bytes: usize, make: impl FnOnce() -> Item + Send + 'static) -> Self {
        Self {
            bytes,
            make: Box::new(make),
        }
    }

    pub fn item(self) -> Item {
        (self.make)()
    }
}

/// Takes rows, each with its number, until it has enough.
pub(super) type Push<'a> = dyn FnMut(u64, Unmade) -> ControlFlow<()> + 'a;

/// Makes items of the rows of one file.
#[derive(Debug)]
pub(super) struct Rows {
    /// For messages.
    pub file: Arc<str>,
    pub selection: Selection,
    pictures: Beside,
}

impl Rows {
    pub fn new(file: &Place, selection: Selection) -> Self {
        Self {
            file: file.to_string().into(),
            pictures: Beside::new(file),
            selection,
        }
    }

    /// The item of a row, counted from zero in its file. Every row is one item.
    pub fn item(&self, row: u64, [bytes, path, caption, name]: Cells<'_>, fields: Fields) -> Item {
        let name = path.filter(|path| !path.is_empty()).or(name);
        let name = match name.map(String::from_utf8_lossy) {
            Some(name) => name.into_owned(),
            None => format!("row {row}"),
        };
        let image = match (bytes, path) {
            (Some(bytes), _) if bytes.len() as u64 > MAX_MEMBER_BYTES => {
                let reason = format!("{} bytes, the limit is {MAX_MEMBER_BYTES}", bytes.len());
                return self.problem(row, ProblemKind::UnreadableImage, reason);
            }
            (Some(bytes), _) if !bytes.is_empty() => ImageData::Encoded(bytes.to_vec()),
            (_, Some(path)) if !path.is_empty() => match std::str::from_utf8(path) {
                Ok(path) => self.pictures.find(path),
                Err(_) => {
                    let reason = format!("column {} is not UTF-8", self.selection.image);
                    return self.problem(row, ProblemKind::UnreadableImage, reason);
                }
            },
            (bytes, path) => {
                let what = match bytes.is_some() || path.is_some() {
                    true => "empty",
                    false => "null",
                };
                let reason = format!("column {} is {what}", self.selection.image);
                return self.problem(row, ProblemKind::MissingImage, reason);
            }
        };
        let caption = match caption.map(std::str::from_utf8) {
            Some(Ok(caption)) if !caption.is_empty() => Some(caption.to_owned()),
            Some(Err(_)) => {
                let column = self.selection.caption.as_deref().unwrap_or_default();
                let reason = format!("column {column} is not UTF-8");
                return self.problem(row, ProblemKind::InvalidCaption, reason);
            }
            _ => None,
        };
        Item::Sample(Sample {
            name,
            shard: Some(Arc::clone(&self.file)),
            image,
            caption,
            label: None,
            fields,
        })
    }

    /// The item of a row that has no sample.
    pub fn problem(&self, row: u64, kind: ProblemKind, reason: String) -> Item {
        Item::Problem(Problem {
            kind,
            place: format!("{}: row {row}", self.file),
            reason,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn rows() -> Rows {
        let selection = Selection {
            leaves: [Some(0), Some(1), Some(2), Some(3)],
            image: "image".into(),
            caption: Some("text".into()),
            has_many_captions: false,
        };
        Rows::new(&Place::File("/data/a.parquet".into()), selection)
    }

    #[test]
    fn a_row_is_a_sample() {
        let rows = rows();
        for (cells, name, image, caption) in [
            (
                [
                    Some(&b"jpeg"[..]),
                    Some(b"a.jpg"),
                    Some(b"hello"),
                    Some(b"key"),
                ],
                "a.jpg",
                ImageData::Encoded(b"jpeg".to_vec()),
                Some("hello"),
            ),
            (
                [Some(b"jpeg"), Some(b""), Some(b""), Some(b"key")],
                "key",
                ImageData::Encoded(b"jpeg".to_vec()),
                None,
            ),
            (
                [Some(b"jpeg"), None, None, None],
                "row 7",
                ImageData::Encoded(b"jpeg".to_vec()),
                None,
            ),
            (
                [
                    None,
                    Some(b"/none/b.jpg"),
                    Some("ü".as_bytes()),
                    Some(b"key"),
                ],
                "/none/b.jpg",
                ImageData::Path("/none/b.jpg".into()),
                Some("ü"),
            ),
        ] {
            let Item::Sample(sample) = rows.item(7, cells, Fields::default()) else {
                panic!("{name}");
            };
            assert_eq!(sample.name, name);
            assert_eq!(sample.image, image);
            assert_eq!(sample.caption.as_deref(), caption);
            assert_eq!(sample.shard.as_deref(), Some("/data/a.parquet"));
        }
    }

    #[test]
    fn a_row_without_a_sample_is_a_problem_with_its_reason() {
        let rows = rows();
        for (cells, kind, reason) in [
            (
                [None, None, Some(&b"x"[..]), None],
                ProblemKind::MissingImage,
                "column image is null",
            ),
            (
                [Some(b""), None, Some(b"x"), None],
                ProblemKind::MissingImage,
                "column image is empty",
            ),
            (
                [None, Some(b"\xff"), Some(b"x"), None],
                ProblemKind::UnreadableImage,
                "column image is not UTF-8",
            ),
            (
                [Some(b"x"), None, Some(b"caf\xe9"), None],
                ProblemKind::InvalidCaption,
                "column text is not UTF-8",
            ),
        ] {
            let Item::Problem(problem) = rows.item(3, cells, Fields::default()) else {
                panic!("{reason}");
            };
            assert_eq!(problem.kind, kind);
            assert_eq!(problem.place, "/data/a.parquet: row 3");
            assert_eq!(problem.reason, reason);
        }
    }
}
