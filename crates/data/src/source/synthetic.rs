//! Black images with one fixed caption, for smoke runs and benchmarks of everything but the data.

use super::table::Table;
use super::{ImageData, Item, Sample};
use crate::error::DataError;

/// The caption of every synthetic sample.
pub const CAPTION: &str = "Dummy caption";

/// `len` black images captioned [`CAPTION`].
#[derive(Clone, Debug)]
pub struct Synthetic {
    /// How many samples an epoch has (`--train-num-samples`).
    pub len: usize,
}

impl Synthetic {
    /// So many samples, whose order is kept in memory.
    ///
    /// # Errors
    /// More than are of use.
    pub fn new(len: u64) -> Result<Self, DataError> {
        const MOST: u64 = 1 << 28;
        match len {
            ..=MOST => Ok(Self { len: len as usize }),
            _ => Err(DataError::Setting {
                name: "number of synthetic samples",
                found: len.to_string(),
                expected: "at most 268435456",
            }),
        }
    }
}

impl Table for Synthetic {
    fn len(&self) -> usize {
        self.len
    }

    fn item(&self, index: usize) -> Item {
        let name = format!("synthetic-{index}");
        Item::Sample(Sample {
            name,
            shard: None,
            image: ImageData::Black,
            caption: Some(CAPTION.into()),
            label: None,
            fields: Default::default(),
        })
    }

    fn describe(&self) -> String {
        format!("{} synthetic samples", self.len)
    }
}
