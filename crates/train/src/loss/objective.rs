//! The weighted sum that a step minimises.

use super::clip::ClipLoss;
use super::pair::PairLoss;

/// How much the next token counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CaptionObjective {
    /// Of [`caption_loss`](openclip_model::loss::caption_loss).
    pub weight: f64,
    /// Id of padding, which does not count.
    pub pad: i64,
}

/// What a step minimises: the weighted sum of its parts.
#[derive(Debug, Clone, Copy)]
pub struct Objective {
    /// Loss of the gathered features.
    pub contrastive: &'static dyn PairLoss,
    /// Its weight; zero leaves it out.
    pub contrastive_weight: f64,
    /// Weight of [`DistillLoss`](super::DistillLoss), where the model learns from a teacher.
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
