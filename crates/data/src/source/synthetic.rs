//! Black images with one fixed caption, for smoke runs and benchmarks of everything but the data.

use super::table::Table;
use super::{ImageData, Item, Sample};

/// The caption of every synthetic sample.
pub const CAPTION: &str = "Dummy caption";

/// `len` black images captioned [`CAPTION`].
#[derive(Clone, Debug)]
pub struct Synthetic {
    /// How many samples an epoch has (`--train-num-samples`).
    pub len: usize,
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
        })
    }

    fn describe(&self) -> String {
        format!("{} synthetic samples", self.len)
    }
}
