//! The bytes of a place, how long somebody waits for them, and what goes wrong with any place.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::time::Duration;

/// How long a source may give nothing, and how often it is asked: whichever ends first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Longest wait for the next bytes, all attempts together. A request is given up after half of it, so that there is a second.
    pub timeout: Duration,
    /// Attempts without a byte of progress before a source is given up.
    pub attempts: u32,
}

impl Default for Patience {
    /// `OPENCLIP_DATA_TIMEOUT` seconds, else a minute; seven attempts, which take a quarter of a minute where each fails at once.
    fn default() -> Self {
        let seconds = std::env::var("OPENCLIP_DATA_TIMEOUT");
        let seconds = seconds.ok().and_then(|value| value.trim().parse().ok());
        let seconds = seconds.filter(|&seconds: &f64| seconds > 0.0);
        let timeout = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Self {
            timeout: timeout.unwrap_or(Duration::from_secs(60)),
            attempts: 7,
        }
    }
}

/// Tells who waits for bytes whether they are still wanted.
#[derive(Clone, Default)]
pub struct Watch(Option<Arc<dyn Fn() -> bool + Send + Sync>>);

impl Watch {
    /// One that asks `is_closed`; that by default is always wanting.
    pub fn new(is_closed: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(is_closed)))
    }

    /// Whether they are not.
    pub fn is_closed(&self) -> bool {
        self.0.as_ref().is_some_and(|is_closed| is_closed())
    }
}

/// The bytes of a place, one after another.
pub struct Stream {
    input: Box<dyn BufRead + Send>,
    version: Option<String>,
}

impl Stream {
    /// Bytes of this version, if they can be read again.
    pub(super) fn new(input: impl BufRead + Send + 'static, version: Option<String>) -> Self {
        Self {
            input: Box::new(input),
            version,
        }
    }

    /// What tells the bytes from those of another time, where [`Place::read_range`](super::Place::read_range) can read them again; `None` where it cannot.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer)
    }
}

impl BufRead for Stream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.input.consume(amount);
    }
}

/// [`Read::read`] for whoever has the bytes in a buffer.
pub(super) fn read_buffered(input: &mut impl BufRead, buffer: &mut [u8]) -> io::Result<usize> {
    let length = input.fill_buf()?.read(buffer)?;
    input.consume(length);
    Ok(length)
}

pub(super) fn changed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the file was changed")
}

pub(super) fn cannot_seek(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotSeekable,
        format!("{what} cannot be read from the middle"),
    )
}

pub(super) fn too_large(limit: u64) -> io::Error {
    let reason = format!("more than {limit} bytes, which is the limit");
    io::Error::new(io::ErrorKind::FileTooLarge, reason)
}

/// Nothing is wanted any more. (`Interrupted` would be tried again by the standard library.)
pub(super) fn closed() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

#[cfg(not(feature = "cloud"))]
pub(super) fn not_built() -> io::Error {
    let reason = "this program was built without the network; build it with `--features cloud`";
    io::Error::new(io::ErrorKind::Unsupported, reason)
}
