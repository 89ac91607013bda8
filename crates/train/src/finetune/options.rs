//! What a run does that fine-tunes.

use serde::{Deserialize, Serialize};

use super::lora::Lora;
use crate::TrainError;

/// What is learned where a run fine-tunes a classifier on folders of labelled pictures.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Finetune {
    /// The classifier alone learns, on features as they are. Default: the image tower learns as well.
    pub head_only: bool,
    /// Share of a label that is spread over all classes. Default: 0.
    pub label_smoothing: f64,
    /// The image tower learns through adapters alone. `None` (default): it learns itself.
    pub lora: Option<Lora>,
}

impl Finetune {
    /// # Errors
    /// [`TrainError::Flag`] of a value that cannot be.
    pub fn check(&self) -> Result<(), TrainError> {
        if !(0.0..1.0).contains(&self.label_smoothing) {
            let reason = format!("{} is not at least 0 and below 1", self.label_smoothing);
            return Err(TrainError::flag("--label-smoothing", reason));
        }
        self.lora.as_ref().map_or(Ok(()), Lora::check)
    }
}
