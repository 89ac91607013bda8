//! What a run leaves for the eye: TensorBoard events, an offline run of W&B, a plot and a table of results.
//!
//! * [`tensorboard`] – scalars for TensorBoard
//! * [`wandb`] – the same for Weights & Biases, to be sent later
//! * [`results`] – lines of JSON
//! * [`append`] – files that grow, whatever the disk does
//! * [`plot`] – curves as SVG
//! * [`series`], [`history`] – what the curves are drawn from, in a bounded memory
//! * [`drawer`] – drawing them on a thread of its own

pub mod append;
pub mod drawer;
pub mod history;
pub mod plot;
mod protobuf;
pub mod results;
mod scale;
pub mod series;
pub mod tensorboard;
pub mod wandb;
