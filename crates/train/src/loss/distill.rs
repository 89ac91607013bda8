//! Learning from a teacher.

use burn::tensor::{Tensor, activation};

use super::pair::{PairLoss, Tile};

/// `½·Σ over both sides of the mean over rows of −Σ softmax(teacher)·log softmax(student)` (OpenCLIP's `DistillClipLoss`, the
/// part that it calls `distill_loss`). The teacher's logits carry its own scale. Zero without a teacher.
#[derive(Debug, Clone, Copy)]
pub struct DistillLoss;

impl PairLoss for DistillLoss {
    fn name(&self) -> &'static str {
        "distillation loss"
    }

    fn is_two_sided(&self) -> bool {
        true
    }

    fn rows(&self, tile: &Tile) -> (Tensor<1>, Tensor<2>) {
        let Some(teacher) = tile.teacher.clone() else {
            let none = tile.logits.zeros_like();
            return (none.clone().sum(), none);
        };
        let weight = 0.5 / tile.pairs as f64;
        let wanted = activation::softmax(teacher, 1);
        let log_p = activation::log_softmax(tile.logits.clone(), 1);
        let loss = (wanted.clone() * log_p.clone()).sum();
        let gradient = log_p.exp() - wanted;
        (loss.mul_scalar(-weight), gradient.mul_scalar(weight))
    }
}
