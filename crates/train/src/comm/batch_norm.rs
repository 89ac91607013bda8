//! BatchNorm's statistics over all ranks (`--use-bn-sync`).

use std::sync::Arc;

use openclip_model::layers::batch_norm::RankSum;

use super::Communicator;
use crate::TrainError;

/// The ranks' sum as BatchNorm asks for it.
#[derive(Debug, Clone)]
pub struct BatchNormRanks(pub Arc<dyn Communicator>);

impl RankSum for BatchNormRanks {
    fn sum(&self, values: Result<Vec<f32>, String>) -> Vec<f32> {
        let sum = values
            .map_err(|reason| {
                TrainError::Learner(format!(
                    "--use-bn-sync: the device does not hand back BatchNorm's statistics: {reason}"
                ))
            })
            .and_then(|mut values| {
                self.0.all_reduce(&mut values)?;
                Ok(values)
            });
        // Burn's forward and backward passes return no error; the run catches this one.
        sum.unwrap_or_else(|error| std::panic::resume_unwind(Box::new(error)))
    }
}
