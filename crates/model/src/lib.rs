//! What a contrastive image–text network computes, and how its weights are read and written.
//!
//! * [`config`] – the OpenCLIP JSON schema and the preprocessing that belongs to a set of weights

pub mod config;
