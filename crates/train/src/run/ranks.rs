//! From `--device` and the launcher to the ranks of a run.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use openclip_model::device;

use super::{Outcome, one_rank, run_name};
use crate::comm::world::Place;
use crate::comm::{CommError, Communicator, Single, threads};
use crate::{TrainConfig, TrainError};

/// What a rank is given beside the flags.
pub(super) struct Seat {
    pub ranks: Arc<dyn Communicator>,
    /// Shared by the ranks of a process.
    pub stop: Arc<AtomicBool>,
    /// Whether it listens to signals for its process.
    pub listens: bool,
}

impl Seat {
    fn new(ranks: Arc<dyn Communicator>) -> Self {
        Self {
            ranks,
            stop: Arc::default(),
            listens: true,
        }
    }
}

/// Runs one rank, a thread for each device, or this process's part among others.
pub(super) fn spread(mut config: TrainConfig) -> Result<Outcome, TrainError> {
    let name = config.name.take().unwrap_or_else(|| run_name(&config));
    config.name = Some(name.clone());
    let devices = device::list(&config.device);
    if let Some(place) = Place::of_environment()? {
        if devices.len() > 1 {
            let reason = "processes that a launcher has started take one device each";
            return Err(TrainError::flag("--device", reason));
        }
        let ranks = join(place)?;
        let name = ranks.from_first(name.as_bytes())?;
        config.name = Some(String::from_utf8_lossy(&name).into_owned());
        config.device = device::local(&config.device, place.local_rank);
        let outcome = one_rank(config, Seat::new(Arc::clone(&ranks)));
        if outcome.is_err() {
            // MPI must not end in good order here: the others would wait for ever. Its launcher ends them with this process.
            std::mem::forget(ranks);
        }
        return outcome;
    }
    if let [only] = devices.as_slice() {
        config.device.clone_from(only);
        return one_rank(config, Seat::new(Arc::new(Single)));
    }
    let stop: Arc<AtomicBool> = Arc::default();
    let outcomes: Vec<Result<Outcome, TrainError>> = std::thread::scope(|scope| {
        let seats = threads::ranks(devices.len()).into_iter().zip(devices);
        let running: Vec<_> = seats
            .map(|(rank, device)| {
                let listens = rank.rank() == 0;
                let seat = Seat {
                    ranks: Arc::new(rank),
                    stop: Arc::clone(&stop),
                    listens,
                };
                let config = TrainConfig {
                    device,
                    ..config.clone()
                };
                scope.spawn(move || one_rank(config, seat))
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
fn join(place: Place) -> Result<Arc<dyn Communicator>, CommError> {
    let ranks = crate::comm::mpi::MpiRank::join()?;
    if ranks.world_size() != place.world_size {
        return Err(CommError::Setup(format!(
            "the environment speaks of {} processes, MPI of {}: start them with mpirun or srun",
            place.world_size,
            ranks.world_size()
        )));
    }
    Ok(Arc::new(ranks))
}

#[cfg(not(feature = "mpi"))]
fn join(place: Place) -> Result<Arc<dyn Communicator>, CommError> {
    Err(CommError::Setup(format!(
        "process {} of {}, says the environment; several processes need a build with `--features mpi`",
        place.rank, place.world_size
    )))
}

/// Where the first rank found a checkpoint, for all.
pub(super) fn agree_on_path(
    ranks: &dyn Communicator,
    found: Option<&Path>,
) -> Result<Option<String>, CommError> {
    let path = found.map(|path| path.to_string_lossy().into_owned());
    let path = ranks.from_first(path.unwrap_or_default().as_bytes())?;
    Ok(Some(String::from_utf8_lossy(&path).into_owned()).filter(|path| !path.is_empty()))
}
