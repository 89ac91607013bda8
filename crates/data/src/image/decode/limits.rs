//! What a picture may cost, and why a decoder stops.

use crate::error::DataError;

/// What a picture may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest allowed `width * height`, compared with the file's header before anything is decoded.
    pub max_pixels: usize,
}

impl Default for Limits {
    /// The number beyond which Pillow refuses a picture as a decompression bomb: twice that from which on it warns, which
    /// is a quarter of 2³⁰ bytes in RGB.
    fn default() -> Self {
        Self {
            max_pixels: (1 << 30) / 4 / 3 * 2,
        }
    }
}

impl Limits {
    /// Of `max_pixels` pixels; 0 sets no limit.
    #[must_use]
    pub fn new(max_pixels: usize) -> Self {
        Self {
            max_pixels: if max_pixels == 0 {
                usize::MAX
            } else {
                max_pixels
            },
        }
    }

    /// Refuses a picture that its header says is larger.
    pub(super) fn check(self, width: usize, height: usize) -> Result<(), Failure> {
        match width.checked_mul(height) {
            // Rooms for 16 bytes a pixel are counted in `usize`.
            Some(pixels) if pixels <= self.max_pixels && pixels <= usize::MAX >> 5 => Ok(()),
            _ => Err(Failure::Refused(DataError::PictureTooLarge {
                width,
                height,
                limit: self.max_pixels,
            })),
        }
    }

    /// Refuses a header that claims more bytes of pixels than `length` bytes of the file can hold, where one byte of the
    /// file makes at most `factor`.
    pub(super) fn fits(length: usize, factor: usize, claimed: usize) -> Result<(), Failure> {
        if claimed > length.saturating_mul(factor) {
            return Err(Failure::of(
                "its header claims more pixels than the file can hold",
            ));
        }
        Ok(())
    }

    /// Memory in bytes that a decoder may ask for.
    pub(super) fn memory(self) -> usize {
        self.max_pixels.saturating_mul(16).saturating_add(1 << 20)
    }
}

/// Why a format's decoder stopped.
pub(super) enum Failure {
    /// The bytes are not what the format says.
    Damaged(String),
    /// The picture is left alone.
    Refused(DataError),
}

impl Failure {
    /// Damage in a few words.
    pub(super) fn of(reason: impl Into<String>) -> Self {
        Self::Damaged(reason.into())
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Damaged(error.to_string())
    }
}
