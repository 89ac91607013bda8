//! SigLIP's loss.

use burn::tensor::{Tensor, activation};

use super::pair::{PairLoss, Tile};

/// Where the logit scale's logarithm and the logit bias start under [`SigLipLoss`]: `ln 10` and −10.
pub const SIGLIP_LOGITS: [f64; 2] = [std::f64::consts::LN_10, -10.0];

/// [`siglip_loss`](openclip_model::loss::siglip_loss).
#[derive(Debug, Clone, Copy)]
pub struct SigLipLoss;

impl PairLoss for SigLipLoss {
    fn name(&self) -> &'static str {
        "SigLIP's sigmoid loss"
    }

    fn needs_other_pairs(&self) -> bool {
        false
    }

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
