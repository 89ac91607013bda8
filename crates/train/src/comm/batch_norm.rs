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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::comm::threads;

    /// The others waited for a sum of nothing, or added up numbers of different norms.
    #[test]
    fn statistics_that_cannot_be_read_end_every_rank() {
        let ranks = threads::ranks(3).into_iter().enumerate();
        let errors: Vec<TrainError> = std::thread::scope(|scope| {
            let rank = |(number, rank)| {
                scope.spawn(move || {
                    let sum = BatchNormRanks(Arc::new(rank));
                    let values = match number {
                        1 => Err("out of memory".to_owned()),
                        _ => Ok(vec![1.0; 4]),
                    };
                    let panic = catch_unwind(AssertUnwindSafe(|| sum.sum(values))).unwrap_err();
                    *panic.downcast::<TrainError>().unwrap()
                })
            };
            let threads: Vec<_> = ranks.map(rank).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(errors[1].to_string().contains("out of memory"));
        assert!(errors[0].is_of_lost_rank() && errors[2].is_of_lost_rank());
    }
}
