//! The thread that restores the order of samples and fills batches.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use super::batch::Batch;
use super::budget::Budget;
use super::message::{Body, Event, Message, Outcome, Ready};
use super::options::LoaderOptions;
use super::stats::Counters;
use crate::error::DataError;
use crate::source::{Problem, ProblemKind};

/// How often a kind of problem is told in full before only every thousandth is.
const WARNINGS: u64 = 3;
/// Bad shards after which a source that gave no sample yet is given up: at the size of usual shards that is seconds.
const HOPELESS_SHARDS: u64 = 16;
/// As many are enough where they took this long, since the first.
const HOPELESS_SOON: (u64, Duration) = (4, Duration::from_secs(2));
/// Kinds of problems of which an error shows an example.
const EXAMPLES: usize = 3;

pub(super) struct Assembler {
    source_name: String,
    batch_size: usize,
    image_bytes: usize,
    num_batches: Option<u64>,
    max_bad_share: f64,
    bad_share_after: u64,
    events: crossbeam_channel::Sender<Event>,
    used_buffers: crossbeam_channel::Sender<Vec<u8>>,
    budget: Arc<Budget>,
    counters: Arc<Counters>,

    batch: Batch,
    batches: u64,
    good: u64,
    good_in_pass: u64,
    dropped: u64,
    bad_shards: u64,
    first_bad_shard: Option<Instant>,
    /// The first problem of each kind.
    examples: [Option<Problem>; ProblemKind::ALL.len()],
}

