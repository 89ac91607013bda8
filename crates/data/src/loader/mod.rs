//! From a [`Source`] to batches, with the work spread over threads and the order kept.
//!
//! ```text
//! reader ──samples──▶ workers ──pixels, tokens──▶ assembler ──batches──▶ caller
//!   walks the source    read files, decode,          restores the order,
//!   in its order        transform, tokenize          drops bad samples, fills batches
//! ```
//!
//! The reader numbers the items of an epoch; that number, the *cursor*, is all it takes to resume. The random transform
//! of a sample is seeded by it too, so batches are the same whatever the number of workers. [`budget`] bounds what is
//! under way; everything else waits on channels that end when either side goes.

mod activity;
mod assemble;
mod budget;
mod reader;
mod stats;
#[cfg(test)]
mod tests;
mod worker;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;

use crate::error::DataError;
use crate::source::{Order, Problem, Sample, Source};
use crate::tokenizer::Tokenizer;
use activity::Board;
pub use activity::{Stage, Stall};
use assemble::Assembler;
use budget::Budget;
use stats::Counters;
pub use stats::{Stats, Timing};

/// Turns an encoded image into `[3, height, width]` planes of `u8`, all of which it must write: the buffer holds the
/// pixels of an earlier sample. The generator is seeded for this sample alone.
pub type Transform = dyn Fn(&[u8], &mut StdRng, &mut [u8]) -> Result<(), DataError> + Send + Sync;

/// How a [`Loader`] makes batches.
#[derive(Clone, Debug, PartialEq)]
pub struct LoaderOptions {
    /// Samples in a batch, at least 1.
    pub batch_size: usize,
    /// Height and width of a transformed image.
    pub image_size: [usize; 2],
    /// Worker threads, at least 1.
    pub workers: usize,
    /// Batches that wait ready for the caller, at least 1.
    pub prefetch: usize,
    /// Bytes of encoded and decoded samples under way before they are put into a batch.
    pub max_bytes: usize,
    /// Seed, epoch, rank and world.
    pub order: Order,
    /// How many full batches to make, beginning the source anew as often as it takes. `None` makes one pass and keeps
    /// the last, smaller batch.
    pub num_batches: Option<u64>,
    /// [`Batch::cursor`] of the last batch that is done with; the next one is made first.
    pub start_cursor: u64,
    /// Share of dropped samples above which the data counts as broken.
    pub max_bad_share: f64,
    /// Samples to see before the share is judged; a pass that ends earlier is judged at its end.
    pub bad_share_after: u64,
    /// How long a caller waits for a batch before it is told what for; after twice the time it is told again, and so on.
    pub stall_after: Duration,
}

impl LoaderOptions {
    /// Options with 4 workers, 2 batches ahead within 1 GiB, and an error when more than half of 1000 samples are bad.
    pub fn new(batch_size: usize, image_size: [usize; 2], order: Order) -> Self {
        Self {
            batch_size,
            image_size,
            workers: 4,
            prefetch: 2,
            max_bytes: 1 << 30,
            order,
            num_batches: None,
            start_cursor: 0,
            max_bad_share: 0.5,
            bad_share_after: 1000,
            stall_after: Duration::from_secs(30),
        }
    }
}

/// Samples side by side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Pixels `[size, 3, height, width]`.
    pub images: Vec<u8>,
    /// Token ids `[size, context_length]`; empty without a tokenizer.
    pub tokens: Vec<i32>,
    /// Image paths or keys, `size` of them.
    pub names: Vec<String>,
    /// Captions, `size` of them; empty strings where the source has none.
    pub captions: Vec<String>,
    /// Class indices, `size` of them; empty for sources without classes.
    pub labels: Vec<usize>,
    /// How many samples there are.
    pub size: usize,
    /// Items of the source used up to and with this batch, counted from the start of the epoch.
    pub cursor: u64,
    /// What this batch took.
    pub timing: Timing,
}

/// A sample on its way to a worker.
struct Job {
    seq: u64,
    /// Number of the item within the epoch.
    index: u64,
    sample: Sample,
    /// Bytes held of the budget.
    room: usize,
    read: Duration,
}

