//! What training minimises.
//!
//! * [`Objective`] – the weighted sum of its parts
//! * [`PairLoss`] – a loss of gathered features, row by row: [`ClipLoss`], [`SigLipLoss`], [`DistillLoss`]
//! * [`tiles`] – its value and the gradient of every feature, without ever holding all logits
//! * [`clip_loss`], [`siglip_loss`], [`caption_loss`] – the same losses of all logits at once, from the model's crate

mod clip;
mod distill;
mod objective;
mod pair;
mod siglip;
pub mod tiles;

pub use clip::ClipLoss;
pub use distill::DistillLoss;
pub use objective::{CaptionObjective, Objective};
pub use openclip_model::loss::{caption_loss, clip_loss, siglip_loss};
pub use pair::{PairLoss, Tile};
pub use siglip::{SIGLIP_LOGITS, SigLipLoss};
