//! Files of samples, plain or compressed, opened as a stream.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;

use super::MAX_MEMBER_BYTES;
use super::zstd::{MOST_MEMORY, Zstd};

use crate::storage::{Patience, Place, Watch};

/// Bytes unpacked at a time.
const BUFFER: usize = 1 << 20;
/// First bytes by which formats are told.
const START: usize = 10;
/// From [`MAX_MEMBER_BYTES`] on, most bytes that come out for each that goes in. Tables reach some dozens and gzip at most 1,032;
/// the other formats have no bound.
const MOST_GAIN: u64 = 1032;

type Stream = Box<dyn BufRead + Send>;

/// A format that is taken off.
struct Format {
    name: &'static str,
    /// Whether a file that begins so is of this format.
    begins: fn(&[u8]) -> bool,
    unpack: fn(Stream) -> Box<dyn Read + Send>,
}

/// In each of them several streams may stand behind one another.
const FORMATS: [Format; 4] = [
    Format {
        name: "gzip",
        begins: |start| start.starts_with(b"\x1f\x8b"),
        unpack: |input| Box::new(MultiGzDecoder::new(input)),
    },
    Format {
        name: "zstd",
        // Frames of foreign data, of which a file may consist in part, begin with sixteen values of the first byte.
        begins: |start| {
            start.starts_with(b"\x28\xb5\x2f\xfd")
                || matches!(start, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
        },
        unpack: |input| Box::new(Zstd::new(input)),
    },
    Format {
        name: "bzip2",
        // The second is a file without content.
        begins: |start| {
            start.starts_with(b"BZh") && matches!(start.get(4..), Some(b"1AY&SY" | b"\x17rE8P\x90"))
        },
        unpack: |input| Box::new(MultiBzDecoder::new(input)),
    },
    Format {
        name: "xz",
        begins: |start| start.starts_with(b"\xfd7zXZ\0"),
        unpack: |input| {
            let kibibytes = (MOST_MEMORY + BUFFER as u64) >> 10;
            Box::new(XzReader::new_mem_limit(input, true, kibibytes as u32))
        },
    },
];

/// What formats that are named, and not read, begin with.
const OTHER_FORMATS: [(&[u8], &str); 3] = [
    (b"PK\x03\x04", "a zip file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z file"),
    (b"Rar!\x1a\x07", "a rar file"),
];

/// Opens a place and takes off what it is compressed with, see [`unpack`].
///
/// # Errors
/// When it cannot be opened, or is packed in another way.
pub(super) fn open(place: &Place) -> io::Result<Stream> {
    let stream = place.open(Patience::default(), Watch::default())?;
    Ok(unpack(stream)?.0)
}

/// The content of a stream that is plain or compressed with gzip, zstd, bzip2 or xz, which its first bytes tell, and
/// whether it is compressed. Errors of what is name the format.
///
/// # Errors
/// When nothing can be read, or the stream is packed in another way.
pub(super) fn unpack(mut input: impl BufRead + Send + 'static) -> io::Result<(Stream, bool)> {
    // A pipe gives what its writer has written so far, be it a single byte.
    let mut start = Vec::with_capacity(START);
    input.by_ref().take(START as u64).read_to_end(&mut start)?;
    if let Some((_, name)) = OTHER_FORMATS
        .iter()
        .find(|(magic, _)| start.starts_with(magic))
    {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("{name}; plain files, gzip, zstd, bzip2 and xz are read"),
        ));
    }
    let format = FORMATS.iter().find(|format| (format.begins)(&start));
    let whole = Cursor::new(start).chain(input);
    let Some(format) = format else {
        return Ok((Box::new(whole), false));
    };
    let taken = Arc::default();
    let counted = Counted {
        input: whole,
        taken: Arc::clone(&taken),
    };
    let unpacked = Unpacked {
        content: (format.unpack)(Box::new(counted)),
        format: format.name,
        taken,
        given: 0,
    };
    Ok((Box::new(BufReader::with_capacity(BUFFER, unpacked)), true))
}

/// Counts the bytes that a decoder has taken.
struct Counted<R> {
    input: Chain<Cursor<Vec<u8>>, R>,
    taken: Arc<AtomicU64>,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.taken.fetch_add(read as u64, Relaxed);
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.taken.fetch_add(amount as u64, Relaxed);
        self.input.consume(amount);
    }
}

/// Says of an error which format's it is, and ends a stream that nothing but malice makes so small.
struct Unpacked {
    content: Box<dyn Read + Send>,
    format: &'static str,
    taken: Arc<AtomicU64>,
    given: u64,
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.content.read(buffer).map_err(|error| {
            let reason = match error.kind() {
                io::ErrorKind::OutOfMemory => {
                    format!("unpacking it takes more than {MOST_MEMORY} bytes of memory")
                }
                _ => error.to_string(),
            };
            io::Error::new(error.kind(), format!("{} data: {reason}", self.format))
        })?;
        self.given += read as u64;
        let taken = self.taken.load(Relaxed);
        if self.given > MAX_MEMBER_BYTES && self.given / MOST_GAIN > taken {
            let reason = format!(
                "{} data: {taken} bytes unpack to more than {}, which no samples do",
                self.format, self.given
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
