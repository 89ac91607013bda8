//! A run folder is copied to an object store while the run goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, SystemTime};

use openclip_data::source::shard_index::SHARD_INDEX;

use super::{RemoteError, Store};
use crate::checkpoint::{self, CHECKPOINTS, STATE};
use crate::journal::Journal;

/// Least time that the copy at the end of a run gets.
const LEAST_LIMIT: Duration = Duration::from_secs(10);

/// Copies in the background, at the start, in intervals and at the end. A store that fails is told of once for each kind of
/// failure and tried again; training never waits for it but at the end.
pub struct Sync {
    url: String,
    limit: Duration,
    stop: Sender<()>,
    notices: Receiver<Notice>,
}

enum Notice {
    Info(String),
    Warning(String),
    Done,
}

impl Sync {
    /// Copies the folder `dir` to `store` now and `every` so often.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(store: Store, dir: PathBuf, every: Duration) -> io::Result<Self> {
        let url = store.url().to_owned();
        let (stop, stopped) = channel();
        let (tell, notices) = channel();
        let mirror = Mirror {
            store,
            dir,
            files: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
        };
        let thread = std::thread::Builder::new().name("remote".into());
        thread.spawn(move || mirror.run(&stopped, &tell, every))?;
        Ok(Self {
            url,
            limit: every.max(LEAST_LIMIT),
            stop,
            notices,
        })
    }

    /// Writes what has happened meanwhile into the log.
    pub fn poll(&self, journal: &mut Journal) {
        for notice in self.notices.try_iter() {
            tell(notice, journal);
        }
    }

    /// Copies what is new, for as long as an interval takes and no longer.
    pub fn finish(self, journal: &mut Journal) {
        // The thread may be gone; then there is nothing to wait for.
        let _ = self.stop.send(());
        let end = std::time::Instant::now() + self.limit;
        loop {
            let left = end.saturating_duration_since(std::time::Instant::now());
            match self.notices.recv_timeout(left) {
                Ok(Notice::Done) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(notice) => tell(notice, journal),
                Err(RecvTimeoutError::Timeout) => {
                    let (url, seconds) = (&self.url, self.limit.as_secs());
                    journal.warn(format!(
                        "{url}: the last copy has not come to its end in {seconds} s and is left unfinished"
                    ));
                    return;
                }
            }
        }
    }
}

fn tell(notice: Notice, journal: &mut Journal) {
    match notice {
        Notice::Info(text) => journal.info(text),
        Notice::Warning(text) => journal.warn(text),
        Notice::Done => {}
    }
}

/// What is known to be in the store.
struct Mirror {
    store: Store,
    dir: PathBuf,
    /// Length and time of change of plain files.
    files: BTreeMap<String, (u64, SystemTime)>,
    /// `state.json` of checkpoints.
    checkpoints: BTreeMap<String, Vec<u8>>,
}

impl Mirror {
    fn run(mut self, stopped: &Receiver<()>, notices: &Sender<Notice>, every: Duration) {
        let mut told = BTreeSet::new();
        let mut last = false;
        loop {
            let notice = match self.pass() {
                Ok(()) if told.is_empty() => None,
                Ok(()) => {
                    told.clear();
                    Some(Notice::Info(format!("{}: copied again", self.store.url())))
                }
                Err(error) if told.insert((error.action, error.kind)) => Some(Notice::Warning(
                    format!("{error}; it is tried again every {} s", every.as_secs()),
                )),
                Err(error) if last => {
                    Some(Notice::Warning(format!("the last copy failed: {error}")))
                }
                Err(_) => None,
            };
            // Nobody listens any more when the run has failed.
            let _ = notice.map(|notice| notices.send(notice));
            if last {
                let _ = notices.send(Notice::Done);
                return;
            }
            last = !matches!(stopped.recv_timeout(every), Err(RecvTimeoutError::Timeout));
        }
    }

    /// Copies everything that is new: checkpoints first, then the logs that speak of them.
    fn pass(&mut self) -> Result<(), RemoteError> {
        let checkpoints = self.dir.join(CHECKPOINTS);
        for name in names(&checkpoints) {
            self.checkpoint(&checkpoints.join(&name), &format!("{CHECKPOINTS}/{name}"))?;
        }
        for name in names(&self.dir) {
            // What shards hold is found out again where the run goes on elsewhere.
            if name != CHECKPOINTS && name != SHARD_INDEX {
                self.file_or_folder(&self.dir.join(&name), &name)?;
            }
        }
        Ok(())
    }

    fn file_or_folder(&mut self, path: &Path, name: &str) -> Result<(), RemoteError> {
        if path.is_dir() {
            for inner in names(path) {
                self.file_or_folder(&path.join(&inner), &format!("{name}/{inner}"))?;
            }
            return Ok(());
        }
        let Ok(metadata) = fs::metadata(path) else {
            return Ok(());
        };
        let stamp = (
            metadata.len(),
            metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
        );
        if self.files.get(name) != Some(&stamp) && sent(self.store.upload(path, name))? {
            self.files.insert(name.to_owned(), stamp);
        }
        Ok(())
    }

    /// Copies a checkpoint with `state.json` last, so that half a copy is none; one that changes or goes meanwhile is left to the
    /// next pass.
    fn checkpoint(&mut self, path: &Path, name: &str) -> Result<(), RemoteError> {
        let read = || fs::read(path.join(STATE)).ok();
        let Some(state) = read() else {
            return Ok(());
        };
        if self.checkpoints.get(name) == Some(&state) {
            return Ok(());
        }
        let remote_state = format!("{name}/{STATE}");
        match self.store.get(&remote_state)? {
            Some(known) if known == state => {}
            known => {
                if known.is_some() {
                    self.store.delete(&remote_state)?;
                }
                for file in checkpoint::files(&state) {
                    if !sent(
                        self.store
                            .upload(&path.join(&file), &format!("{name}/{file}")),
                    )? {
                        return Ok(());
                    }
                }
                if read().as_ref() != Some(&state) {
                    return Ok(());
                }
                self.store.put(&remote_state, state.clone())?;
            }
        }
        self.checkpoints.insert(name.to_owned(), state);
        Ok(())
    }
}

/// Whether a file was copied; one that has gone meanwhile is no failure.
fn sent(copied: Result<(), RemoteError>) -> Result<bool, RemoteError> {
    match copied {
        Ok(()) => Ok(true),
        Err(error) if error.kind == "gone" => Ok(false),
        Err(error) => Err(error),
    }
}

/// What is in a folder, but for what is still being written.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> = names
        .filter(|name| !name.starts_with('.') && !name.ends_with(".old"))
        .collect();
    names.sort();
    names
}
