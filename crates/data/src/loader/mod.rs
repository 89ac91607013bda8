//! From a [`Source`] to batches, with the work spread over threads and the order kept.
//!
//! ```text
//! reader ──samples──▶ workers ──pixels, tokens──▶ assembler ──batches──▶ caller
//!   walks the source    read files, decode,          restores the order,
//!   in its order        transform, tokenize          drops bad samples, fills batches
//! ```
//!
//! The reader numbers the items of an epoch; that number, the *cursor*, is all it takes to resume. The random transform
//! of a sample is seeded by it too, so batches are the same whatever the number of workers. `budget` bounds what is
//! under way; everything else waits on channels that end when either side goes.

mod activity;
mod advice;
mod assemble;
mod batch;
pub(crate) mod budget;
mod message;
mod options;
mod reader;
mod stats;
#[cfg(test)]
mod tests;
mod worker;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use self::activity::Activities;
use self::assemble::Assembler;
use self::budget::Budget;
use self::message::{Event, Job};
use self::reader::Reader;
use self::stats::Counters;
use self::worker::Worker;
use crate::error::DataError;
use crate::source::Source;
use crate::tokenizer::Tokenizer;

pub use self::activity::{Stage, Stall};
pub use self::advice::advice;
pub use self::batch::Batch;
pub use self::options::{LoaderOptions, default_workers};
pub use self::stats::{Queues, Stats, Timing, Waits};
pub use crate::image::Transform;

/// How often a caller that waits looks what for.
const LOOK: Duration = Duration::from_millis(20);

/// An iterator over the batches of (the rest of) one epoch. Dropping it stops its threads.
pub struct Loader {
    events: Option<Receiver<Event>>,
    /// Samples that wait for a worker; held to see how many there are.
    jobs: Receiver<Job>,
    /// Whether a batch was handed out.
    has_begun: bool,
    budget: Arc<Budget>,
    counters: Arc<Counters>,
    activities: Arc<Activities>,
    stall_after: Duration,
    threads: Vec<JoinHandle<()>>,
}

impl Loader {
    /// Starts the threads. With a tokenizer every sample needs a caption; without one captions are passed on as they
    /// are and no tokens are made.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        source: Arc<dyn Source>,
        transform: Arc<Transform>,
        tokenizer: Option<Arc<dyn Tokenizer>>,
        options: &LoaderOptions,
    ) -> Result<Self, DataError> {
        let batch_size = options.batch_size.max(1);
        let workers = options.workers.max(1);
        let budget = Arc::new(Budget::new(batch_size.max(8 * workers), options.max_bytes));
        let counters = Arc::new(Counters::default());
        let activities = Arc::new(Activities::new(source.describe(), workers));
        let (event_sender, events) = crossbeam_channel::bounded(options.prefetch.max(1));
        let (job_sender, jobs) = crossbeam_channel::unbounded();
        let (used_buffer_sender, used_buffers) = crossbeam_channel::unbounded();
        let (message_sender, messages) = std::sync::mpsc::channel();
        // From here on an early return drops the loader, which stops the threads that run already.
        let mut loader = Self {
            events: Some(events),
            jobs: jobs.clone(),
            has_begun: false,
            budget: Arc::clone(&budget),
            counters: Arc::clone(&counters),
            activities: Arc::clone(&activities),
            stall_after: options.stall_after,
            threads: Vec::with_capacity(workers + 2),
        };

        let worker = Arc::new(Worker {
            transform,
            tokenizer,
            order: options.order,
            hashes: options.hashes,
            image_bytes: 3 * options.image_size[0] * options.image_size[1],
            budget: Arc::clone(&budget),
            activities: Arc::clone(&activities),
            used_buffers,
        });
        for n in 0..workers {
            let (worker, jobs, messages) =
                (Arc::clone(&worker), jobs.clone(), message_sender.clone());
            loader.spawn(format!("loader-worker-{n}"), move || {
                worker.run(n, &jobs, &messages)
            })?;
        }
        let assembler = Assembler::new(
            source.describe(),
            options,
            event_sender,
            used_buffer_sender,
            Arc::clone(&budget),
            counters,
        );
        loader.spawn("loader-assembler".into(), move || assembler.run(&messages))?;
        let reader = Reader::new(
            options,
            worker.image_bytes,
            budget,
            activities,
            job_sender,
            message_sender,
        );
        loader.spawn("loader-reader".into(), move || reader.run(source.as_ref()))?;
        Ok(loader)
    }

    fn spawn(
        &mut self,
        name: String,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<(), DataError> {
        let thread = std::thread::Builder::new().name(name).spawn(body);
        self.threads
            .push(thread.map_err(|source| DataError::Thread { source })?);
        Ok(())
    }

    /// The next event, and what it was waited for; with a warning as often as the wait has doubled.
    fn wait(&self, events: &Receiver<Event>) -> (Option<Event>, Waits) {
        let mut waits = Waits::default();
        if let Ok(event) = events.try_recv() {
            return (Some(event), waits);
        }
        let start = Instant::now();
        let (mut looked, mut patience) = (start, self.stall_after);
        loop {
            let stage = self.activities.limiting(self.jobs.len());
            let left = patience.saturating_sub(start.elapsed());
            let received = events.recv_timeout(left.min(LOOK));
            let now = Instant::now();
            let slot = match self.has_begun {
                true => &mut waits.stages[stage as usize],
                false => &mut waits.start,
            };
            *slot += now - looked;
            looked = now;
            match received {
                Ok(event) => return (Some(event), waits),
                Err(RecvTimeoutError::Disconnected) => return (None, waits),
                Err(RecvTimeoutError::Timeout) if start.elapsed() < patience => {}
                Err(RecvTimeoutError::Timeout) => {
                    let stall = self.activities.stall(start.elapsed());
                    log::warn!("{stall}");
                    self.counters.add_stall(stall);
                    patience = patience.saturating_mul(2);
                }
            }
        }
    }

    /// Whether the source was read to its end: what is still to come is on its way.
    pub fn is_read(&self) -> bool {
        // The reader is started last.
        self.threads.last().is_none_or(JoinHandle::is_finished)
    }

    /// What was done so far.
    pub fn stats(&self) -> Stats {
        self.counters.snapshot()
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let events = self.events.as_ref()?;
        let queues = Queues {
            visits: 1,
            batches: events.len() as u64,
            samples: self.jobs.len() as u64,
        };
        let (event, waits) = self.wait(events);
        let mut timing = Timing {
            waits,
            ..Timing::default()
        };
        // The first visit finds everything empty, and the last one nothing that will come.
        if self.has_begun && matches!(event, Some(Event::Batch(_))) {
            timing.queues = queues;
        }
        self.counters.add_timing(&timing);
        match event {
            Some(Event::Batch(mut batch)) => {
                self.has_begun = true;
                batch.timing += timing;
                Some(Ok(*batch))
            }
            Some(Event::End) => {
                self.events = None;
                None
            }
            Some(Event::Failed(error)) => {
                self.events = None;
                Some(Err(error))
            }
            None => {
                self.events = None;
                Some(Err(DataError::LoaderStopped))
            }
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // The reader stops at the budget, the assembler at the closed channel, the workers when the reader has gone.
        self.budget.close();
        self.events = None;
        for thread in self.threads.drain(..) {
            // A panic in a thread was reported as an error already.
            let _ = thread.join();
        }
    }
}
