//! The bytes of a file by range, as the readers of formats want them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

/// Bytes read at least: what a page's header takes, mostly.
const WINDOW: u64 = 16 << 10;

/// A file that is read in parts.
#[derive(Clone, Debug)]
pub(super) struct Input {
    path: PathBuf,
}

impl Input {
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of bytes.
    pub fn len(&self) -> io::Result<u64> {
        let metadata = std::fs::metadata(&self.path)?;
        match metadata.is_file() {
            true => Ok(metadata.len()),
            false => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file, and parts of it are wanted",
            )),
        }
    }

    /// Exactly the bytes of a range.
    pub fn read_range(&self, start: u64, length: u64) -> io::Result<Vec<u8>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::with_capacity(length.min(1 << 30) as usize);
        file.take(length).read_to_end(&mut bytes)?;
        match bytes.len() as u64 == length {
            true => Ok(bytes),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
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
            let length = least.max(WINDOW).min(self.end - start);
            *window = (start, self.input.read_range(start, length)?.into());
        }
        let (first, bytes) = &*window;
        Ok(bytes.slice((start - first) as usize..))
    }
}

impl Length for Part {
    fn len(&self) -> u64 {
        self.end
    }
}

impl ChunkReader for Arc<Part> {
    type T = Reading;

    fn get_read(&self, start: u64) -> Result<Reading, ParquetError> {
        Ok(Reading {
            part: Arc::clone(self),
            at: start,
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        Ok(self.bytes(start, length as u64)?.slice(..length))
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
