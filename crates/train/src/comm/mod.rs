//! Ranks that train one model together, and how they exchange numbers.
//!
//! * [`Communicator`] – what an exchange has to offer: two operations
//! * [`threads`] – ranks are threads of this process, one per device
//! * [`mpi`](self) – ranks are processes on any number of nodes (feature `mpi`)
//! * `pieces` – exchanges larger than one call of MPI
//! * [`world`] – which rank the environment says this process is
//! * [`batch_norm`] – statistics of BatchNorm over all ranks
//! * [`tensors`] – the two operations on tensors and gradients
//!
//! Every rank makes the same calls in the same order. Sums are taken in one order everywhere, so that all ranks hold the same
//! bits after each call and their models never drift apart.

pub mod batch_norm;
#[cfg(feature = "mpi")]
pub mod mpi;
#[cfg_attr(not(feature = "mpi"), allow(dead_code))]
mod pieces;
pub mod tensors;
pub mod threads;
pub mod world;

use std::fmt::Debug;

/// One rank's view of all of them.
pub trait Communicator: Debug + Send + Sync {
    /// Number of this rank, from zero.
    fn rank(&self) -> usize;

    /// How many ranks there are.
    fn world_size(&self) -> usize;

    /// What every rank gave, in the order of the ranks; lengths may differ.
    ///
    /// # Errors
    /// When a rank is lost.
    fn all_gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CommError>;

    /// Replaces `values`, of equal length on all ranks, by their sum over the ranks.
    ///
    /// # Errors
    /// When a rank is lost.
    fn all_reduce(&self, values: &mut [f32]) -> Result<(), CommError>;
}

/// An exchange that did not take place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommError {
    /// A rank has ended while others wait for it.
    #[error("rank {0} has ended while the others go on")]
    Lost(usize),
    /// Ranks gave different lengths where equal ones are needed.
    #[error("ranks disagree: {0} values here, {1} on another rank")]
    Length(usize, usize),
    /// Ranks cannot be set up.
    #[error("{0}")]
    Setup(String),
}

/// The only rank.
#[derive(Debug, Clone, Copy, Default)]
pub struct Single;

impl Communicator for Single {
    fn rank(&self) -> usize {
        0
    }

    fn world_size(&self) -> usize {
        1
    }

    fn all_gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CommError> {
        Ok(vec![bytes.to_vec()])
    }

    fn all_reduce(&self, _: &mut [f32]) -> Result<(), CommError> {
        Ok(())
    }
}

impl dyn Communicator + '_ {
    /// Whether this rank logs, evaluates and saves for all.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Waits until every rank has come here.
    ///
    /// # Errors
    /// When a rank is lost.
    pub fn barrier(&self) -> Result<(), CommError> {
        self.all_gather(&[]).map(drop)
    }

    /// What the first rank gave.
    ///
    /// # Errors
    /// When a rank is lost.
    pub fn from_first(&self, bytes: &[u8]) -> Result<Vec<u8>, CommError> {
        let mine = if self.is_first() { bytes } else { &[] };
        Ok(self.all_gather(mine)?.swap_remove(0))
    }

    /// Each rank's number, in the order of the ranks.
    ///
    /// # Errors
    /// When a rank is lost.
    pub fn all_gather_u64(&self, value: u64) -> Result<Vec<u64>, CommError> {
        let all = self.all_gather(&value.to_le_bytes())?;
        let number = |bytes: Vec<u8>| bytes.try_into().map(u64::from_le_bytes);
        let numbers = all.into_iter().map(number).collect::<Result<_, _>>();
        numbers.map_err(|bytes| CommError::Length(8, bytes.len()))
    }

    /// Whether a flag is set on any rank.
    ///
    /// # Errors
    /// When a rank is lost.
    pub fn any(&self, flag: bool) -> Result<bool, CommError> {
        Ok(self.all_gather(&[flag.into()])?.contains(&vec![1]))
    }
}
