//! SigLIP's loss.

use burn::tensor::{Tensor, activation};

use crate::network::clip::ClipOutput;

/// `−Σᵢⱼ log σ(yᵢⱼ·logitᵢⱼ) / batch` with `y` = 1 for a picture and its own caption and −1 for all others; `[1]`, differentiable.
///
/// SigLIP's pairwise loss (arXiv 2303.15343; OpenCLIP's `SigLipLoss`). The model should have a logit bias.
/// Features are `[batch, embed_dim]`, of unit length, in f32.
pub fn siglip_loss(output: ClipOutput) -> Tensor<1> {
    let logits = output.logits();
    let [rows, _] = logits.dims();
    let signs = Tensor::<2>::eye(rows, &logits.device())
        .mul_scalar(2.0)
        .sub_scalar(1.0);
    activation::log_sigmoid(logits * signs)
        .sum()
        .div_scalar(rows as f32)
        .neg()
}
