//! Captions in files of their own, with the pictures in a folder: a table of names and captions, and where the folder is found.

use std::path::{Path, PathBuf};

use super::beside::Beside;
use super::pairs::Pairs;
use super::table::Table;
use super::{Item, Sample};
use crate::error::DataError;

/// Names of pictures that are looked for in a folder.
const TRIED: usize = 64;

/// One sample for every caption; a picture with several comes as often.
#[derive(Clone, Debug)]
pub struct Captions {
    file: PathBuf,
    pairs: Pairs,
    pictures: Beside,
}

impl Captions {
    /// The pairs of `file`, whose pictures are in the first of `folders` that has one of them.
    ///
    /// # Errors
    /// When none has.
    pub(super) fn new(file: &Path, pairs: Pairs, folders: &[PathBuf]) -> Result<Self, DataError> {
        let tried: Vec<&str> = pairs
            .names(0)
            .step_by(pairs.len().div_ceil(TRIED).max(1))
            .collect();
        let has_one = |folder: &&PathBuf| tried.iter().any(|name| folder.join(name).exists());
        let Some(folder) = folders.iter().find(has_one) else {
            return Err(DataError::NoPictureFolder {
                path: file.to_owned(),
                name: tried.first().copied().unwrap_or_default().to_owned(),
                folders: folders
                    .iter()
                    .map(|folder| folder.display().to_string())
                    .collect(),
            });
        };
        Ok(Self {
            pictures: Beside::folder(folder),
            file: file.to_owned(),
            pairs,
        })
    }
}

impl Table for Captions {
    fn len(&self) -> usize {
        self.pairs.len()
    }

    fn item(&self, index: usize) -> Item {
        let (name, caption) = self.pairs.get(index);
        Item::Sample(Sample {
            image: self.pictures.find(name),
            name: name.to_owned(),
            caption: (!caption.is_empty()).then(|| caption.to_owned()),
            label: None,
            fields: Default::default(),
            shard: None,
        })
    }

    fn describe(&self) -> String {
        format!("{} captions of {}", self.pairs.len(), self.file.display())
    }
}
