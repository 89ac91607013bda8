//! What worker threads do with a sample: read its file, decode, transform, tokenize.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::activity::{Activities, Stage};
use super::budget::Budget;
use super::message::{Body, Job, Message, Outcome, Ready};
use super::stats::Timing;
use crate::error::panic_message;
use crate::image::Transform;
use crate::source::order::Stream;
use crate::source::{Field, Order, Problem, ProblemKind, Sample};
use crate::storage::Watch;
use crate::tokenizer::Tokenizer;

pub(super) struct Worker {
    pub transform: Arc<Transform>,
    pub tokenizer: Option<Arc<dyn Tokenizer>>,
    pub order: Order,
    /// The hash of the encoded picture goes along.
    pub hashes: bool,
    /// Bytes of a transformed image.
    pub image_bytes: usize,
    pub budget: Arc<Budget>,
    pub activities: Arc<Activities>,
    /// Pixel buffers that were copied into a batch and can be written again: fresh ones would cost a page fault for
    /// every 4 KiB.
    pub used_buffers: crossbeam_channel::Receiver<Vec<u8>>,
}

impl Worker {
    /// Works as the `n`-th until the reader has gone or the loader is dropped.
    pub fn run(
        &self,
        n: usize,
        jobs: &crossbeam_channel::Receiver<Job>,
        messages: &mpsc::Sender<Message>,
    ) {
        while let Ok(job) = jobs.recv() {
            if self.budget.is_closed() {
                return;
            }
            let Job {
                seq,
                index,
                sample,
                room,
                read,
            } = job;
            let place = sample.place();
            self.activities.begin(n, &place);
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                self.process(n, sample, &place, index, read)
            }));
            let outcome = outcome.unwrap_or_else(|payload| {
                let message = panic_message(payload.as_ref());
                Outcome::Panicked { place, message }
            });
            self.activities.idle(n);
            let body = Body::Item {
                cursor: index + 1,
                room,
                outcome,
            };
            if messages.send(Message { seq, body }).is_err() {
                return;
            }
        }
    }

    fn process(
        &self,
        n: usize,
        sample: Sample,
        place: &str,
        index: u64,
        read: Duration,
    ) -> Outcome {
        let Sample {
            name,
            image,
            caption,
            label,
            mut fields,
            shard,
        } = sample;
        let bad = |kind, reason: String| {
            Outcome::Bad(Problem {
                kind,
                place: place.to_owned(),
                reason,
            })
        };
        if caption.is_none() && self.tokenizer.is_some() {
            let reason = match shard {
                Some(_) => {
                    "an image without text; in a tar, the members of a sample have to stand together"
                }
                None => "an image without text",
            };
            return bad(ProblemKind::MissingCaption, reason.into());
        }
        let mut timing = Timing {
            source: read,
            ..Timing::default()
        };
        let mut start = Instant::now();
        let mut lap = || std::mem::replace(&mut start, Instant::now()).elapsed();

        let budget = Arc::clone(&self.budget);
        let watch = Watch::new(move || budget.is_closed());
        let encoded = match image.read(watch) {
            Ok(encoded) => encoded,
            Err(error) => return bad(ProblemKind::UnreadableImage, error.to_string()),
        };
        timing.file = lap();
        self.activities.enter(n, Stage::Decoding);

        let mut pixels = self
            .used_buffers
            .try_recv()
            .unwrap_or_else(|_| vec![0; self.image_bytes]);
        let mut erased = Vec::new();
        match &encoded {
            Some(encoded) => {
                if self.hashes {
                    fields.push("sha256".into(), Some(Field::Text(sha256(encoded))));
                }
                let mut rng = self.order.rng(Stream::Augmentation, index);
                match (self.transform)(encoded, &mut rng, &mut pixels) {
                    Ok(drawn) => erased = drawn,
                    Err(error) => return bad(ProblemKind::UndecodableImage, error.to_string()),
                }
            }
            None => pixels.fill(0),
        }
        timing.transform = lap();
        self.activities.enter(n, Stage::Tokenizing);

        let text = caption.as_deref().unwrap_or_default();
        let tokens = self.tokenizer.as_ref();
        let tokens = match tokens.map(|tokenizer| tokenizer.tokenize(text)) {
            None => Vec::new(),
            Some(Ok(tokens)) => tokens,
            Some(Err(error)) => {
                return bad(ProblemKind::UntokenizableCaption, error.to_string());
            }
        };
        timing.tokenize = lap();

        let bytes = (encoded.map_or(0, |encoded| encoded.len()) + text.len()) as u64;
        Outcome::Ready(Box::new(Ready {
            image: pixels,
            erased,
            tokens,
            name,
            caption,
            label,
            fields,
            bytes,
            timing,
        }))
    }
}

/// In hexadecimal digits.
fn sha256(bytes: &[u8]) -> String {
    let digits = Sha256::digest(bytes);
    digits.iter().map(|byte| format!("{byte:02x}")).collect()
}
