//! Bytes to a [`Picture`] in the mode that Pillow would give it. EXIF orientation is ignored, as upstream does; Pillow
//! itself turns TIFF alone.

#[cfg(feature = "avif")]
mod avif;
mod baseline;
mod bits;
mod bmp;
mod dds;
mod format;
mod general;
mod gif;
mod icon;
mod jpeg;
mod jpeg2000;
mod limits;
mod pcx;
mod png;
mod stranger;
mod tga;
mod tiff;
mod upsample;

use openclip_model::panics::caught;

pub(super) use self::baseline::{Baseline, Plane, Room, with_room};
pub use self::format::PICTURE_EXTENSIONS;
use self::format::{Format, READ};
use self::limits::Failure;
pub use self::limits::Limits;
use super::picture::Picture;
use super::resample::Rect;
use crate::error::DataError;

/// Whether a file that starts with `bytes` is of a format that is read here, by a mark that no other file begins with.
pub fn is_picture(bytes: &[u8]) -> bool {
    Format::of(bytes).is_some_and(Format::is_marked)
}

/// The name of the format that a file's first bytes tell, such as `JPEG`; `None` when it is none that is read here.
pub fn format_name(bytes: &[u8]) -> Option<&'static str> {
    Format::of(bytes).map(Format::name)
}

/// Reads the header of a JPEG that can be decoded in part; `None` for other files.
pub(super) fn baseline(bytes: &[u8], limits: Limits) -> Result<Option<Baseline<'_>>, DataError> {
    safely("JPEG", || Baseline::open(bytes, limits))
}

/// Decodes what shows `wanted`, as [`Baseline::decode`] does; whether that was possible.
pub(super) fn decode_part(
    jpeg: &Baseline<'_>,
    wanted: Rect,
    divisor: usize,
    room: &mut Room,
) -> bool {
    caught(|| jpeg.decode(wanted, divisor, room)).is_ok_and(|done| done.is_some())
}

/// A decoder's bug must cost one sample, not the run.
fn safely<T>(
    format: &'static str,
    decode: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, DataError> {
    caught(decode)
        .unwrap_or_else(|_| Err(Failure::Damaged("the decoder gave up".to_owned())))
        .map_err(|failure| match failure {
            Failure::Damaged(reason) => DataError::Picture { format, reason },
            Failure::Refused(error) => error,
        })
}

/// Decodes a file's picture: of several frames or pages the first, of several sizes the largest.
///
/// # Errors
/// If the bytes are of no format that is read here, which the error names where it is a known one; if they are damaged or
/// cut off; or if the header claims more pixels than `limits` allows.
pub fn decode(bytes: &[u8], limits: Limits) -> Result<Picture, DataError> {
    let Some(format) = Format::of(bytes) else {
        return Err(stranger::error(bytes));
    };
    safely(format.name(), || {
        let picture = format.decode(bytes, limits)?;
        let length = picture.width * picture.height * picture.mode.bytes();
        match picture.samples.len() {
            found if found == length && length > 0 => Ok(picture),
            found => Err(Failure::of(format!("{found} samples, expected {length}"))),
        }
    })
}
