//! Captions of a CoCa model, token by token (`CoCa.generate` of OpenCLIP 2.29).
//!
//! * `options` – how captions are written
//! * `captions` – from pictures to token ids
//! * `beam` – beam search
//! * `sample` – drawing from the largest logits
//! * `stepper` – logits of the next token, with the keys and values of the earlier ones kept or computed anew
//!
//! A picture is encoded once. In every step the model gives a logit for each token of the vocabulary; an end before the minimum
//! length is forbidden and repeated tokens are made less likely; then the search or the sampler appends tokens.

mod beam;
mod captions;
mod options;
mod sample;
mod stepper;

pub use options::{
    BeamScore, BeamSearch, Filter, GenerateOptions, Sampling, SpecialTokens, Strategy,
};
