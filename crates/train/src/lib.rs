//! Training on Burn's Learner.
//!
//! * [`loss`] – the contrastive objective
//! * [`relay`] – its exact gradient in micro-batches

pub mod loss;
pub mod relay;
