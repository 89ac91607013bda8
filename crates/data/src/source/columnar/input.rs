//! The bytes of a file by range, as the readers of formats want them.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use crate::storage::{Patience, Place};

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
        let bytes = self
            .0
            .read_range(start, length, None, Patience::default())?;
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
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        Ok(self.0.bytes(start, length as u64)?.slice(..length))
    }
}

/// Reads a part on from some byte.
pub(super) struct Reading {
    part: Arc<Part>,
    at: u64,
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.part.end || buffer.is_empty() {
            return Ok(0);
        }
        let bytes = self.part.bytes(self.at, 1)?;
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.at += count as u64;
        Ok(count)
    }
}
