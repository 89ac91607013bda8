//! Measuring and using a trained model.
//!
//! * [`encode`] – batches through the towers
//! * [`head`] – a linear classifier over features, and its file
//! * [`run`] – zero-shot classification and retrieval over a loader
//! * [`validation`] – everything a model is measured on
//! * [`zero_shot`], [`retrieval`], [`scores`] – their arithmetic: prompts, accuracy, ranks, what fits a picture
//! * [`ranking`] – ranks of all pairs from their features
//! * [`suite`] – lists of sets with their averages
//! * [`captioning`] – BLEU, ROUGE-L and CIDEr
//! * [`dataset`], [`task`], [`results`] – CLIP_benchmark's sets, tasks and files
//! * [`embeddings`] – embedding files
//! * [`search`] – the nearest of them
//! * [`lines`] – lists of captions and labels
//! * [`progress`] – progress on stderr

pub mod captioning;
pub mod dataset;
mod eight_bits;
pub mod embeddings;
pub mod encode;
mod error;
mod gallery;
pub mod head;
mod host;
pub mod lines;
mod npy;
pub mod progress;
pub mod ranking;
pub mod results;
pub mod retrieval;
pub mod run;
pub mod scores;
pub mod search;
pub mod suite;
pub mod task;
pub mod validation;
pub mod zero_shot;

pub use encode::{Encoder, written};
pub use error::EvalError;
