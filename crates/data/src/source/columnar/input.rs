//! The bytes of a file by range, as the readers of formats want them.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use crate::storage::{Patience, Place, Watch};

/// Bytes read at least: what a page's header takes, mostly.
const WINDOW: u64 = 16 << 10;

/// The same of a file far away, whose every answer takes a while.
const REMOTE_WINDOW: u64 = 8 << 20;

/// A file that is read in parts.
#[derive(Clone, Debug)]
pub(super) struct Input(pub Place);

impl Input {
    /// Number of bytes.
    pub fn len(&self) -> io::Result<u64> {
        self.0.len(Patience::default())
    }

    /// Exactly the bytes of a range.
    pub fn read_range(&self, start: u64, length: u64) -> io::Result<Vec<u8>> {
        let bytes =
            self.0
                .read_range(start, length, None, Patience::default(), Watch::default())?;
        match bytes.len() as u64 == length {
            true => Ok(bytes),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn window(&self) -> u64 {
        match self.0 {
            Place::Remote(_) => REMOTE_WINDOW,
            _ => WINDOW,
        }
    }
}

/// A part of a file, read from its start to its end.
#[derive(Debug)]
pub(super) struct Part {
    input: Input,
    end: u64,
    /// The bytes that were read last, and where they lie.
    window: Mutex<(u64, Bytes)>,
}

impl Part {
    /// The bytes before `end`, which must lie within the file.
    pub fn new(input: &Input, end: u64) -> Self {
        Self {
            input: input.clone(),
            end,
            window: Mutex::new((0, Bytes::new())),
        }
    }

    /// Behind its last byte.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// At least `least` bytes from `start` on, and those behind them that are there without reading.
    ///
    /// # Errors
    /// When the file cannot be read, or ends before.
    pub fn bytes(&self, start: u64, least: u64) -> io::Result<Bytes> {
        let end = start.checked_add(least).filter(|end| *end <= self.end);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, bytes) = &*window;
        let is_there = *first <= start && end <= first + bytes.len() as u64;
        if !is_there {
            let length = least.max(self.input.window()).min(self.end - start);
            *window = (start, self.input.read_range(start, length)?.into());
        }
        let (first, bytes) = &*window;
        Ok(bytes.slice((start - first) as usize..))
    }
}

/// A part of a file as the column readers take it.
pub(super) struct Pages(pub Arc<Part>);

impl Length for Pages {
    fn len(&self) -> u64 {
        self.0.end
    }
}

impl ChunkReader for Pages {
    type T = Reading;

    fn get_read(&self, start: u64) -> Result<Reading, ParquetError> {
        Ok(Reading {
            part: Arc::clone(&self.0),
            at: start,
            is_checked: false,
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        Ok(self.0.bytes(start, length as u64)?.slice(..length))
    }
}

/// Reads the header of a page, which begins at some byte.
pub(super) struct Reading {
    part: Arc<Part>,
    at: u64,
    is_checked: bool,
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.part.end || buffer.is_empty() {
            return Ok(0);
        }
        let bytes = self.part.bytes(self.at, 1)?;
        if !std::mem::replace(&mut self.is_checked, true) {
            check_page(&bytes)?;
        }
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.at += count as u64;
        Ok(count)
    }
}

/// Most bytes that so many packed ones may claim to become: pictures are packed already, and hardly anything is by more.
pub(super) fn most_unpacked(packed: u64) -> u64 {
    (64 << 20) + packed.saturating_mul(1 << 10)
}

/// Refuses a page that says that it becomes enormous, before memory is taken for it. A header begins with three numbers in Thrift's
/// compact form, each behind its tag: the kind of the page and its size, unpacked and packed.
fn check_page(header: &[u8]) -> io::Result<()> {
    const TAG: u8 = 0x15;
    let mut bytes = header.iter();
    let mut number = || {
        bytes.next().filter(|tag| **tag == TAG)?;
        let mut value = 0_u64;
        for shift in (0..).step_by(7).take(5) {
            let byte = *bytes.next()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                // Zigzag; a size below zero is refused by who reads on.
                return Some(if value.is_multiple_of(2) {
                    value / 2
                } else {
                    0
                });
            }
        }
        None
    };
    match (number(), number(), number()) {
        (Some(_), Some(unpacked), Some(packed)) if unpacked > most_unpacked(packed) => {
            let reason =
                format!("a page of {packed} bytes that becomes {unpacked}, which is not believed");
            Err(io::Error::new(io::ErrorKind::InvalidData, reason))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_becomes_enormous_is_refused() {
        // Kind 0, 2 GiB less one from 100 bytes; the same from 2 MiB; 1,000 from 100.
        let enormous = [
            0x15, 0, 0x15, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0x15, 0xc8, 0x01,
        ];
        let large = [
            0x15, 0, 0x15, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0x15, 0x80, 0x80, 0x80, 0x02,
        ];
        let small = [0x15, 0, 0x15, 0xd0, 0x0f, 0x15, 0xc8, 0x01];
        assert!(check_page(&enormous).is_err());
        assert!(check_page(&large).is_ok());
        assert!(check_page(&small).is_ok());
        assert!(check_page(&enormous[..5]).is_ok());
        assert!(check_page(b"").is_ok());
    }
}
