//! What downloads and uploads have in common: further attempts, a limit on silence, progress, checksums.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

use super::cache::variable;
use super::error::Failure;

/// Attempts before a transfer is given up.
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
        let wait = match attempt() {
            Err(Failure::Transient(reason)) => {
                log::warn!("{what}: {reason}; trying again");
                pause
            }
            Err(Failure::Later(reason, wait)) => {
                log::warn!("{what}: {reason}; trying again in {} s", wait.as_secs());
                wait
            }
            result => return result,
        };
        std::thread::sleep(wait);
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
    match attempt() {
        Err(Failure::Transient(reason) | Failure::Later(reason, _)) => Err(Failure::Final(
            format!("{ATTEMPTS} attempts failed, the last with: {reason}"),
        )),
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

    /// Takes back what has to be transferred again.
    pub(super) fn back(&mut self, bytes: u64) {
        self.bar.dec(bytes);
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

/// A lock file that no other process holds. The lock ends with it.
#[derive(Debug)]
pub(super) struct Lock {
    _file: Option<File>,
    /// Where the folder has no locks: the file in this machine's temporary folder that is locked instead.
    stand_in: Option<PathBuf>,
}

/// Opens a lock file and waits until no other process holds it.
///
/// A folder of another machine (NFS, Lustre) may be mounted without locks: then a word, and a lock among this machine's processes.
pub(super) fn lock(path: &Path, what: &str) -> Result<Lock, Failure> {
    lock_by(path, what, hold)
}

fn lock_by(
    path: &Path,
    what: &str,
    hold: impl Fn(&File, &str) -> std::io::Result<()>,
) -> Result<Lock, Failure> {
    let failed = |error| Failure::Io(path.to_path_buf(), error);
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(failed)?;
    }
    let file = open(path).map_err(failed)?;
    let Err(error) = hold(&file, what) else {
        return Ok(Lock {
            _file: Some(file),
            stand_in: None,
        });
    };
    log::warn!(
        "{}: the folder has no file locks ({error}); going on without: let no other machine download {what} at the same time",
        path.parent().unwrap_or(path).display()
    );
    let stand_in = stand_in(path);
    let file = open(&stand_in).ok();
    let file = file.filter(|file| hold(file, what).is_ok());
    Ok(Lock {
        stand_in: file.is_some().then_some(stand_in),
        _file: file,
    })
}

impl Lock {
    /// Lets the crate's own lock at `path`, which knows no way without, be one in this machine's temporary folder, if this lock is.
    pub(super) fn lend(&self, path: &Path) -> Option<LentLock> {
        self.stand_in.as_ref()?;
        let target = stand_in(path);
        open(&target).ok()?;
        fs::create_dir_all(path.parent()?).ok()?;
        let _ = fs::remove_file(path);
        link(&target, path).ok()?;
        Some(LentLock(path.to_path_buf()))
    }
}

/// A link in the place of a lock file.
#[derive(Debug)]
pub(super) struct LentLock(PathBuf);

impl Drop for LentLock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(unix)]
fn link(target: &Path, path: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

#[cfg(not(unix))]
fn link(_: &Path, _: &Path) -> std::io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// The lock in this machine's temporary folder that stands for the one at `path`.
fn stand_in(path: &Path) -> PathBuf {
    let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
    let name: String = digest[..16].iter().map(|b| format!("{b:02x}")).collect();
    std::env::temp_dir().join(format!("openclip-{name}.lock"))
}

fn open(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    let options = options.create(true).truncate(false).read(true).write(true);
    options.open(path)
}

/// Waits for the lock on a file.
fn hold(file: &File, what: &str) -> std::io::Result<()> {
    match file.try_lock() {
        Ok(()) => return Ok(()),
        Err(TryLockError::Error(error)) if error.kind() != ErrorKind::Interrupted => {
            return Err(error);
        }
        Err(_) => log::info!("{what}: waiting for another process that downloads it"),
    }
    loop {
        match file.lock() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
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

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// What NFS without its lock daemon and Lustre without `flock` answer; other folders of the machine have locks.
    fn without_locks(dir: &Path) -> impl Fn(&File, &str) -> std::io::Result<()> {
        use std::os::unix::fs::MetadataExt;
        let path = dir.join("a.lock");
        move |file, what| {
            let own = fs::metadata(&path).unwrap().ino();
            match file.metadata().unwrap().ino() == own {
                // ENOLCK on Linux.
                true => Err(std::io::Error::from_raw_os_error(37)),
                false => hold(file, what),
            }
        }
    }

    #[test]
    fn a_folder_without_locks_does_without() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.lock");
        let lock = lock_by(&path, "a file", without_locks(dir.path())).unwrap();
        let stand_in = lock.stand_in.clone().unwrap();
        assert!(open(&stand_in).unwrap().try_lock().is_err());
        // The lock that the crate takes by itself is one that can be had.
        let own = dir.path().join("blobs/own.lock");
        let lent = lock.lend(&own).unwrap();
        assert!(fs::symlink_metadata(&own).unwrap().is_symlink());
        File::create(&own).unwrap().try_lock().unwrap();
        drop((lent, lock));
        assert!(!own.exists());
        open(&stand_in).unwrap().try_lock().unwrap();
    }

    #[test]
    fn a_folder_with_locks_has_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.lock");
        let lock = lock(&path, "a file").unwrap();
        assert!(open(&path).unwrap().try_lock().is_err());
        assert!(lock.lend(&dir.path().join("own.lock")).is_none());
    }
}
