//! From `--device` and the launcher to the ranks of a run.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use openclip_model::device;

use super::rank::{Outcome, RankContext, one_rank};
use crate::comm::world::ProcessRank;
use crate::comm::{CommError, Communicator, Single, threads};
use crate::{Precision, TrainConfig, TrainError};

/// Runs one rank, a thread for each device, or this process's part among others.
pub(super) fn spread(mut config: TrainConfig) -> Result<Outcome, TrainError> {
    let devices = device::list(&config.device);
    let by_default = config.precision.is_none();
    let process = match config.single_process {
        true => None,
        false => ProcessRank::of_environment()?,
    };
    if let (true, None, Ok(Some(other))) = (
        config.single_process,
        &config.name,
        ProcessRank::of_environment(),
    ) && other.rank > 0
    {
        let reason = format!(
            "this is process {} of {} ({}): give each a --name of its own",
            other.rank, other.world_size, other.told_by
        );
        return Err(TrainError::flag("--single-process", reason));
    }
    if let Some(process) = process {
        if devices.len() > 1 {
            let reason = "processes that a launcher has started take one device each";
            return Err(TrainError::flag("--device", reason));
        }
        let ranks = join(process)?;
        config.device = device::local(&config.device, process.local_rank);
        let outcome = agree(config, ranks.as_ref()).and_then(|config| {
            let context = RankContext::new(Arc::clone(&ranks), by_default);
            one_rank(config, context)
        });
        if outcome.is_err() {
            // MPI must not end in good order here: the others would wait for ever. Its launcher ends them with this process.
            std::mem::forget(ranks);
        }
        return outcome;
    }
    let mut config = settle(config, &devices)?;
    if let [only] = devices.as_slice() {
        config.device.clone_from(only);
        return one_rank(config, RankContext::new(Arc::new(Single), by_default));
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
                    precision_by_default: by_default,
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

/// `config` with a name and a precision: what suits the slowest of the devices where none is given.
fn settle(mut config: TrainConfig, devices: &[String]) -> Result<TrainConfig, TrainError> {
    if config.precision.is_none() {
        config.precision = Some(Precision::of_devices(devices)?);
    }
    if config.name.is_none() {
        config.name = Some(run_name(&config));
    }
    Ok(config)
}

/// The name and the precision that the first process settles on.
fn agree(config: TrainConfig, ranks: &dyn Communicator) -> Result<TrainConfig, TrainError> {
    let device = config.device.clone();
    let mut config = settle(config, &[device])?;
    let name = config.name.as_deref().unwrap_or_default();
    config.name = Some(from_first(ranks, name)?);
    let precision = from_first(ranks, config.precision().name())?;
    config.precision = Some(precision.parse().map_err(CommError::Setup)?);
    Ok(config)
}

fn from_first(ranks: &dyn Communicator, text: &str) -> Result<String, CommError> {
    let bytes = ranks.from_first(text.as_bytes())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
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
            "the environment speaks of {} processes ({}), MPI of {}: start them with mpirun or srun, or give --single-process \
             where this process is to train by itself",
            process.world_size,
            process.told_by,
            ranks.world_size()
        )));
    }
    Ok(Arc::new(ranks))
}

#[cfg(not(feature = "mpi"))]
fn join(process: ProcessRank) -> Result<Arc<dyn Communicator>, CommError> {
    Err(CommError::Setup(format!(
        "process {} of {}, says the environment ({}): several processes need a build with `--features mpi`; where this process is \
         to train by itself, as in a session that was given several tasks, give --single-process",
        process.rank, process.world_size, process.told_by
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
        config.precision().name(),
    )
}
