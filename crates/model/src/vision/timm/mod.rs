//! What timm's towers have in common.
//!
//! * [`TimmHead`] – the map behind a tower
//! * [`TokenPool`], [`Pools`] – tokens to one vector
//! * `cost` – operations of a transformer
//! * `positions` – positions for another number of patches

mod cost;
mod head;
mod pool;
mod positions;

pub(crate) use cost::transformer_cost;
pub use head::TimmHead;
pub(crate) use head::initial_head;
pub use pool::{Pools, TokenPool};
pub(crate) use positions::fit_pos_embed;
