//! Where a run stands.

use serde::{Deserialize, Serialize};

use super::shape::EpochShape;
use crate::guard;

/// The counters that a run goes on from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Completed epochs.
    pub epoch: u64,
    /// Optimizer steps of the whole run.
    pub step: u64,
    /// Optimizer steps of the current epoch.
    pub step_in_epoch: u64,
    /// Items of the source used in the current epoch.
    pub cursor: u64,
    /// Samples trained on.
    pub samples_seen: u64,
    /// Samples of the current epoch trained on.
    #[serde(default)]
    pub samples_in_epoch: u64,
    /// What an epoch looks like; absent from checkpoints that do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<EpochShape>,
    /// What `cursor` is on every rank, in their order; set when a checkpoint is saved.
    #[serde(default)]
    pub cursors: Vec<u64>,
    /// What the judge of the steps remembers.
    #[serde(default)]
    pub guard: guard::Memory,
}

/// How far a run came; of two checkpoints of a run, the later one has the greater value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reached {
    epoch: u64,
    step: u64,
}

impl Progress {
    /// How far the run came.
    pub fn reached(&self) -> Reached {
        let Self { epoch, step, .. } = *self;
        Reached { epoch, step }
    }

    /// The same where `rank` of `world_size` ranks goes on.
    ///
    /// Samples that are numbered go to the ranks in turns. Where another number of ranks shares what is left of an epoch, they
    /// go on behind the samples that all former ranks together have used.
    pub fn of_rank(&self, rank: usize, world_size: usize) -> Self {
        let used = match self.cursors.as_slice() {
            [] => self.cursor,
            cursors => cursors.iter().sum(),
        };
        let turns = used.saturating_sub(rank as u64).div_ceil(world_size as u64);
        let cursor = match self.cursors.len() == world_size {
            true => self.cursors.get(rank).copied().unwrap_or(turns),
            false => turns,
        };
        Self {
            cursor,
            ..self.clone()
        }
    }
}
