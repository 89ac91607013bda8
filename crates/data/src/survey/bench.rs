//! How fast a set is read and made into batches, stage by stage, and which stage is the slowest.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::Serialize;

use super::options::SurveyOptions;
use super::sample::read;
use super::walk::{Found, Walk};
use crate::error::DataError;
use crate::image::{Limits, decode};
use crate::loader::{Loader, LoaderOptions, Transform};
use crate::source::{Order, Sample, Source};
use crate::storage::Watch;
use crate::tokenizer::Tokenizer;

/// Bytes of encoded pictures that are kept for the stages behind the source.
const MOST_BYTES: u64 = 2 << 30;
/// A source that is faster than the threads behind it by less than this is as fast as they are.
const EVEN: f64 = 1.1;

/// What is measured.
pub struct BenchOptions {
    /// Threads, limits, and how many samples.
    pub survey: SurveyOptions,
    /// Height and width of a transformed picture.
    pub image_size: [usize; 2],
    /// Samples of a batch.
    pub batch_size: usize,
    /// Decodes and transforms.
    pub transform: Arc<Transform>,
    /// Of captions.
    pub tokenizer: Arc<dyn Tokenizer>,
}

/// How fast one stage is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rate {
    /// Pictures in a second, by the clock.
    pub images_per_s: f64,
    /// Pictures in a second of one core's time; `None` where the system does not tell.
    pub images_per_core_s: Option<f64>,
}

/// What limits a loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// The source gives less than the threads can take.
    Source,
    /// The threads take less than the source can give, and decoding is most of what they do.
    Decode,
    /// Likewise, and the transform is.
    Transform,
    /// Likewise, and the tokenizer is.
    Tokenizer,
}

/// Rates of all stages. Each holds those before it, but for the source: behind it, samples lie in memory.
#[derive(Clone, Debug, Serialize)]
pub struct Benched {
    /// What was read, in words.
    pub source: String,
    /// Samples that were measured.
    pub samples: u64,
    /// Mean bytes of an encoded picture.
    pub mean_bytes: f64,
    /// Worker threads.
    pub threads: usize,
    /// Reading samples and their pictures' files.
    pub read: Rate,
    /// Decoding alone.
    pub decode: Rate,
    /// Decoding and transforming.
    pub transform: Rate,
    /// Decoding, transforming and tokenizing.
    pub tokenize: Rate,
    /// The whole loader, from the source to batches.
    pub loader: Rate,
    /// What limits it.
    pub limit: Limit,
}

/// Measures `source` with the first samples of it, each stage in turn; `told` is given the name of the stage that begins.
///
/// # Errors
/// When there is nothing to measure, or a thread fails.
pub fn bench(
    source: Arc<dyn Source>,
    options: &BenchOptions,
    told: impl Fn(&str),
) -> Result<Benched, DataError> {
    let threads = options.survey.threads.max(1);
    told("reading");
    let clock = Clock::start();
    let samples = samples(source.as_ref(), &options.survey)?;
    let count = samples.len();
    let read = clock.rate(count);
    let bytes: usize = samples.iter().map(|(picture, _)| picture.len()).sum();

    let limits = options.survey.limits;
    let tokenizer = options.tokenizer.as_ref();
    let stage = |name: &str, work: &(dyn Fn(&Held, &mut [u8]) + Sync)| {
        told(name);
        each(&samples, threads, options.image_size, work)
    };
    let transform = |(picture, _): &Held, out: &mut [u8]| {
        let mut rng = StdRng::seed_from_u64(picture.len() as u64);
        if !picture.is_empty() {
            // What cannot be decoded takes its time as well.
            let _ = (options.transform)(picture, &mut rng, out);
        }
    };
    let decode_rate = stage("decoding", &|(picture, _), _| decode_one(picture, limits));
    let transform_rate = stage("transforming", &|held, out| transform(held, out));
    let tokenize_rate = stage("tokenizing", &|held, out| {
        transform(held, out);
        let _ = tokenizer.tokenize(&held.1);
    });
    // A loader with a tokenizer gives no sample that has no caption.
    let is_captioned = samples.iter().any(|(_, caption)| !caption.is_empty());
    drop(samples);

    told("loading");
    let order = Order::sequential();
    let loader = LoaderOptions {
        workers: threads,
        max_bad_share: 1.0,
        ..LoaderOptions::new(options.batch_size, options.image_size, order)
    };
    let transform = Arc::clone(&options.transform);
    let tokenizer = is_captioned.then(|| Arc::clone(&options.tokenizer));
    let clock = Clock::start();
    let mut loader = Loader::start(Arc::clone(&source), transform, tokenizer, &loader)?;
    let mut loaded = 0;
    for batch in loader.by_ref() {
        loaded += batch?.size;
        if loaded >= count {
            break;
        }
    }
    // Before the loader's end, which waits for its threads.
    let loader_rate = clock.rate(loaded);
    drop(loader);
    Ok(Benched {
        source: source.describe(),
        samples: count as u64,
        mean_bytes: bytes as f64 / count as f64,
        threads,
        read,
        decode: decode_rate,
        transform: transform_rate,
        tokenize: tokenize_rate,
        loader: loader_rate,
        limit: limit(read, decode_rate, transform_rate, tokenize_rate),
    })
}

