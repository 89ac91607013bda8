//! CLIP's loss.

use burn::tensor::{Tensor, activation};

use super::pair::{PairLoss, Tile};

/// [`clip_loss`](openclip_model::loss::clip_loss).
#[derive(Debug, Clone, Copy)]
pub struct ClipLoss;

impl PairLoss for ClipLoss {
    fn name(&self) -> &'static str {
        "CLIP's contrastive loss"
    }

    fn is_two_sided(&self) -> bool {
        true
    }

    fn is_clips(&self) -> bool {
        true
    }

    fn rows(&self, tile: &Tile) -> (Tensor<1>, Tensor<2>) {
        let weight = 0.5 / tile.pairs as f64;
        let log_p = activation::log_softmax(tile.logits.clone(), 1);
        let loss = (log_p.clone() * tile.own.clone()).sum();
        let gradient = log_p.exp() - tile.own.clone();
        (loss.mul_scalar(-weight), gradient.mul_scalar(weight))
    }
}
