//! BatchNorm's statistics over all ranks (`--use-bn-sync`).

use std::sync::Arc;

use openclip_model::layers::batch_norm::RankSum;

use super::Communicator;
use crate::TrainError;

/// The ranks' sum as BatchNorm asks for it.
#[derive(Debug, Clone)]
pub struct BatchNormRanks(pub Arc<dyn Communicator>);

impl RankSum for BatchNormRanks {
    fn sum(&self, values: &mut [f32]) {
        if let Err(error) = self.0.all_reduce(values) {
            // Burn's forward and backward passes return no error; the run catches this one.
            std::panic::resume_unwind(Box::new(TrainError::from(error)));
        }
    }
}
