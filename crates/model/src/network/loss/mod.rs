//! Losses as formulas of what a model puts out, all logits at once.
//!
//! * [`clip_loss`], [`siglip_loss`] – of pictures and captions that belong together
//! * [`caption_loss`] – of the captions that a model writes

mod caption;
mod clip;
mod siglip;

pub use caption::{caption_loss, caption_sum, counted};
pub use clip::clip_loss;
pub use siglip::siglip_loss;
