//! Looking at a data set as a whole: what is in it, whether all of it can be read, how fast, and in which form it is kept.
//!
//! * [`walk`] – every item of a source, worked on by all cores and handed over in order
//! * [`verify`] – what cannot be read
//! * [`pack`] – into balanced tar shards
//! * [`bench`] – how fast each stage is
//! * [`inspect`] – counts, sizes and captions, with [`histogram`] and [`pick`]
//!
//! Nothing here but [`bench`] keeps more of a sample than its figures, so that the size of a set does not matter.

pub mod bench;
pub mod histogram;
pub mod inspect;
pub mod pack;
pub mod pick;
pub mod verify;
pub mod walk;

use std::fmt;

use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};
use twox_hash::xxhash3_128::Hasher;

use crate::image::{Limits, Picture, decode};
use crate::source::{Problem, ProblemKind, Sample};

/// How a set is looked at.
#[derive(Clone, Copy, Debug)]
pub struct SurveyOptions {
    /// Threads that read files and decode, at least 1.
    pub threads: usize,
    /// What a picture may cost.
    pub limits: Limits,
    /// Samples to look at, from the first on; `None` for all of them.
    pub most: Option<u64>,
}

/// A sample whose picture was read.
struct Read {
    /// The encoded picture; `None` for black pixels.
    bytes: Option<Vec<u8>>,
    caption: Option<String>,
}

/// Reads the picture of a sample.
///
/// # Errors
/// What is wrong with the sample at `place`.
fn read(sample: Sample, place: &str) -> Result<Read, Problem> {
    let bytes = sample.image.read();
    let bytes = bytes.map_err(|error| Problem {
        kind: ProblemKind::UnreadableImage,
        place: place.to_owned(),
        reason: error.to_string(),
    })?;
    Ok(Read {
        bytes,
        caption: sample.caption,
    })
}

/// Decodes the picture of the sample at `place`.
///
/// # Errors
/// What is wrong with it.
fn decoded(bytes: &[u8], limits: Limits, place: &str) -> Result<Picture, Problem> {
    decode(bytes, limits).map_err(|error| Problem {
        kind: ProblemKind::UndecodableImage,
        place: place.to_owned(),
        reason: error.to_string(),
    })
}

/// How often a kind of problem occurred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemCount {
    /// The kind, in words.
    pub kind: String,
    /// How often.
    pub count: u64,
    /// The first of them: where it is and what was found.
    pub example: String,
    /// Whether nothing is lost by it.
    pub harmless: bool,
}

/// Counts problems by kind, with the first of each, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Problems(Vec<ProblemCount>);

impl Problems {
    /// Counts one.
    pub fn add(&mut self, problem: Problem) {
        let kind = problem.kind.to_string();
        match self.0.iter_mut().find(|known| known.kind == kind) {
            Some(known) => known.count += 1,
            None => self.0.push(ProblemCount {
                kind,
                count: 1,
                example: format!("{}: {}", problem.place, problem.reason),
                harmless: problem.kind.is_harmless(),
            }),
        }
    }

    /// The kinds that occurred.
    pub fn counts(&self) -> Vec<ProblemCount> {
        self.0.clone()
    }

    /// How many samples and shards are broken.
    pub fn broken(&self) -> u64 {
        let broken = self.0.iter().filter(|known| !known.harmless);
        broken.map(|known| known.count).sum()
    }
}

/// `3 × missing image; the first: a.tar: 7: members: txt`, or `nothing at all`.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.0.first() else {
            return f.write_str("nothing at all");
        };
        for known in &self.0 {
            write!(f, "{} × {}, ", known.count, known.kind)?;
        }
        write!(f, "the first: {}", first.example)
    }
}

/// Hashes of samples.
type Hashes = FxHashSet<u128>;

/// A hash of a sample's encoded picture and caption: samples that differ in either have others.
fn pair_hash(picture: &[u8], caption: Option<&str>) -> u128 {
    let mut hasher = Hasher::new();
    hasher.write(picture);
    if let Some(caption) = caption {
        hasher.write(caption.as_bytes());
    }
    // The length tells where the picture ends, and an empty caption from none.
    hasher.write(&(picture.len() as u64).to_le_bytes());
    hasher.write(&[u8::from(caption.is_some())]);
    hasher.finish_128()
}
