//! What a loss of picture–caption pairs is to the tiles.

use std::fmt::Debug;

use burn::tensor::Tensor;

/// Some rows of the logits.
#[derive(Debug, Clone)]
pub struct Tile {
    /// `scale · row · columnᵀ + bias`, `[rows, columns]`, in f32.
    pub logits: Tensor<2>,
    /// One where row and column belong to the same pair, else zero; `[rows, columns]`.
    pub own: Tensor<2>,
    /// Pairs of the whole batch, which is the number of columns.
    pub pairs: usize,
    /// The teacher's logits of the same rows, where there is a teacher.
    pub teacher: Option<Tensor<2>>,
}

/// A loss of picture–caption pairs that is a sum over the rows of their logits.
pub trait PairLoss: Debug + Send + Sync {
    /// What it is called in messages.
    fn name(&self) -> &'static str;

    /// Whether a single pair teaches nothing: the loss of one row of one logit is the same whatever the logit is.
    fn needs_other_pairs(&self) -> bool {
        true
    }

    /// Whether the rows of the transposed logits, captions against pictures, count as well.
    fn is_two_sided(&self) -> bool;

    /// Whether it is [`ClipLoss`](super::ClipLoss), which the processor computes in its cache.
    fn is_clips(&self) -> bool {
        false
    }

    /// What the rows of a tile add to the loss, `[1]`, and the gradient of their logits.
    fn rows(&self, tile: &Tile) -> (Tensor<1>, Tensor<2>);
}