/// The slower of source and threads; of the threads' time, the part that is the largest.
fn limit(read: Rate, decode: Rate, transform: Rate, tokenize: Rate) -> Limit {
    if read.images_per_s < tokenize.images_per_s * EVEN {
        return Limit::Source;
    }
    let seconds = [decode, transform, tokenize].map(|rate| 1.0 / rate.images_per_s.max(1e-9));
    let parts = [
        (seconds[0], Limit::Decode),
        (seconds[1] - seconds[0], Limit::Transform),
        (seconds[2] - seconds[1], Limit::Tokenizer),
    ];
    let largest = parts.into_iter().max_by(|(a, _), (b, _)| a.total_cmp(b));
    largest.map_or(Limit::Decode, |(_, limit)| limit)
}

/// An encoded picture, empty for black pixels, and its caption.
type Held = (Vec<u8>, String);

/// The first samples of the source that can be read.
fn samples(source: &dyn Source, options: &SurveyOptions) -> Result<Vec<Held>, DataError> {
    let walk = Walk {
        threads: options.threads,
        skip: 0,
        most: options.most,
    };
    let (mut held, mut bytes, mut problem) = (Vec::new(), 0, None);
    let work = |_, sample: Sample, watch: &Watch| {
        let place = sample.place();
        read(sample, &place, watch)
    };
    walk.run(source, work, |_, found| {
        match found {
            Found::Sample(Ok(sample)) => {
                let picture = sample.bytes.unwrap_or_default();
                bytes += picture.len() as u64;
                held.push((picture, sample.caption.unwrap_or_default()));
            }
            Found::Sample(Err(found)) | Found::Problem(found) => {
                problem.get_or_insert(found);
            }
        }
        match bytes < MOST_BYTES {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    })?;
    if held.is_empty() {
        return Err(DataError::NoSamples {
            source_name: source.describe(),
            found: problem.map_or("nothing at all".to_owned(), |found| found.to_string()),
        });
    }
    Ok(held)
}

fn decode_one(picture: &[u8], limits: Limits) {
    if !picture.is_empty() {
        let _ = std::hint::black_box(decode(picture, limits));
    }
}

/// Works on all samples with so many threads.
fn each(
    samples: &[Held],
    threads: usize,
    [height, width]: [usize; 2],
    work: &(dyn Fn(&Held, &mut [u8]) + Sync),
) -> Rate {
    let next = AtomicUsize::new(0);
    let clock = Clock::start();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut out = vec![0; 3 * height * width];
                while let Some(sample) = samples.get(next.fetch_add(1, Relaxed)) {
                    work(sample, &mut out);
                }
            });
        }
    });
    clock.rate(samples.len())
}

/// Time by the clock and of all cores.
struct Clock {
    start: Instant,
    processor: Option<f64>,
}

impl Clock {
    fn start() -> Self {
        Self {
            start: Instant::now(),
            processor: processor_seconds(),
        }
    }

    fn rate(&self, count: usize) -> Rate {
        let seconds = self.start.elapsed().as_secs_f64();
        let busy = processor_seconds().zip(self.processor);
        let busy = busy.map(|(end, start)| end - start);
        Rate {
            images_per_s: count as f64 / seconds.max(1e-9),
            // The system counts in hundredths of a second: less than some of them tell nothing.
            images_per_core_s: busy
                .filter(|busy| *busy > 0.05)
                .map(|busy| count as f64 / busy),
        }
    }
}

/// Processor time of all threads so far, where `/proc` tells it, in hundredths of a second.
fn processor_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = text.rsplit(')').next()?.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_stage_limits() {
        let rate = |images_per_s| Rate {
            images_per_s,
            images_per_core_s: None,
        };
        let of = |read, decode, transform, tokenize| {
            limit(rate(read), rate(decode), rate(transform), rate(tokenize))
        };
        assert_eq!(of(100.0, 500.0, 400.0, 390.0), Limit::Source);
        assert_eq!(of(400.0, 500.0, 400.0, 390.0), Limit::Source);
        assert_eq!(of(9000.0, 500.0, 400.0, 390.0), Limit::Decode);
        assert_eq!(of(9000.0, 900.0, 400.0, 390.0), Limit::Transform);
        assert_eq!(of(9000.0, 900.0, 880.0, 300.0), Limit::Tokenizer);
    }
}
