//! What worker threads do with a sample: read its file, decode, transform, tokenize.

use std::fs::{self, File};
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::activity::{Activities, Stage};
use super::budget::Budget;
use super::message::{Body, Job, Message, Outcome, Ready};
use super::stats::Timing;
use crate::error::panic_message;
use crate::image::Transform;
use crate::source::order::Stream;
use crate::source::{ImageData, MAX_MEMBER_BYTES, Order, Problem, ProblemKind, Sample};
use crate::tokenizer::Tokenizer;

pub(super) struct Worker {
    pub transform: Arc<Transform>,
    pub tokenizer: Option<Arc<dyn Tokenizer>>,
    pub order: Order,
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
                Some(_) => "an image without text; the members of a sample have to stand together",
                None => "an image without text",
            };
            return bad(ProblemKind::MissingCaption, reason.into());
        }
        let mut timing = Timing {
            read,
            ..Timing::default()
        };
        let mut start = Instant::now();
        let mut lap = || std::mem::replace(&mut start, Instant::now()).elapsed();

        let encoded = match image {
            ImageData::Encoded(bytes) => Some(bytes),
            ImageData::Black => None,
            ImageData::Path(path) => match read_file(&path) {
                Ok(bytes) => Some(bytes),
                Err(error) => return bad(ProblemKind::UnreadableImage, error.to_string()),
            },
        };
        timing.read += lap();
        self.activities.enter(n, Stage::Decoding);

        let mut pixels = self
            .used_buffers
            .try_recv()
            .unwrap_or_else(|_| vec![0; self.image_bytes]);
        let mut erased = Vec::new();
        match &encoded {
            Some(encoded) => {
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
            bytes,
            timing,
        }))
    }
}

/// The bytes of a regular file. Pipes and devices are refused, since reading them may never end.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    if metadata.len() > MAX_MEMBER_BYTES {
        let reason = format!("{} bytes, the limit is {MAX_MEMBER_BYTES}", metadata.len());
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    File::open(path)?
        .take(MAX_MEMBER_BYTES)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}
