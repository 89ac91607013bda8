//! Ranks that are threads of one process.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::{CommError, Communicator};

/// One of the threads. Dropping it tells the others that it has ended.
#[derive(Debug)]
pub struct ThreadRank {
    rank: usize,
    size: usize,
    rendezvous: Arc<Rendezvous>,
}

/// Where the threads meet.
#[derive(Debug)]
struct Rendezvous {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// What has been given in this round.
    given: Vec<Option<Vec<u8>>>,
    /// What was given in the last full round, until all have taken it.
    complete: Option<Arc<Vec<Vec<u8>>>>,
    /// Ranks that have not taken it yet.
    to_take: usize,
    lost: Option<usize>,
}

/// The ranks of a world of `size` threads, each to be moved to its own.
pub fn ranks(size: usize) -> Vec<ThreadRank> {
    let state = State {
        given: vec![None; size],
        complete: None,
        to_take: 0,
        lost: None,
    };
    let rendezvous = Arc::new(Rendezvous {
        state: Mutex::new(state),
        changed: Condvar::new(),
    });
    (0..size)
        .map(|rank| ThreadRank {
            rank,
            size,
            rendezvous: Arc::clone(&rendezvous),
        })
        .collect()
}

impl ThreadRank {
    fn state(&self) -> MutexGuard<'_, State> {
        let state = self.rendezvous.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while `busy` says so, unless a rank is lost.
    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        busy: impl Fn(&State) -> bool,
    ) -> Result<MutexGuard<'a, State>, CommError> {
        let waits = |state: &mut State| state.lost.is_none() && busy(state);
        let state = self.rendezvous.changed.wait_while(state, waits);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        match state.lost {
            Some(rank) if busy(&state) => Err(CommError::Lost(rank)),
            _ => Ok(state),
        }
    }

    fn exchange(&self, bytes: Vec<u8>) -> Result<Arc<Vec<Vec<u8>>>, CommError> {
        let mut state = self.wait(self.state(), |state| state.to_take > 0)?;
        state.given[self.rank] = Some(bytes);
        if state.given.iter().all(Option::is_some) {
            let all = state.given.iter_mut().filter_map(Option::take).collect();
            state.complete = Some(Arc::new(all));
            state.to_take = state.given.len();
            self.rendezvous.changed.notify_all();
        }
        let mut state = self.wait(state, |state| state.to_take == 0)?;
        let all = state.complete.clone().unwrap_or_default();
        state.to_take -= 1;
        if state.to_take == 0 {
            state.complete = None;
            self.rendezvous.changed.notify_all();
        }
        Ok(all)
    }
}

impl Drop for ThreadRank {
    fn drop(&mut self) {
        let rank = self.rank;
        self.state().lost.get_or_insert(rank);
        self.rendezvous.changed.notify_all();
    }
}

impl Communicator for ThreadRank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.size
    }

    fn all_gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CommError> {
        self.exchange(bytes.to_vec()).map(Arc::unwrap_or_clone)
    }

    fn all_reduce(&self, values: &mut [f32]) -> Result<(), CommError> {
        let all = self.exchange(bytemuck::cast_slice(values).to_vec())?;
        if let Some(other) = all.iter().find(|other| other.len() != values.len() * 4) {
            return Err(CommError::Length(values.len(), other.len() / 4));
        }
        values.fill(0.0);
        for given in all.iter() {
            for (value, bytes) in values.iter_mut().zip(given.chunks_exact(4)) {
                *value += bytemuck::pod_read_unaligned::<f32>(bytes);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn together<T: Send>(size: usize, work: impl Fn(&dyn Communicator) -> T + Sync) -> Vec<T> {
        std::thread::scope(|scope| {
            let work = &work;
            let threads: Vec<_> = ranks(size)
                .into_iter()
                .map(|rank| scope.spawn(move || work(&rank)))
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        })
    }

    #[test]
    fn many_rounds_stay_in_step() {
        let sums = together(4, |ranks| {
            let mut sum = 0.0;
            for round in 0..500_u16 {
                let mut values = [ranks.rank() as f32, f32::from(round)];
                ranks.all_reduce(&mut values).unwrap();
                assert_eq!(values, [6.0, 4.0 * f32::from(round)]);
                let given = vec![ranks.rank() as u8; ranks.rank()];
                let all = ranks.all_gather(&given).unwrap();
                assert_eq!(all, [vec![], vec![1], vec![2; 2], vec![3; 3]]);
                sum += values[1];
            }
            ranks.barrier().unwrap();
            sum
        });
        assert_eq!(sums, [499_000.0; 4]);
    }

    #[test]
    fn a_lost_rank_is_an_error_and_no_dead_end() {
        let found = together(3, |ranks| match ranks.rank() {
            2 => Err(CommError::Lost(2)),
            _ => ranks.barrier(),
        });
        assert_eq!(found[0], Err(CommError::Lost(2)));
        assert!(matches!(found[1], Err(CommError::Lost(_))));
    }

    #[test]
    fn unequal_lengths_are_refused() {
        let found = together(2, |ranks| {
            ranks.all_reduce(&mut vec![0.0; ranks.rank() + 1])
        });
        assert_eq!(
            found,
            [Err(CommError::Length(1, 2)), Err(CommError::Length(2, 1))]
        );
    }
}
