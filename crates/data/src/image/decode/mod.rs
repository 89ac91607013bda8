//! Bytes to a [`Picture`] in the mode that Pillow would give it. EXIF orientation is ignored, as upstream does.

mod bits;
mod general;
mod gif;
mod jpeg;
mod limits;
mod png;
mod tiff;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::limits::Failure;
pub use self::limits::Limits;
use super::picture::Picture;
use crate::error::DataError;

/// A file format, told by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Jpeg,
    Png,
    Gif,
    Tiff,
    General(::image::ImageFormat),
}

impl Format {
    fn of(bytes: &[u8]) -> Option<Self> {
        use ::image::ImageFormat::{Bmp, Pnm, WebP};
        Some(match bytes {
            [0xff, 0xd8, 0xff, ..] => Self::Jpeg,
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Self::Png,
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Self::Gif,
            [
                b'R',
                b'I',
                b'F',
                b'F',
                _,
                _,
                _,
                _,
                b'W',
                b'E',
                b'B',
                b'P',
                ..,
            ] => Self::General(WebP),
            [b'B', b'M', ..] => Self::General(Bmp),
            [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Self::Tiff,
            [b'P', b'1'..=b'7', ..] => Self::General(Pnm),
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        use ::image::ImageFormat::{Bmp, Pnm, WebP};
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Gif => "GIF",
            Self::Tiff => "TIFF",
            Self::General(WebP) => "WebP",
            Self::General(Bmp) => "BMP",
            Self::General(Pnm) => "PPM",
            Self::General(_) => "unknown",
        }
    }
}

/// Whether a file that starts with `bytes` is of a format that is read here.
pub fn is_picture(bytes: &[u8]) -> bool {
    Format::of(bytes).is_some()
}

/// Decodes the first frame of a JPEG, PNG, WebP, GIF, BMP, TIFF or PPM file.
///
/// # Errors
/// If the bytes are of none of these formats, damaged or cut off, or if the header claims more pixels than
/// `limits` allows.
pub fn decode(bytes: &[u8], limits: Limits) -> Result<Picture, DataError> {
    let Some(format) = Format::of(bytes) else {
        let found = match bytes {
            [] => "no bytes".to_owned(),
            _ => bytes
                .iter()
                .take(8)
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        };
        return Err(DataError::UnknownPicture { found });
    };
    let damaged = |reason: String| DataError::Picture {
        format: format.name(),
        reason,
    };
    // A decoder's bug must cost one sample, not the run.
    let picture = catch_unwind(AssertUnwindSafe(|| match format {
        Format::Jpeg => jpeg::decode(bytes, limits),
        Format::Png => png::decode(bytes, limits),
        Format::Gif => gif::decode(bytes, limits),
        Format::Tiff => tiff::decode(bytes, limits),
        Format::General(kind) => general::decode(bytes, kind, limits),
    }))
    .unwrap_or_else(|_| Err(Failure::Damaged("the decoder gave up".to_owned())))
    .map_err(|failure| match failure {
        Failure::Damaged(reason) => damaged(reason),
        Failure::Refused(error) => error,
    })?;
    let length = picture.width * picture.height * picture.mode.bytes();
    if length == 0 || picture.samples.len() != length {
        return Err(damaged(format!(
            "{} samples, expected {length}",
            picture.samples.len()
        )));
    }
    Ok(picture)
}
