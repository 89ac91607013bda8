//! One sample: its bytes, its picture, its hash.

use rustc_hash::FxHashSet;
use twox_hash::xxhash3_128::Hasher;

use crate::image::{Limits, Picture, decode};
use crate::source::{Problem, ProblemKind, Sample};
use crate::storage::Watch;

/// A sample whose picture was read.
pub(super) struct Read {
    /// The encoded picture; `None` for black pixels.
    pub bytes: Option<Vec<u8>>,
    pub caption: Option<String>,
}

/// Reads the picture of a sample; the wait for it ends when `watch` says that it is not wanted.
///
/// # Errors
/// What is wrong with the sample at `place`.
pub(super) fn read(sample: Sample, place: &str, watch: &Watch) -> Result<Read, Problem> {
    let bytes = sample.image.read(watch.clone());
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
pub(super) fn decoded(bytes: &[u8], limits: Limits, place: &str) -> Result<Picture, Problem> {
    decode(bytes, limits).map_err(|error| Problem {
        kind: ProblemKind::UndecodableImage,
        place: place.to_owned(),
        reason: error.to_string(),
    })
}

/// Hashes of samples.
pub(super) type Hashes = FxHashSet<u128>;

/// A hash of a sample's encoded picture and caption: samples that differ in either have others.
pub(super) fn pair_hash(picture: &[u8], caption: Option<&str>) -> u128 {
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
