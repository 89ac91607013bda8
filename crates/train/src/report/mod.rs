//! What a run leaves for the eye: TensorBoard events, an offline run of W&B, a plot and a table of results.
//!
//! * [`tensorboard`] – scalars for TensorBoard
//! * [`wandb`] – the same for Weights & Biases, to be sent later
//! * [`plot`] – curves as SVG
//! * [`results`] – one JSON line per evaluation

pub mod plot;
mod protobuf;
pub mod results;
mod scale;
pub mod tensorboard;
pub mod wandb;
