//! SigLIP's loss.

use burn::tensor::{Tensor, activation};
use openclip_model::ClipOutput;

use super::{PairLoss, Tile};

/// Where the logit scale's logarithm and the logit bias start under [`SigLipLoss`]: `ln 10` and −10.
pub const SIGLIP_LOGITS: [f64; 2] = [std::f64::consts::LN_10, -10.0];

/// `−Σᵢⱼ log σ(yᵢⱼ·logitᵢⱼ) / batch` with `y` = 1 for a picture and its own caption and −1 for all others.
///
/// SigLIP's pairwise loss (arXiv 2303.15343; OpenCLIP's `SigLipLoss`). The model should have a logit bias.
#[derive(Debug, Clone, Copy)]
pub struct SigLipLoss;

impl PairLoss for SigLipLoss {
    fn is_two_sided(&self) -> bool {
        false
    }

    fn rows(&self, tile: &Tile) -> (Tensor<1>, Tensor<2>) {
        let weight = 1.0 / tile.pairs as f64;
        let signs = tile.own.clone().mul_scalar(2.0).sub_scalar(1.0);
        let signed = tile.logits.clone() * signs.clone();
        let loss = activation::log_sigmoid(signed.clone()).sum();
        let gradient = signs * activation::sigmoid(signed.neg());
        (loss.mul_scalar(-weight), gradient.mul_scalar(-weight))
    }
}

/// [`SigLipLoss`] of all logits at once; `[1]`, differentiable.
///
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
