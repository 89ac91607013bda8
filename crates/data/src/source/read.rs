//! The bytes of a picture, wherever it lies.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::{ImageData, MAX_MEMBER_BYTES};

impl ImageData {
    /// The encoded bytes; `None` for black pixels, which have none.
    ///
    /// # Errors
    /// When a file cannot be read, is none, or has more than [`MAX_MEMBER_BYTES`] bytes.
    pub fn read(self) -> io::Result<Option<Vec<u8>>> {
        match self {
            Self::Encoded(bytes) => Ok(Some(bytes)),
            Self::Path(path) => read_file(&path).map(Some),
            Self::Black => Ok(None),
        }
    }
}

/// The bytes of a regular file. Pipes and devices are refused, since reading them may never end.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    if metadata.len() > MAX_MEMBER_BYTES {
        let reason = format!("{} bytes, the limit is {MAX_MEMBER_BYTES}", metadata.len());
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    File::open(path)?
        .take(MAX_MEMBER_BYTES)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}
