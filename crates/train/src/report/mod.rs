//! What a run leaves for the eye: TensorBoard events, a plot and a table of results.
//!
//! * [`tensorboard`] – scalars for TensorBoard
//! * [`plot`] – curves as SVG
//! * [`results`] – one JSON line per evaluation

pub mod plot;
pub mod results;
mod scale;
pub mod tensorboard;
