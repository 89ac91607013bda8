//! Measuring and using a trained model.
//!
//! * [`encode`] – batches through the towers
//! * [`run`] – zero-shot classification and retrieval over a loader
//! * [`validation`] – everything a model is measured on
//! * [`zero_shot`], [`retrieval`] – their arithmetic: prompts, accuracy, ranks
//! * [`embeddings`] – embedding files
//! * [`progress`] – progress on stderr

pub mod embeddings;
pub mod encode;
mod error;
pub mod progress;
pub mod retrieval;
pub mod run;
pub mod validation;
pub mod zero_shot;

pub use encode::{Encoder, written};
pub use error::EvalError;
