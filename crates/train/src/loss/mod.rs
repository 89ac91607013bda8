//! What training minimises.
//!
//! * [`PairLoss`] – a loss of gathered features, row by row: [`ClipLoss`], [`SigLipLoss`], [`DistillLoss`]
//! * [`tiles`] – its value and the gradient of every feature, without ever holding all logits
//! * [`caption`] – the loss of the captions that a model writes
//! * [`clip_loss`], [`siglip_loss`] – the same losses of all logits at once, for validation and comparison

pub mod caption;
mod clip;
mod distill;
mod siglip;
pub mod tiles;

use std::fmt::Debug;

use burn::tensor::Tensor;
use openclip_eval::run::Losses;

pub use caption::{CaptionObjective, caption_loss, caption_sum, counted};
pub use clip::{ClipLoss, clip_loss};
pub use distill::DistillLoss;
pub use siglip::{SIGLIP_LOGITS, SigLipLoss, siglip_loss};

/// What validation reports, whatever training minimises.
pub const VALIDATION: Losses = Losses {
    contrastive: clip_loss,
    caption: caption_loss,
};

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
    /// Whether the rows of the transposed logits, captions against pictures, count as well.
    fn is_two_sided(&self) -> bool;

    /// What the rows of a tile add to the loss, `[1]`, and the gradient of their logits.
    fn rows(&self, tile: &Tile) -> (Tensor<1>, Tensor<2>);
}

/// What a step minimises: the weighted sum of its parts.
#[derive(Debug, Clone, Copy)]
pub struct Objective {
    /// Loss of the gathered features.
    pub contrastive: &'static dyn PairLoss,
    /// Its weight; zero leaves it out.
    pub contrastive_weight: f64,
    /// Weight of [`DistillLoss`], where the model learns from a teacher.
    pub distill: Option<f64>,
    /// The captions that the model writes, where it learns that (CoCa).
    pub caption: Option<CaptionObjective>,
}

impl Objective {
    /// One contrastive loss and nothing else.
    pub fn of(contrastive: &'static dyn PairLoss) -> Self {
        Self {
            contrastive,
            contrastive_weight: 1.0,
            distill: None,
            caption: None,
        }
    }
}

impl Default for Objective {
    fn default() -> Self {
        Self::of(&ClipLoss)
    }
}
