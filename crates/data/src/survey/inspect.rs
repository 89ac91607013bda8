//! What is in a set: counts, sizes, formats, captions, duplicates, and a few pictures of it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use rustc_hash::FxHashMap;
use serde::Serialize;
use twox_hash::XxHash3_128;

use super::histogram::Histogram;
use super::options::SurveyOptions;
use super::pick::{Pick, Picked};
use super::problems::{ProblemCount, Problems};
use super::sample::{self, Hashes, decoded, pair_hash, read};
use super::walk::{Found, Walk};
use crate::error::DataError;
use crate::image::{Limits, Picture, format_name, resized};
use crate::source::{Problem, Sample, Source};
use crate::storage::Watch;

/// Pixels of the shorter side.
const SIDES: [f64; 11] = [
    32.0, 64.0, 128.0, 224.0, 256.0, 336.0, 384.0, 512.0, 768.0, 1024.0, 2048.0,
];
/// Width by height.
const ASPECTS: [f64; 8] = [0.25, 0.5, 2.0 / 3.0, 0.9, 1.0 / 0.9, 1.5, 2.0, 4.0];
/// Bytes of an encoded picture.
const BYTES: [f64; 8] = [1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6, 1e7];
/// Words of a caption.
const WORDS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// What a set holds. Figures are those of the samples that can be read and decoded.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// What was read, in words.
    pub source: String,
    /// Samples that can be read and decoded.
    pub samples: u64,
    /// Whether the whole set was looked at.
    pub is_whole: bool,
    /// Why the source could not be read to its end.
    pub stopped: Option<String>,
    /// Bytes of all their encoded pictures.
    pub bytes: u64,
    /// How often each file format occurs.
    pub formats: BTreeMap<&'static str, u64>,
    /// Pixels of the shorter side.
    pub shorter_side: Histogram,
    /// Width by height.
    pub aspect: Histogram,
    /// Bytes of an encoded picture.
    pub picture_bytes: Histogram,
    /// Samples without a caption.
    pub without_caption: u64,
    /// Words of a caption.
    pub caption_words: Histogram,
    /// Samples whose encoded picture came before, byte by byte.
    pub repeated_pictures: u64,
    /// Those of them whose caption came with it as well.
    pub repeated_pairs: u64,
    /// The first sample whose picture came before.
    pub repeated_example: Option<String>,
    /// Problems by kind.
    pub problems: Vec<ProblemCount>,
    /// A few of the pictures.
    #[serde(skip)]
    pub pictures: Vec<Thumbnail>,
}

/// A small picture of a sample.
#[derive(Clone, Debug)]
pub struct Thumbnail {
    /// At most [`Thumbnail::SIDE`] pixels a side.
    pub picture: Picture,
    /// Where the sample is.
    pub place: String,
    /// Its caption.
    pub caption: Option<String>,
    /// Width and height of the whole picture.
    pub size: [usize; 2],
    /// Its file format.
    pub format: &'static str,
    /// Its encoded bytes.
    pub bytes: usize,
}

impl Thumbnail {
    /// Pixels of the longer side, at most.
    pub const SIDE: usize = 240;
}

/// What is kept of a sample.
struct Figures {
    bytes: usize,
    format: &'static str,
    size: [usize; 2],
    words: Option<usize>,
    picture: u128,
    pair: u128,
    place: String,
    thumbnail: Option<Thumbnail>,
}

