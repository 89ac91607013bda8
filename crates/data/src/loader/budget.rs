//! The bound on samples between the reader and the batch they go into.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A bound on how many samples, and how many bytes of them, are under way at once.
///
/// Every sample enters in order and leaves in order, so the oldest one always has its place and the line moves on.
#[derive(Debug)]
pub(crate) struct Budget {
    max_samples: usize,
    max_bytes: usize,
    used: Mutex<Used>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct Used {
    samples: usize,
    bytes: usize,
    closed: bool,
}

impl Budget {
    pub fn new(max_samples: usize, max_bytes: usize) -> Self {
        Self {
            max_samples,
            max_bytes,
            used: Mutex::default(),
            freed: Condvar::new(),
        }
    }

    /// Waits for room for a sample of `bytes`. One that is larger than the whole budget goes alone. `false` once the
    /// budget is closed.
    pub fn enter(&self, bytes: usize) -> bool {
        let mut used = self.lock();
        while !used.closed
            && used.samples > 0
            && (used.samples >= self.max_samples
                || used.bytes.saturating_add(bytes) > self.max_bytes)
        {
            used = self
                .freed
                .wait(used)
                .unwrap_or_else(PoisonError::into_inner);
        }
        used.samples += 1;
        used.bytes = used.bytes.saturating_add(bytes);
        !used.closed
    }

    /// Gives back the room of a sample of `bytes`.
    pub fn leave(&self, bytes: usize) {
        let mut used = self.lock();
        used.samples = used.samples.saturating_sub(1);
        used.bytes = used.bytes.saturating_sub(bytes);
        self.freed.notify_all();
    }

    /// Lets nothing in any more and wakes whoever waits.
    pub fn close(&self) {
        self.lock().closed = true;
        self.freed.notify_all();
    }

    /// Whether [`Budget::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// The numbers stay consistent at every unlock, so a panic elsewhere does not spoil them.
    fn lock(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn a_sample_larger_than_the_budget_goes_alone() {
        let budget = Arc::new(Budget::new(8, 100));
        assert!(budget.enter(500));
        let waiting = std::thread::spawn({
            let budget = Arc::clone(&budget);
            move || budget.enter(1)
        });
        std::thread::sleep(Duration::from_millis(20));
        assert!(!waiting.is_finished());
        budget.leave(500);
        assert!(waiting.join().is_ok_and(|entered| entered));
    }

    #[test]
    fn closing_wakes_those_who_wait() {
        let budget = Arc::new(Budget::new(1, 100));
        assert!(budget.enter(1));
        let waiting = std::thread::spawn({
            let budget = Arc::clone(&budget);
            move || budget.enter(1)
        });
        budget.close();
        assert!(waiting.join().is_ok_and(|entered| !entered));
        assert!(!budget.enter(1));
    }
}
