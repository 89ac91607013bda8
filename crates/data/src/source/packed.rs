//! Files of samples, plain or gzip, opened as a stream.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

use crate::storage::{Patience, Place, Watch};

/// Bytes unpacked at a time.
const BUFFER: usize = 1 << 20;

/// What formats that are named, and not read, begin with.
const OTHER_FORMATS: [(&[u8], &str); 4] = [
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"PK\x03\x04", "zip"),
];

/// Opens a place and takes gzip off.
///
/// # Errors
/// When it cannot be opened, or is packed in another way.
pub(super) fn open(place: &Place) -> io::Result<Box<dyn BufRead>> {
    let stream = place.open(Patience::default(), Watch::default())?;
    Ok(unpack(stream)?.0)
}

/// Takes gzip off, which the first bytes tell, and says whether there was any.
///
/// # Errors
/// When nothing can be read, or it is packed in another way.
pub(super) fn unpack(mut input: impl BufRead + 'static) -> io::Result<(Box<dyn BufRead>, bool)> {
    // A pipe gives what its writer has written so far, be it a single byte.
    let mut start = Vec::with_capacity(6);
    input.by_ref().take(6).read_to_end(&mut start)?;
    if let Some((_, name)) = OTHER_FORMATS
        .iter()
        .find(|(magic, _)| start.starts_with(magic))
    {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("compressed with {name}; plain files and gzip are read"),
        ));
    }
    let is_gzip = start.starts_with(b"\x1f\x8b");
    let whole = Cursor::new(start).chain(input);
    let unpacked: Box<dyn BufRead> = match is_gzip {
        true => Box::new(BufReader::with_capacity(
            BUFFER,
            Gzip(MultiGzDecoder::new(whole)),
        )),
        false => Box::new(whole),
    };
    Ok((unpacked, is_gzip))
}

/// Says of an error that it is gzip's.
struct Gzip<R>(R);

impl<R: Read> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let said = |error: io::Error| io::Error::new(error.kind(), format!("gzip data: {error}"));
        self.0.read(buffer).map_err(said)
    }
}
