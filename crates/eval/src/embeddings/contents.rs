//! What a set of embedding files holds.

use super::record::Record;

/// Which embeddings a run produces. Row k of an array belongs to the k-th row of the metadata that has a value in its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// `img_emb` only; `caption` is null.
    Images,
    /// `text_emb` only; `image_path` is null.
    Texts,
    /// Both, one after the other; row i of the metadata names image i and caption i, and is null where one of the two has run out.
    Both,
    /// Both, side by side, where an image may have no caption: then `caption` is null and `text_emb` has no row for it. Without any
    /// caption there is no `text_emb`.
    Paired,
}

impl Contents {
    /// Whether images are expected.
    pub(super) fn has_images(self) -> bool {
        self != Self::Texts
    }

    /// Whether texts may come.
    pub(super) fn has_texts(self) -> bool {
        self != Self::Images
    }

    /// What is counted, in the plural.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Images | Self::Paired => "pictures",
            Self::Texts => "captions",
            Self::Both => "pictures and captions",
        }
    }

    /// How many of these a partition has.
    pub(super) fn count(self, record: &Record) -> u64 {
        match self {
            Self::Images | Self::Paired => record.images.rows,
            Self::Texts => record.texts.rows,
            Self::Both => record.images.rows + record.texts.rows,
        }
    }
}
