//! OpenCLIP's configuration files as types.
//!
//! * [`model`] – `model_cfg`: the two towers and how they meet
//! * [`preprocess`] – `preprocess_cfg`: what a picture goes through before the image tower

mod model;
mod preprocess;

pub use model::*;
pub use preprocess::*;
