//! Numbered pictures: whole files, or parts of archives.

use std::path::PathBuf;

use openclip_data::source::table::Table;
use openclip_data::source::{ImageData, Item, MAX_MEMBER_BYTES, Problem, ProblemKind, Sample};
use openclip_data::storage::{Patience, Place, Watch};

/// Where a picture's bytes are.
#[derive(Debug, Clone)]
pub(super) enum Bytes {
    /// By itself.
    Whole(ImageData),
    /// Within one of the archives.
    Part {
        archive: usize,
        start: u64,
        length: u64,
    },
}

/// The pictures of a set; the label of each is its number.
#[derive(Debug, Clone, Default)]
pub(super) struct Pictures {
    archives: Vec<PathBuf>,
    pictures: Vec<(String, Bytes)>,
    what: String,
}

impl Pictures {
    /// Without a picture yet; `what` is read.
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            ..Self::default()
        }
    }

    /// Adds an archive, and says by which number [`Bytes::Part`] knows it.
    pub fn archive(&mut self, path: PathBuf) -> usize {
        self.archives.push(path);
        self.archives.len() - 1
    }

    /// Adds a picture, and says its number.
    pub fn push(&mut self, name: String, bytes: Bytes) -> usize {
        self.pictures.push((name, bytes));
        self.pictures.len() - 1
    }
}

impl Table for Pictures {
    fn len(&self) -> usize {
        self.pictures.len()
    }

    fn item(&self, index: usize) -> Item {
        let (name, bytes) = &self.pictures[index];
        let (image, shard) = match bytes {
            Bytes::Whole(image) => (image.clone(), None),
            Bytes::Part {
                archive,
                start,
                length,
            } => {
                let place = Place::File(self.archives[*archive].clone());
                let read = match *length {
                    0..=MAX_MEMBER_BYTES => place.read_range(
                        *start,
                        *length,
                        None,
                        Patience::default(),
                        Watch::default(),
                    ),
                    _ => Err(std::io::Error::other(format!(
                        "{length} bytes, the limit of a picture's file is {MAX_MEMBER_BYTES}"
                    ))),
                };
                let shard = place.to_string();
                match read {
                    Ok(bytes) => (ImageData::Encoded(bytes), Some(shard.into())),
                    Err(error) => {
                        return Item::Problem(Problem {
                            kind: ProblemKind::UnreadableImage,
                            place: format!("{shard}: {name}"),
                            reason: error.to_string(),
                        });
                    }
                }
            }
        };
        Item::Sample(Sample {
            name: name.clone(),
            shard,
            image,
            caption: None,
            label: Some(index),
            fields: Default::default(),
        })
    }

    fn describe(&self) -> String {
        format!("{} pictures of {}", self.pictures.len(), self.what)
    }
}
