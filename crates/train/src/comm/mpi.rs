//! Ranks that are processes, on one node or many, started by `mpirun` or `srun`.

use std::sync::{Arc, Mutex, PoisonError};

use mpi::Threading;
use mpi::collective::SystemOperation;
use mpi::datatype::PartitionMut;
use mpi::environment::Universe;
use mpi::topology::{Communicator as _, SimpleCommunicator};
use mpi::traits::CommunicatorCollectives;

use super::{CommError, Communicator, pieces};

/// Largest exchange in one call, in bytes: MPI counts in `i32`. More goes in pieces.
const MOST: usize = 1 << 28;

/// This process among those that the launcher started.
///
/// MPI's own way with a lost process holds: the launcher ends them all.
#[derive(Debug, Clone)]
pub struct MpiRank {
    rank: usize,
    size: usize,
    /// Bytes of one call.
    most: usize,
    /// One call at a time. MPI is finalised when the last clone goes.
    calls: Arc<Mutex<Held>>,
}

struct Held(#[allow(dead_code)] Universe);

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MPI")
    }
}

impl MpiRank {
    /// Joins the world; possible once in a process.
    ///
    /// # Errors
    /// When MPI is in use already, or cannot be called from several threads.
    pub fn join() -> Result<Self, CommError> {
        let (universe, threading) = mpi::initialize_with_threading(Threading::Serialized)
            .ok_or_else(|| CommError::Setup("MPI was initialised before".into()))?;
        if threading < Threading::Serialized {
            let reason = format!("MPI offers {threading:?} threading; Serialized is needed");
            return Err(CommError::Setup(reason));
        }
        let world = SimpleCommunicator::world();
        Ok(Self {
            rank: world.rank() as usize,
            size: world.size() as usize,
            most: MOST,
            calls: Arc::new(Mutex::new(Held(universe))),
        })
    }

    /// The same with calls of at most `bytes`, equal on all ranks.
    pub fn with_calls_of(self, bytes: usize) -> Self {
        Self {
            most: bytes,
            ..self
        }
    }

    fn with<T>(&self, call: impl FnOnce(&SimpleCommunicator) -> T) -> T {
        let _held = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        call(&SimpleCommunicator::world())
    }
}

impl Communicator for MpiRank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.size
    }

    fn all_gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CommError> {
        self.with(|world| {
            let mut counts = vec![0_u64; self.size];
            world.all_gather_into(&(bytes.len() as u64), &mut counts[..]);
            pieces::gather(&counts, self.most, |moved, first| {
                let counts: Vec<i32> = moved.iter().map(|count| *count as i32).collect();
                let starts = counts.iter().scan(0, |start, count| {
                    *start += count;
                    Some(*start - count)
                });
                let starts: Vec<i32> = starts.collect();
                let own = bytes.get(first..).unwrap_or_default();
                // The address of an empty slice may be 1, which Open MPI reads as MPI_IN_PLACE.
                let own = match moved[self.rank] {
                    0 => &[0_u8][..0],
                    count => &own[..count],
                };
                let total = moved.iter().sum();
                let mut all = Vec::with_capacity(total + 1);
                all.resize(total, 0_u8);
                let mut parts = PartitionMut::new(&mut all[..], counts, starts);
                world.all_gather_varcount_into(own, &mut parts);
                Ok(all)
            })
        })
    }

    fn all_reduce(&self, values: &mut [f32]) -> Result<(), CommError> {
        self.with(|world| {
            for part in values.chunks_mut((self.most / size_of::<f32>()).max(1)) {
                let mine = part.to_vec();
                world.all_reduce_into(&mine[..], part, SystemOperation::sum());
            }
        });
        Ok(())
    }
}
