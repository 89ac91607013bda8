//! CLIP's loss.

use burn::tensor::{Int, Tensor, activation};

use crate::network::clip::ClipOutput;

/// `½·(CE(logits) + CE(logitsᵀ))`, where row `i` belongs to column `i` (OpenCLIP's `ClipLoss`); `[1]`, differentiable.
///
/// Features are `[batch, embed_dim]`, of unit length, in f32.
pub fn clip_loss(output: ClipOutput) -> Tensor<1> {
    let logits = output.logits();
    (diagonal_cross_entropy(logits.clone()) + diagonal_cross_entropy(logits.transpose()))
        .mul_scalar(0.5)
}

/// Mean over rows of `−log softmax(row)[row index]`.
fn diagonal_cross_entropy(logits: Tensor<2>) -> Tensor<1> {
    let [rows, _] = logits.dims();
    let diagonal = Tensor::<1, Int>::arange(0..rows as i64, &logits.device()).unsqueeze_dim(1);
    activation::log_softmax(logits, 1)
        .gather(1, diagonal)
        .mean()
        .neg()
}
