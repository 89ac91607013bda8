//! From `--device` and the launcher to the ranks of a run.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use openclip_model::device;

use super::rank::{Outcome, RankContext, one_rank};
use crate::comm::world::ProcessRank;
use crate::comm::{CommError, Communicator, Single, threads};
use crate::{TrainConfig, TrainError};

/// Runs one rank, a thread for each device, or this process's part among others.
pub(super) fn spread(mut config: TrainConfig) -> Result<Outcome, TrainError> {
    let name = config.name.take().unwrap_or_else(|| run_name(&config));
    config.name = Some(name.clone());
    let devices = device::list(&config.device);
    if let Some(process) = ProcessRank::of_environment()? {
        if devices.len() > 1 {
            let reason = "processes that a launcher has started take one device each";
            return Err(TrainError::flag("--device", reason));
        }
        let ranks = join(process)?;
        let name = ranks.from_first(name.as_bytes())?;
        config.name = Some(String::from_utf8_lossy(&name).into_owned());
        config.device = device::local(&config.device, process.local_rank);
        let outcome = one_rank(config, RankContext::new(Arc::clone(&ranks)));
        if outcome.is_err() {
            // MPI must not end in good order here: the others would wait for ever. Its launcher ends them with this process.
            std::mem::forget(ranks);
        }
        return outcome;
    }
    if let [only] = devices.as_slice() {
        config.device.clone_from(only);
        return one_rank(config, RankContext::new(Arc::new(Single)));
    }
    let stop: Arc<AtomicBool> = Arc::default();
    let outcomes: Vec<Result<Outcome, TrainError>> = std::thread::scope(|scope| {
        let ranks = threads::ranks(devices.len()).into_iter().zip(devices);
        let running: Vec<_> = ranks
            .map(|(rank, device)| {
                let listens = rank.rank() == 0;
                let context = RankContext {
                    ranks: Arc::new(rank),
                    stop: Arc::clone(&stop),
                    listens,
                };
                let config = TrainConfig {
                    device,
                    ..config.clone()
                };
                scope.spawn(move || one_rank(config, context))
            })
            .collect();
        let panicked = |_| Err(TrainError::Learner("a rank's thread has panicked".into()));
        let ended = running.into_iter().map(|rank| rank.join());
        ended
            .map(|result| result.unwrap_or_else(panicked))
            .collect()
    });
    first_cause(outcomes)
}

/// What the first rank came to, or why a rank failed: not that another was left alone by it.
fn first_cause(outcomes: Vec<Result<Outcome, TrainError>>) -> Result<Outcome, TrainError> {
    let (mut done, mut left_alone) = (None, None);
    for outcome in outcomes {
        match outcome {
            Ok(outcome) => done = done.or(Some(outcome)),
            Err(error) if error.is_of_lost_rank() => left_alone = left_alone.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    match (left_alone, done) {
        (Some(error), _) => Err(error),
        (None, Some(outcome)) => Ok(outcome),
        (None, None) => Err(CommError::Setup("there is no rank".into()).into()),
    }
}

#[cfg(feature = "mpi")]
fn join(process: ProcessRank) -> Result<Arc<dyn Communicator>, CommError> {
    let ranks = crate::comm::mpi::MpiRank::join()?;
    if ranks.world_size() != process.world_size {
        return Err(CommError::Setup(format!(
            "the environment speaks of {} processes, MPI of {}: start them with mpirun or srun",
            process.world_size,
            ranks.world_size()
        )));
    }
    Ok(Arc::new(ranks))
}

#[cfg(not(feature = "mpi"))]
fn join(process: ProcessRank) -> Result<Arc<dyn Communicator>, CommError> {
    Err(CommError::Setup(format!(
        "process {} of {}, says the environment; several processes need a build with `--features mpi`",
        process.rank, process.world_size
    )))
}

/// OpenCLIP's name of a run that is given none.
fn run_name(config: &TrainConfig) -> String {
    format!(
        "{}-model_{}-lr_{}-b_{}-j_{}-p_{}",
        jiff::Zoned::now().strftime("%Y_%m_%d-%H_%M_%S"),
        config.model.replace(['/', ':'], "-"),
        config.lr,
        config.batch_size,
        config.workers,
        config.precision.name(),
    )
}