impl Assembler {
    pub fn new(
        source_name: String,
        options: &LoaderOptions,
        events: crossbeam_channel::Sender<Event>,
        used_buffers: crossbeam_channel::Sender<Vec<u8>>,
        budget: Arc<Budget>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            source_name,
            batch_size: options.batch_size.max(1),
            image_bytes: 3 * options.image_size[0] * options.image_size[1],
            num_batches: options.num_batches,
            max_bad_share: options.max_bad_share,
            bad_share_after: options.bad_share_after,
            events,
            used_buffers,
            budget,
            counters,
            batch: Batch::default(),
            batches: 0,
            good: 0,
            good_in_pass: 0,
            dropped: 0,
            bad_shards: 0,
            first_bad_shard: None,
            examples: [const { None }; ProblemKind::ALL.len()],
        }
    }

    pub fn run(mut self, messages: &Receiver<Message>) {
        if let Some(event) = self.assemble(messages) {
            let _ = self.events.send(event);
        }
        // The reader may be waiting for room that nobody will free any more.
        self.budget.close();
    }

    /// Fills batches until all are made, the source ends or something fails; the answer is the last event. `None` when
    /// the loader is being dropped.
    fn assemble(&mut self, messages: &Receiver<Message>) -> Option<Event> {
        let mut early = BTreeMap::new();
        let mut next = 0;
        while self.num_batches != Some(self.batches) {
            let body = loop {
                if let Some(body) = early.remove(&next) {
                    break body;
                }
                let message = messages.recv().ok()?;
                early.insert(message.seq, message.body);
            };
            next += 1;
            match self.take(body) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(last)) => return last,
                Err(error) => return Some(Event::Failed(error)),
            }
        }
        Some(Event::End)
    }

    fn take(&mut self, body: Body) -> Result<ControlFlow<Option<Event>>, DataError> {
        match body {
            Body::Item {
                cursor,
                room,
                outcome,
            } => {
                self.batch.cursor = cursor;
                let full = self.add(outcome)?;
                self.budget.leave(room);
                if full && !self.send_batch() {
                    return Ok(ControlFlow::Break(None));
                }
            }
            Body::PassEnd { whole } => {
                let good = std::mem::take(&mut self.good_in_pass);
                // The end of a pass that was resumed near it says little about the source.
                if whole {
                    if good == 0 {
                        return Err(self.no_samples());
                    }
                    self.judge(0)?;
                }
            }
            Body::End => {
                let sent = self.batch.size == 0 || self.send_batch();
                return Ok(ControlFlow::Break(sent.then_some(Event::End)));
            }
            Body::Failed(error) => return Err(error),
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Puts a sample into the batch, or counts what is wrong with it. `true` when the batch is full.
    fn add(&mut self, outcome: Outcome) -> Result<bool, DataError> {
        match outcome {
            Outcome::Ready(sample) => {
                self.add_sample(*sample)?;
                Ok(self.batch.size == self.batch_size)
            }
            Outcome::Bad(problem) => {
                self.count(problem)?;
                Ok(false)
            }
            Outcome::Panicked { place, message } => {
                Err(DataError::WorkerPanicked { place, message })
            }
        }
    }

    fn add_sample(&mut self, sample: Ready) -> Result<(), DataError> {
        let batch = &mut self.batch;
        if batch.size == 0 {
            let size = self.batch_size;
            let pixels = size.saturating_mul(self.image_bytes);
            let ids = size.saturating_mul(sample.tokens.len());
            let images = batch.images.try_reserve_exact(pixels);
            images
                .and_then(|()| batch.tokens.try_reserve_exact(ids))
                .map_err(|_| DataError::BatchTooLarge {
                    size,
                    bytes: pixels.saturating_add(ids.saturating_mul(size_of::<i32>())),
                })?;
        }
        batch.images.extend_from_slice(&sample.image);
        let _ = self.used_buffers.send(sample.image);
        let erased = sample.erased.into_iter().map(|erased| (batch.size, erased));
        batch.erased.extend(erased);
        batch.tokens.extend_from_slice(&sample.tokens);
        batch.names.push(sample.name);
        batch.captions.push(sample.caption);
        batch.fields.push(sample.fields);
        batch.labels.extend(sample.label);
        batch.timing += sample.timing;
        batch.size += 1;
        self.good += 1;
        self.good_in_pass += 1;
        self.counters.add_timing(&sample.timing);
        self.counters.add_sample(sample.bytes);
        Ok(())
    }

    fn count(&mut self, problem: Problem) -> Result<(), DataError> {
        let count = self.counters.add_problem(problem.kind);
        if count <= WARNINGS {
            log::warn!("{problem}");
        } else if count.is_multiple_of(1000) {
            log::warn!("{problem}; {count} of this kind so far");
        }
        self.dropped += u64::from(problem.kind.drops_sample());
        let hopeless = problem.kind.is_of_shard() && self.is_hopeless();
        self.examples[problem.kind as usize].get_or_insert(problem);
        if hopeless {
            Err(self.no_samples())
        } else {
            self.judge(self.bad_share_after)
        }
    }

    /// Counts a bad shard, and says whether there is a good one to hope for.
    fn is_hopeless(&mut self) -> bool {
        let since = self
            .first_bad_shard
            .get_or_insert_with(Instant::now)
            .elapsed();
        self.bad_shards += 1;
        let (few, soon) = HOPELESS_SOON;
        let enough = if since >= soon { few } else { HOPELESS_SHARDS };
        self.good == 0 && self.bad_shards >= enough
    }

    /// Whether too large a share of the samples is bad, once `after` of them are seen.
    fn judge(&self, after: u64) -> Result<(), DataError> {
        let total = self.good + self.dropped;
        if total < after || self.dropped as f64 <= self.max_bad_share * total as f64 {
            return Ok(());
        }
        Err(DataError::TooManyBadSamples {
            source_name: self.source_name.clone(),
            dropped: self.dropped,
            total,
            max_share: self.max_bad_share,
            found: self.found(),
        })
    }

    fn no_samples(&self) -> DataError {
        DataError::NoSamples {
            source_name: self.source_name.clone(),
            found: self.found(),
        }
    }

    /// What was found instead of good samples, most frequent first, with an example of each of the first few. What costs no sample
    /// comes last.
    fn found(&self) -> String {
        let mut counts = self.counters.snapshot().problems;
        counts.sort_by_key(|(kind, count)| (kind.is_harmless(), Reverse(*count)));
        let counts = counts.iter().enumerate().map(|(place, (kind, count))| {
            let example = self.examples[*kind as usize].as_ref();
            match example.filter(|_| place < EXAMPLES && !kind.is_harmless()) {
                Some(Problem { place, reason, .. }) => {
                    format!("{count} × {kind}, such as {place} ({reason})")
                }
                None => format!("{count} × {kind}"),
            }
        });
        let counts: Vec<String> = counts.collect();
        match counts.is_empty() {
            true => "nothing at all".to_owned(),
            false => counts.join("; "),
        }
    }

    /// `false` when the loader is being dropped.
    fn send_batch(&mut self) -> bool {
        let next = Batch {
            cursor: self.batch.cursor,
            ..Batch::default()
        };
        let batch = std::mem::replace(&mut self.batch, next);
        self.batches += 1;
        self.events.send(Event::Batch(Box::new(batch))).is_ok()
    }
}