/// A message on its way to the assembler; `seq` numbers them without a gap.
struct Message {
    seq: u64,
    body: Body,
}

enum Body {
    /// The item that moves the cursor to `cursor`, and the bytes of the budget it held.
    Item {
        cursor: u64,
        room: usize,
        outcome: Outcome,
    },
    /// A pass is over; `whole` when it was walked from its first item.
    PassEnd { whole: bool },
    /// Nothing more will come.
    End,
    /// Nothing more can come.
    Failed(DataError),
}

enum Outcome {
    Ready(Box<Ready>),
    Bad(Problem),
    Panicked { place: String, message: String },
}

/// A sample ready for a batch.
struct Ready {
    image: Vec<u8>,
    tokens: Vec<i32>,
    name: String,
    caption: String,
    label: Option<usize>,
    bytes: u64,
    timing: Timing,
}

/// What the assembler hands to the caller.
enum Event {
    Batch(Batch),
    Failed(DataError),
    End,
}

/// An iterator over the batches of (the rest of) one epoch. Dropping it stops its threads.
pub struct Loader {
    events: Option<Receiver<Event>>,
    used_batches: crossbeam_channel::Sender<Vec<u8>>,
    budget: Arc<Budget>,
    counters: Arc<Counters>,
    board: Arc<Board>,
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
        let board = Arc::new(Board::new(source.describe(), workers));
        let (event_sender, events) = sync_channel(options.prefetch.max(1));
        let (job_sender, jobs) = crossbeam_channel::unbounded();
        let (used_buffer_sender, used_buffers) = crossbeam_channel::unbounded();
        let (used_batch_sender, used_batches) = crossbeam_channel::unbounded();
        let (message_sender, messages) = std::sync::mpsc::channel();
        // From here on an early return drops the loader, which stops the threads that run already.
        let mut loader = Self {
            events: Some(events),
            used_batches: used_batch_sender,
            budget: Arc::clone(&budget),
            counters: Arc::clone(&counters),
            board: Arc::clone(&board),
            stall_after: options.stall_after,
            threads: Vec::with_capacity(workers + 2),
        };

        let worker = Arc::new(worker::Worker {
            transform,
            tokenizer,
            order: options.order,
            image_bytes: 3 * options.image_size[0] * options.image_size[1],
            budget: Arc::clone(&budget),
            board: Arc::clone(&board),
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
            used_batches,
            Arc::clone(&budget),
            counters,
        );
        loader.spawn("loader-assembler".into(), move || assembler.run(&messages))?;
        let reader = reader::Reader::new(
            options,
            worker.image_bytes,
            budget,
            board,
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

    /// Takes back the pixels of a batch that is done with, to write a later batch into the same memory. Optional: it
    /// saves the page faults of fresh memory, which cost more than copying the pixels.
    pub fn recycle(&self, images: Vec<u8>) {
        let _ = self.used_batches.send(images);
    }

    /// The next event, with a warning about what it waits for as often as the wait has doubled.
    fn wait(&self, events: &Receiver<Event>) -> Option<Event> {
        let start = Instant::now();
        let mut patience = self.stall_after;
        loop {
            let left = patience.saturating_sub(start.elapsed());
            match events.recv_timeout(left) {
                Ok(event) => return Some(event),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    let stall = self.board.stall(start.elapsed());
                    log::warn!("{stall}");
                    self.counters.add_stall(stall);
                    patience = patience.saturating_mul(2);
                }
            }
        }
    }

    /// What was done so far.
    pub fn stats(&self) -> Stats {
        self.counters.snapshot()
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = Instant::now();
        let event = self.wait(self.events.as_ref()?);
        let wait = Timing {
            wait: start.elapsed(),
            ..Timing::default()
        };
        self.counters.add_timing(&wait);
        match event {
            Some(Event::Batch(mut batch)) => {
                batch.timing += wait;
                Some(Ok(batch))
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

/// The message of a panic.
fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic".to_owned())
}
