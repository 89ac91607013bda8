//! What a set of embedding files holds.

/// Which embeddings a run produces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// `img_emb` only; `caption` is null.
    Images,
    /// `text_emb` only; `image_path` is null.
    Texts,
    /// Both; row i of the metadata names image i and caption i, and is null where one of the two has run out.
    Both,
}
