//! What a picture may cost, and why a decoder stops.

use crate::error::DataError;

/// What a picture may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest allowed `width * height`, compared with the file's header before anything is decoded.
    pub max_pixels: usize,
}

impl Default for Limits {
    /// The number from which on Pillow warns of a decompression bomb, a quarter of 2³⁰ bytes in RGB: room for the
    /// largest cameras.
    fn default() -> Self {
        Self {
            max_pixels: (1 << 30) / 4 / 3,
        }
    }
}

impl Limits {
    /// Refuses a picture that its header says is larger.
    pub(super) fn check(self, width: usize, height: usize) -> Result<(), Failure> {
        match width.checked_mul(height) {
            Some(pixels) if pixels <= self.max_pixels => Ok(()),
            _ => Err(Failure::Refused(DataError::PictureTooLarge {
                width,
                height,
                limit: self.max_pixels,
            })),
        }
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

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Damaged(error.to_string())
    }
}
