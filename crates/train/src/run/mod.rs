//! A run from its configuration to its last checkpoint.
//!
//! * `flags` – which flags go together
//! * `ranks` – from devices and launcher to ranks
//! * `rank` – the whole of one of them
//! * `setup` – from flags to model, optimizer, schedule and data
//! * `learning` – what of the model learns, and from what
//! * `resume` – where a run goes on from
//! * `advice` – settings that teach nothing
//! * `params` – `params.json`

mod advice;
mod flags;
pub(crate) mod learning;
mod params;
mod rank;
mod ranks;
mod resume;
pub(crate) mod setup;

use crate::{TrainConfig, TrainError};

pub use rank::Outcome;

/// Trains as `config` says; without training data, evaluates only.
///
/// # Errors
/// When flags, model, data or device do not allow it, or the run folder cannot be written.
pub fn train(config: TrainConfig) -> Result<Outcome, TrainError> {
    flags::validate(&config)?;
    ranks::spread(config)
}

/// Whether the flags go together, as far as they say so by themselves.
///
/// # Errors
/// [`TrainError::Flag`], naming the one at fault.
pub fn check(config: &TrainConfig) -> Result<(), TrainError> {
    flags::validate(config)?;
    setup::optim(config)?;
    setup::layer_decay(config)?;
    Ok(())
}
