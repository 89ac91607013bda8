//! What all readers of a tar archive's parts share.

use std::io;

/// Bytes of a header, and what contents are padded to a multiple of.
pub(super) const BLOCK: usize = 512;

pub(super) fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

pub(super) fn cut(place: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        format!("the file ends {place}"),
    )
}
