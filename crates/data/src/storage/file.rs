//! Files of this machine: regular ones, and named pipes.

use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, UNIX_EPOCH};

use super::stream::{Stream, Watch, changed, closed};

/// How often who waits for the writer of a pipe asks whether the data are still wanted.
const PATIENCE: Duration = Duration::from_millis(100);
/// Bytes read from a file at a time.
const BUFFER: usize = 1 << 20;

/// Opens a regular file or a named pipe. The wait for a pipe's writer ends when `watch` says that nothing is wanted any more.
///
/// # Errors
/// When the file cannot be opened, or is a folder or a device, whose bytes may never end.
pub(super) fn open(path: &Path, watch: &Watch) -> io::Result<Stream> {
    let metadata = std::fs::metadata(path)?;
    let (file, version) = if metadata.is_file() {
        (File::open(path)?, version(&metadata))
    } else if is_pipe(&metadata) {
        (open_pipe(path, watch)?, None)
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
    Ok(Stream::new(BufReader::with_capacity(BUFFER, file), version))
}

/// Length and time of the last change.
pub(super) fn version(metadata: &Metadata) -> Option<String> {
    let changed = metadata.modified().ok();
    let changed = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let changed = changed.map_or(0, |time| time.as_nanos());
    Some(format!("{} {changed}", metadata.len())).filter(|_| metadata.is_file())
}

/// Some bytes of a regular file.
pub(super) fn read_range(
    path: &Path,
    start: u64,
    length: u64,
    expected: Option<&str>,
) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    if expected.is_some() && version(&file.metadata()?).as_deref() != expected {
        return Err(changed());
    }
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::with_capacity(length.min(1 << 30) as usize);
    file.take(length).read_to_end(&mut bytes)?;
    match bytes.len() as u64 == length {
        true => Ok(bytes),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// The whole of a regular file.
pub(super) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    if metadata.len() > limit {
        let reason = format!("{} bytes, the limit is {limit}", metadata.len());
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
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
fn open_pipe(path: &Path, watch: &Watch) -> io::Result<File> {
    let (sender, opened) = channel();
    let path = path.to_owned();
    std::thread::Builder::new()
        .name("pipe".into())
        .spawn(move || sender.send(File::open(path)))?;
    loop {
        match opened.recv_timeout(PATIENCE) {
            Ok(file) => return file,
            Err(RecvTimeoutError::Timeout) if !watch.is_closed() => {}
            Err(_) => return Err(closed()),
        }
    }
}
