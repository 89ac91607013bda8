//! Files of samples, plain or gzip, opened as a stream.

use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use flate2::bufread::MultiGzDecoder;

/// How often who waits for the writer of a pipe asks whether the data are still wanted.
const PATIENCE: Duration = Duration::from_millis(100);
/// Bytes read from the file at a time.
const BUFFER: usize = 1 << 20;

/// What formats that are named, and not read, begin with.
const OTHER_FORMATS: [(&[u8], &str); 4] = [
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"PK\x03\x04", "zip"),
];

/// Opens a regular file or a named pipe and takes gzip off, which the first bytes tell. The wait for a pipe's writer
/// ends when `is_closed` says that nothing is wanted any more.
///
/// # Errors
/// When the file cannot be opened, is a folder or a device, whose bytes may never end, or is packed in another way.
pub(super) fn open(path: &Path, is_closed: &dyn Fn() -> bool) -> io::Result<Box<dyn BufRead>> {
    let metadata = std::fs::metadata(path)?;
    let mut file = if metadata.is_file() {
        File::open(path)?
    } else if is_pipe(&metadata) {
        open_pipe(path, is_closed)?
    } else {
        let found = if metadata.is_dir() {
            "a folder"
        } else {
            "a device"
        };
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{found}; expected a file or a pipe"),
        ));
    };
    // A pipe gives what its writer has written so far, be it a single byte.
    let mut start = Vec::with_capacity(6);
    file.by_ref().take(6).read_to_end(&mut start)?;
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
    let whole = Cursor::new(start).chain(BufReader::with_capacity(BUFFER, file));
    Ok(if is_gzip {
        Box::new(BufReader::with_capacity(
            BUFFER,
            Gzip(MultiGzDecoder::new(whole)),
        ))
    } else {
        Box::new(whole)
    })
}

/// Says of an error that it is gzip's.
struct Gzip<R>(R);

impl<R: Read> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let said = |error: io::Error| io::Error::new(error.kind(), format!("gzip data: {error}"));
        self.0.read(buffer).map_err(said)
    }
}

#[cfg(unix)]
fn is_pipe(metadata: &Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_fifo(&metadata.file_type())
}

#[cfg(not(unix))]
fn is_pipe(_: &Metadata) -> bool {
    false
}

/// Opening a pipe takes until somebody writes to it, so that a thread of its own does it.
fn open_pipe(path: &Path, is_closed: &dyn Fn() -> bool) -> io::Result<File> {
    let (sender, opened) = channel();
    let path = path.to_owned();
    std::thread::Builder::new()
        .name("pipe".into())
        .spawn(move || sender.send(File::open(path)))?;
    loop {
        match opened.recv_timeout(PATIENCE) {
            Ok(file) => return file,
            Err(RecvTimeoutError::Timeout) if !is_closed() => {}
            Err(_) => return Err(io::ErrorKind::Interrupted.into()),
        }
    }
}
