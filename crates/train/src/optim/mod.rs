//! Optimizers, their groups of parameters, and what is done to a gradient before they see it.
//!
//! * [`adamw`] – Burn's AdamW in one pass
//! * [`algorithm`] – the optimizers by name, with the settings of each
//! * [`groups`] – which parameters decay, and how their learning rates differ
//! * [`nadamw`] – Adam with Nesterov's momentum, which Burn lacks
//! * [`torch`] – the state of PyTorch's AdamW as Burn's
//! * [`gradients`] – global norm and scaling

pub mod adamw;
pub mod algorithm;
pub mod gradients;
pub mod groups;
pub mod nadamw;
pub mod torch;

pub use algorithm::{AdamW, Algorithm, Given, Settings};
pub use gradients::{clip_factor, gradient_norm, scale_gradients};
pub use groups::{LayerDecay, Optim, decays};
