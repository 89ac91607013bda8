//! The one thread that walks the source.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Instant;

use super::activity::Activities;
use super::budget::Budget;
use super::message::{Body, Job, Message, Outcome};
use super::options::LoaderOptions;
use crate::error::{DataError, panic_message};
use crate::source::{Item, Order, Sink, Source};
use crate::storage::Watch;

/// Numbers the items of the source and sends them on, leaving out those before the starting cursor.
pub(super) struct Reader {
    order: Order,
    wraps: bool,
    image_bytes: usize,
    budget: Arc<Budget>,
    activities: Arc<Activities>,
    jobs: crossbeam_channel::Sender<Job>,
    messages: mpsc::Sender<Message>,
    /// Items still to be left out.
    skip: u64,
    /// Items of the epoch so far.
    cursor: u64,
    next_seq: u64,
    /// Since when the source has been at work.
    reading_since: Instant,
}

impl Reader {
    pub fn new(
        options: &LoaderOptions,
        image_bytes: usize,
        budget: Arc<Budget>,
        activities: Arc<Activities>,
        jobs: crossbeam_channel::Sender<Job>,
        messages: mpsc::Sender<Message>,
    ) -> Self {
        Self {
            order: options.order,
            wraps: options.num_batches.is_some(),
            image_bytes,
            budget,
            activities,
            jobs,
            messages,
            skip: options.start_cursor,
            cursor: 0,
            next_seq: 0,
            reading_since: Instant::now(),
        }
    }

    pub fn run(mut self, source: &dyn Source) {
        let walked = catch_unwind(AssertUnwindSafe(|| self.walk(source)));
        self.activities.source(false);
        if let Err(payload) = walked {
            let (place, message) = (source.describe(), panic_message(payload.as_ref()));
            self.send(Body::Failed(DataError::WorkerPanicked { place, message }));
        }
    }

    fn walk(&mut self, source: &dyn Source) {
        self.activities.source(true);
        let order = self.order;
        for pass in 0.. {
            let whole = self.skip == 0;
            let start = self.cursor;
            match source.pass(&order, pass, self) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => return,
                Err(error) => {
                    self.send(Body::Failed(error));
                    return;
                }
            }
            // A pass without items must not be repeated for ever, not even in search of the starting cursor.
            let empty = self.cursor == start;
            self.send(Body::PassEnd {
                whole: whole || empty,
            });
            if empty || !self.wraps {
                self.send(Body::End);
                return;
            }
        }
    }

    fn send(&mut self, body: Body) {
        let seq = self.take_seq();
        // A closed channel means that the loader is being dropped.
        let _ = self.messages.send(Message { seq, body });
    }

    fn take_seq(&mut self) -> u64 {
        self.next_seq += 1;
        self.next_seq - 1
    }
}

impl Sink for Reader {
    fn jump(&mut self, available: usize) -> usize {
        let left_out = self.skip.min(available as u64);
        self.skip -= left_out;
        self.cursor += left_out;
        left_out as usize
    }

    fn watch(&self) -> Watch {
        let budget = Arc::clone(&self.budget);
        Watch::new(move || budget.is_closed())
    }

    fn is_skipping(&self) -> bool {
        self.skip > 0
    }

    fn is_closed(&self) -> bool {
        self.budget.is_closed()
    }

    fn push(&mut self, item: Item) -> ControlFlow<()> {
        if self.budget.is_closed() {
            return ControlFlow::Break(());
        }
        if self.jump(1) == 1 {
            return ControlFlow::Continue(());
        }
        let read = self.reading_since.elapsed();
        let index = self.cursor;
        self.cursor += 1;
        // What the decoded image will take is reserved now, before a worker takes it.
        let room = match &item {
            Item::Sample(sample) => sample.bytes() + self.image_bytes,
            Item::Problem(_) => 0,
        };
        self.activities.source(false);
        if !self.budget.enter(room) {
            return ControlFlow::Break(());
        }
        match item {
            Item::Sample(sample) => {
                let seq = self.take_seq();
                if self
                    .jobs
                    .send(Job {
                        seq,
                        index,
                        sample,
                        room,
                        read,
                    })
                    .is_err()
                {
                    return ControlFlow::Break(());
                }
            }
            Item::Problem(problem) => {
                self.send(Body::Item {
                    cursor: self.cursor,
                    room,
                    outcome: Outcome::Bad(problem),
                });
            }
        }
        self.reading_since = Instant::now();
        self.activities.source(true);
        ControlFlow::Continue(())
    }
}