/// Reads and decodes every sample and counts. `pictures` of them are kept as thumbnails, drawn from the whole set; `done` takes the
/// number of samples looked at since its last call.
///
/// It keeps 40 bytes or so of a sample, to find duplicates.
///
/// # Errors
/// When a thread panics.
pub fn inspect(
    source: &dyn Source,
    options: &SurveyOptions,
    pictures: usize,
    done: impl Fn(u64),
) -> Result<Inspection, DataError> {
    let (pick, mut picked) = (Pick::new(pictures), Picked::default());
    let mut problems = Problems::default();
    let mut seen = Seen::default();
    let mut all = Inspection {
        source: source.describe(),
        samples: 0,
        is_whole: false,
        stopped: None,
        bytes: 0,
        formats: BTreeMap::new(),
        shorter_side: Histogram::new(&SIDES),
        aspect: Histogram::new(&ASPECTS),
        picture_bytes: Histogram::new(&BYTES),
        without_caption: 0,
        caption_words: Histogram::new(&WORDS),
        repeated_pictures: 0,
        repeated_pairs: 0,
        repeated_example: None,
        problems: Vec::new(),
        pictures: Vec::new(),
    };
    let walk = Walk {
        threads: options.threads,
        skip: 0,
        most: options.most,
    };
    let work = |n, sample, watch: &Watch| figures(sample, options.limits, pick.may(n), watch);
    let walked = walk.run(source, work, |n, found| {
        match found {
            Found::Problem(problem) => problems.add(problem),
            Found::Sample(Err(problem)) => {
                problems.add(problem);
                done(1);
            }
            Found::Sample(Ok(mut figures)) => {
                if let Some(thumbnail) = figures.thumbnail.take() {
                    pick.add(&mut picked, n, thumbnail);
                }
                all.add(&figures, &mut seen);
                done(1);
            }
        }
        ControlFlow::Continue(())
    });
    match walked {
        Ok(is_whole) => all.is_whole = is_whole,
        Err(error @ DataError::WorkerPanicked { .. }) => return Err(error),
        Err(error) => all.stopped = Some(error.to_string()),
    }
    all.problems = problems.counts();
    all.pictures = picked.into_sorted();
    Ok(all)
}

impl Inspection {
    fn add(&mut self, sample: &Figures, seen: &mut Seen) {
        let [width, height] = sample.size;
        self.samples += 1;
        self.bytes += sample.bytes as u64;
        *self.formats.entry(sample.format).or_default() += 1;
        self.shorter_side.add(width.min(height) as f64);
        self.aspect.add(width as f64 / height as f64);
        self.picture_bytes.add(sample.bytes as f64);
        match sample.words {
            Some(words) => self.caption_words.add(words as f64),
            None => self.without_caption += 1,
        }
        if let Some(first) = seen.pictures.get(&sample.picture) {
            self.repeated_pictures += 1;
            self.repeated_pairs += u64::from(!seen.pairs.insert(sample.pair));
            self.repeated_example.get_or_insert_with(|| {
                format!("{} has the picture of sample {first}", sample.place)
            });
        } else {
            seen.pictures.insert(sample.picture, self.samples);
            seen.pairs.insert(sample.pair);
        }
    }
}

/// Hashes of what was seen.
#[derive(Default)]
struct Seen {
    /// Of encoded pictures, with the number of the sample, from 1.
    pictures: FxHashMap<u128, u64>,
    pairs: Hashes,
}

fn figures(
    sample: Sample,
    limits: Limits,
    is_picked: bool,
    watch: &Watch,
) -> Result<Figures, Problem> {
    let place = sample.place();
    let sample::Read { bytes, caption } = read(sample, &place, watch)?;
    let encoded = bytes.as_deref().unwrap_or_default();
    let picture = match &bytes {
        Some(bytes) => decoded(bytes, limits, &place)?,
        None => Picture::black(1, 1),
    };
    let size = [picture.width(), picture.height()];
    let format = match bytes.is_some() {
        true => format_name(encoded).unwrap_or("unknown"),
        false => "black",
    };
    let thumbnail = is_picked.then(|| thumbnail(picture));
    let thumbnail = thumbnail.transpose().ok().flatten();
    Ok(Figures {
        bytes: encoded.len(),
        format,
        size,
        words: caption.as_ref().map(|text| text.split_whitespace().count()),
        picture: XxHash3_128::oneshot(encoded),
        pair: pair_hash(encoded, caption.as_deref()),
        thumbnail: thumbnail.map(|picture| Thumbnail {
            picture,
            place: place.clone(),
            caption,
            size,
            format,
            bytes: encoded.len(),
        }),
        place,
    })
}

/// The whole picture, made smaller where it is larger than [`Thumbnail::SIDE`].
pub(super) fn thumbnail(picture: Picture) -> Result<Picture, DataError> {
    let (width, height) = (picture.width(), picture.height());
    let longer = width.max(height);
    if longer <= Thumbnail::SIDE {
        return Ok(picture.into_rgb());
    }
    let scaled = |side: usize| (side * Thumbnail::SIDE / longer).max(1);
    resized(&picture, scaled(width), scaled(height))
}
