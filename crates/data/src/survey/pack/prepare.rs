//! A sample as it will lie in its shard.

use jpeg_encoder::{ColorType, Encoder};

use super::options::PackOptions;
use crate::error::DataError;
use crate::image::{Picture, format_name, resized};
use crate::source::{Problem, ProblemKind, Sample};
use crate::storage::Watch;
use crate::survey::sample::{decoded, pair_hash, read};

/// What becomes of a sample on a thread.
pub(super) enum Prepared {
    /// It is packed already, and has this hash.
    Packed(u128),
    /// It can be packed.
    Ready(Box<Ready>),
    /// It is left out.
    Bad(Problem),
}

/// A sample's members.
pub(super) struct Ready {
    /// Encoded bytes.
    pub picture: Vec<u8>,
    /// Of the picture's member.
    pub suffix: &'static str,
    pub caption: Option<String>,
    pub label: Option<usize>,
    /// Where it comes from.
    pub place: String,
    /// Of picture and caption as they come; 0 where nobody asks.
    pub hash: u128,
    /// Width and height before the picture was made smaller.
    pub was: Option<[usize; 2]>,
}

pub(super) struct Prepare {
    pub options: PackOptions,
    /// Items that are packed already.
    pub packed: u64,
}

impl Prepare {
    pub fn sample(&self, item: u64, sample: Sample, watch: &Watch) -> Prepared {
        let prepared = self.try_sample(item, sample, watch);
        prepared.unwrap_or_else(Prepared::Bad)
    }

    fn try_sample(&self, item: u64, sample: Sample, watch: &Watch) -> Result<Prepared, Problem> {
        let (place, label) = (sample.place(), sample.label);
        let bad = |kind, reason| Problem {
            kind,
            place: place.clone(),
            reason,
        };
        let sample = read(sample, &place, watch)?;
        let no_bytes = || bad(ProblemKind::UnreadableImage, "it has no bytes".to_owned());
        let mut picture = sample.bytes.ok_or_else(no_bytes)?;
        let hash = match self.options.dedup {
            true => pair_hash(&picture, sample.caption.as_deref()),
            false => 0,
        };
        if item < self.packed {
            return Ok(Prepared::Packed(hash));
        }
        let mut was = None;
        if let Some(side) = self.options.resize {
            let whole = decoded(&picture, self.options.survey.limits, &place)?;
            let size = [whole.width(), whole.height()];
            if let Some(smaller) = shrunk(size, side) {
                let encoded = encode(whole, smaller, self.options.quality);
                picture = encoded.map_err(|reason| bad(ProblemKind::UndecodableImage, reason))?;
                was = Some(size);
            }
        }
        Ok(Prepared::Ready(Box::new(Ready {
            suffix: suffix(&picture),
            picture,
            caption: sample.caption,
            label,
            place,
            hash,
            was,
        })))
    }
}

/// Readers look for pictures under these suffixes alone, and decode by content: whatever has none of its own is called `jpg`.
fn suffix(picture: &[u8]) -> &'static str {
    match format_name(picture) {
        Some("PNG") => "png",
        Some("WebP") => "webp",
        _ => "jpg",
    }
}

/// Width and height of a picture whose shorter side has `side` pixels, as torchvision's `Resize` has them; `None` where the picture
/// is no larger, or too long to become a JPEG.
fn shrunk([width, height]: [usize; 2], side: usize) -> Option<[usize; 2]> {
    let (short, long) = (width.min(height), width.max(height));
    let longer = (side as u128 * long as u128 / short.max(1) as u128) as usize;
    let fits = short > side && longer <= usize::from(u16::MAX);
    fits.then_some(match width <= height {
        true => [side, longer],
        false => [longer, side],
    })
}

/// `picture` in another size as a JPEG. It becomes RGB before, as the reader of shards has it.
fn encode(picture: Picture, [width, height]: [usize; 2], quality: u8) -> Result<Vec<u8>, String> {
    let small = resized(&picture.into_rgb(), width, height);
    let small = small.map_err(|error: DataError| error.to_string())?;
    let mut bytes = Vec::new();
    let (width, height) = (width as u16, height as u16);
    Encoder::new(&mut bytes, quality)
        .encode(small.samples(), width, height, ColorType::Rgb)
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_side_is_kept_and_small_pictures_stay() {
        assert_eq!(shrunk([640, 480], 256), Some([341, 256]));
        assert_eq!(shrunk([480, 640], 256), Some([256, 341]));
        assert_eq!(shrunk([512, 512], 256), Some([256, 256]));
        assert_eq!(shrunk([256, 1000], 256), None);
        assert_eq!(shrunk([100, 50], 256), None);
        // A JPEG has 65,535 pixels a side at most.
        assert_eq!(shrunk([300, 300_000], 256), None);
        assert_eq!(shrunk([300, 60_000], 256), Some([256, 51_200]));
    }

    #[test]
    fn a_picture_that_is_made_smaller_is_a_jpeg_of_nearly_its_colours() {
        let pixels = [[180, 60, 90]; 40 * 30].concat();
        let encoded = Picture::from_rgb(40, 30, pixels).map(|all| encode(all, [20, 15], 95));
        let bytes = encoded.and_then(Result::ok).unwrap_or_default();
        assert_eq!((format_name(&bytes), suffix(&bytes)), (Some("JPEG"), "jpg"));
        let found = crate::image::decode(&bytes, Default::default());
        let found = found.unwrap_or_else(|_| Picture::black(1, 1));
        assert_eq!((found.width(), found.height()), (20, 15));
        let is_near = |(at, &value): (usize, &u8)| value.abs_diff([180, 60, 90][at % 3]) <= 3;
        assert!(found.samples().iter().enumerate().all(is_near));
    }

    #[test]
    fn suffixes_are_those_that_readers_know() {
        assert_eq!(suffix(b"\x89PNG\r\n\x1a\n"), "png");
        assert_eq!(suffix(b"RIFF\0\0\0\0WEBPVP8 "), "webp");
        assert_eq!(suffix(b"GIF89a"), "jpg");
    }
}
