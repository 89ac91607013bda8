#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod batches;
mod epochs;
mod faults;
mod pace;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;

use super::{Batch, Loader, LoaderOptions, Timing};
use crate::error::DataError;
use crate::image::Erasure;
use crate::source::csv::{Csv, CsvFormat};
use crate::source::testing::{tar_bytes, write_shards};
use crate::source::{ImageData, Item, Order, Sample, Sink, Source};
use crate::tokenizer::Tokenizer;

/// Two "tokens": the caption's length and its last byte; one caption has none.
struct Lengths;

impl Tokenizer for Lengths {
    fn context_length(&self) -> usize {
        2
    }
    fn tokenize(&self, text: &str) -> Result<Vec<i32>, DataError> {
        match text {
            "no token" => Err(DataError::caption(text, "no token")),
            _ => Ok(vec![
                text.len() as i32,
                text.bytes().last().unwrap_or_default().into(),
            ]),
        }
    }
}

/// Half of the pixels from the image, half at random. Images that begin with `bad`, and empty ones, fail.
fn transform(bytes: &[u8], rng: &mut StdRng, out: &mut [u8]) -> Result<Vec<Erasure>, DataError> {
    if bytes.is_empty() || bytes.starts_with(b"bad") {
        return Err(DataError::NoClasses {
            path: "not an image".into(),
        });
    }
    assert!(!bytes.starts_with(b"panic"), "a bug in the decoder");
    let half = out.len() / 2;
    for (pixel, byte) in out.iter_mut().zip(bytes.iter().cycle()).take(half) {
        *pixel = *byte;
    }
    rng.fill(&mut out[half..]);
    Ok(Vec::new())
}

fn options(batch_size: usize, num_batches: Option<u64>) -> LoaderOptions {
    let order = Order::training(5, 1);
    LoaderOptions {
        num_batches,
        workers: 2,
        ..LoaderOptions::new(batch_size, [2, 4], order)
    }
}

fn start(source: impl Source + 'static, options: &LoaderOptions) -> Loader {
    Loader::start(
        Arc::new(source),
        Arc::new(transform),
        Some(Arc::new(Lengths)),
        options,
    )
    .unwrap()
}

/// All batches, without the times.
fn batches(source: impl Source + 'static, options: &LoaderOptions) -> Vec<Batch> {
    let untimed = |batch: Result<Batch, _>| Batch {
        timing: Timing::default(),
        ..batch.unwrap()
    };
    start(source, options).map(untimed).collect()
}

fn failure(source: impl Source + 'static, options: &LoaderOptions) -> DataError {
    let since = Instant::now();
    let error = start(source, options)
        .find_map(Result::err)
        .expect("the loader should fail");
    assert!(since.elapsed() < Duration::from_secs(5));
    error
}

/// Shards with one sample in five bad, one way or another.
fn bad_shards(dir: &Path) -> Vec<std::path::PathBuf> {
    let paths = write_shards(dir, 3, 12);
    let bad = tar_bytes(&[
        ("a.jpg", b"good"),
        ("a.txt", b"good"),
        ("b.jpg", b"bad"),
        ("b.txt", b"corrupt"),
        ("c.jpg", b"no caption"),
        ("d.txt", b"no image"),
        ("e.jpg", b""),
        ("e.txt", b"zero bytes"),
        ("f.jpg", b"good"),
        ("f.txt", b"good"),
        ("f.jpg", b"twice"),
        ("f.txt", b"twice"),
        ("g.jpg", b"good"),
        ("g.txt", b"\xff"),
    ]);
    std::fs::write(&paths[1], &bad[..bad.len() - 1024 - 512]).unwrap();
    std::fs::remove_file(&paths[2]).unwrap();
    paths
}

/// A CSV of `rows` images, every seventh of which is bad: corrupt, missing or without caption.
fn csv(dir: &Path, rows: usize) -> Csv {
    let mut text = "filepath\ttitle\n".to_owned();
    for row in 0..rows {
        let path = dir.join(format!("{row}.jpg"));
        let (image, caption) = match row % 21 {
            0 => (Some("bad"), "corrupt".to_owned()),
            7 => (None, "missing".to_owned()),
            14 => (Some("x"), String::new()),
            _ => (Some("image"), format!("caption {row}")),
        };
        if let Some(image) = image {
            std::fs::write(&path, format!("{image}{row}")).unwrap();
        }
        text.push_str(&format!("{}\t{caption}\n", path.display()));
    }
    std::fs::write(dir.join("pairs.tsv"), text).unwrap();
    Csv::open(&dir.join("pairs.tsv"), &CsvFormat::default()).unwrap()
}

/// Pushes as many samples as it may, and counts them.
struct Endless {
    pushed: Arc<AtomicUsize>,
    image: &'static [u8],
    panics: bool,
}

impl Source for Endless {
    fn describe(&self) -> String {
        "an endless source".into()
    }
    fn num_samples(&self, _: Option<u64>) -> Result<u64, DataError> {
        Ok(u64::MAX)
    }
    fn batches(&self, samples: u64, _: usize, _: usize) -> u64 {
        samples
    }
    fn fingerprint(&self) -> u32 {
        0
    }
    fn partitions(self: Arc<Self>, _: u64) -> Result<Vec<Arc<dyn Source>>, DataError> {
        Ok(vec![self])
    }

    fn pass(&self, _: &Order, _: u64, sink: &mut dyn Sink) -> Result<ControlFlow<()>, DataError> {
        assert!(!self.panics, "a bug in the source");
        loop {
            let image = ImageData::Encoded(self.image.to_vec());
            let sample = Sample {
                name: "endless".into(),
                shard: None,
                image,
                caption: Some("x".into()),
                label: None,
                fields: Default::default(),
            };
            if sink.push(Item::Sample(sample)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            self.pushed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn endless(image: &'static [u8], panics: bool) -> (Endless, Arc<AtomicUsize>) {
    let pushed = Arc::new(AtomicUsize::new(0));
    (
        Endless {
            pushed: Arc::clone(&pushed),
            image,
            panics,
        },
        pushed,
    )
}
