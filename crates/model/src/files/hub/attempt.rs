//! What both kinds of download have in common: further attempts, a limit on silence, progress, checksums.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

use super::cache::variable;
use super::error::Failure;

/// Attempts before a download is given up.
const ATTEMPTS: u32 = 5;
/// Pause before the second attempt; it doubles with each.
const PAUSE: Duration = Duration::from_millis(300);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How long a server may send nothing: `HF_HUB_DOWNLOAD_TIMEOUT` in seconds, else a minute.
pub(super) fn patience() -> Duration {
    let seconds = variable("HF_HUB_DOWNLOAD_TIMEOUT").and_then(|value| value.parse().ok());
    Duration::from_secs(seconds.filter(|seconds| *seconds > 0).unwrap_or(60))
}

/// Repeats what may pass.
pub(super) fn repeat<T>(
    what: &str,
    mut attempt: impl FnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut pause = PAUSE;
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(Failure::Transient(reason)) => log::warn!("{what}: {reason}; trying again"),
            result => return result,
        }
        std::thread::sleep(pause);
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
    match attempt() {
        Err(Failure::Transient(reason)) => Err(Failure::Final(format!(
            "{ATTEMPTS} attempts failed, the last with: {reason}"
        ))),
        result => result,
    }
}

/// A sign of life of a download.
#[derive(Debug, Clone, Default)]
pub(super) struct Pulse(Arc<AtomicU64>);

impl Pulse {
    fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs a job that has no limit of its own on another thread, and gives it up when its pulse stands still.
pub(super) fn watched<T: Send + 'static>(
    job: impl FnOnce(Pulse) -> T + Send + 'static,
) -> Result<T, Failure> {
    let (pulse, limit) = (Pulse::default(), patience());
    let (sender, receiver) = mpsc::channel();
    let own = pulse.clone();
    let thread = std::thread::Builder::new().name("download".into());
    thread
        .spawn(move || sender.send(job(own)))
        .map_err(|error| Failure::Final(error.to_string()))?;
    loop {
        let before = pulse.0.load(Ordering::Relaxed);
        match receiver.recv_timeout(limit) {
            Ok(result) => return Ok(result),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                if pulse.0.load(Ordering::Relaxed) == before {
                    let seconds = limit.as_secs();
                    let reason = format!("the server has sent nothing for {seconds} s");
                    return Err(Failure::Final(reason));
                }
            }
            // It panicked, over an answer that makes no sense.
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(Failure::Final("the server's answer makes no sense".into()));
            }
        }
    }
}

/// A bar on a terminal's stderr.
pub(super) struct Bar {
    bar: ProgressBar,
    pulse: Pulse,
}

impl Bar {
    pub(super) fn new(pulse: Pulse) -> Self {
        let bar = ProgressBar::new(0);
        let template = "{msg} {wide_bar} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━━─"));
        }
        Self { bar, pulse }
    }

    /// A bar of `total` bytes, if that is known, before the first of them.
    pub(super) fn start(&mut self, name: &str, total: Option<u64>) {
        match total {
            Some(total) => self.bar.set_length(total),
            None => self.bar.unset_length(),
        }
        self.bar.set_position(0);
        self.bar.set_message(name.to_owned());
        self.pulse.beat();
    }

    pub(super) fn advance(&mut self, bytes: u64) {
        self.bar.inc(bytes);
        self.pulse.beat();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl hf_hub::api::Progress for Bar {
    fn init(&mut self, size: usize, filename: &str) {
        self.start(filename, Some(size as u64));
    }

    fn update(&mut self, size: usize) {
        self.advance(size as u64);
    }

    fn finish(&mut self) {}
}

/// An error of the connection as advice on what to do next.
pub(super) fn classify(error: ureq::Error) -> Failure {
    match error {
        ureq::Error::StatusCode(404) => Failure::Missing,
        ureq::Error::StatusCode(code @ (408 | 416 | 425 | 429 | 500..)) => {
            Failure::Transient(format!("the server answered with HTTP {code}"))
        }
        ureq::Error::StatusCode(code) => Failure::Refused(code),
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => unreachable(error),
        ureq::Error::Io(ref io) if is_no_connection(io.kind()) => unreachable(error),
        ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => {
            unreachable(error)
        }
        error => Failure::Transient(error.to_string()),
    }
}

fn unreachable(error: impl std::fmt::Display) -> Failure {
    Failure::Final(format!("the server cannot be reached ({error})"))
}

fn is_no_connection(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionRefused
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::AddrNotAvailable
    )
}

/// An error while bytes go from the connection to `path`: the disk's or the connection's.
pub(super) fn classify_copy(path: &Path, error: std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::StorageFull
        | ErrorKind::QuotaExceeded
        | ErrorKind::FileTooLarge
        | ErrorKind::PermissionDenied
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::NotADirectory
        | ErrorKind::NotFound => Failure::Io(path.to_path_buf(), error),
        kind if is_no_connection(kind) => unreachable(error),
        _ => Failure::Transient(format!("the connection broke ({error})")),
    }
}

/// Opens a lock file and waits until no other process holds it. The lock ends with the file.
pub(super) fn lock(path: &Path, what: &str) -> Result<File, Failure> {
    let failed = |error| Failure::Io(path.to_path_buf(), error);
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(failed)?;
    }
    let mut options = File::options();
    let options = options.create(true).truncate(false).read(true).write(true);
    let file = options.open(path).map_err(failed)?;
    if file.try_lock().is_err() {
        log::info!("{what}: waiting for another process that downloads it");
        file.lock().map_err(failed)?;
    }
    Ok(file)
}

/// sha256 of a file in hexadecimal digits.
pub(super) fn sha256(path: &Path) -> Result<String, Failure> {
    let failed = |error| Failure::Io(path.to_path_buf(), error);
    let mut file = File::open(path).map_err(failed)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    let digest = hash.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}
