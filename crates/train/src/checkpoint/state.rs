//! `state.json`, which makes a folder a checkpoint: the counters, and a checksum of each file and of itself.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::layout::STATE;
use super::metric::Metric;
use super::progress::{Progress, Reached};
use crate::TrainError;

/// What `state.json` says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State {
    #[serde(flatten)]
    pub progress: Progress,
    /// Of a checkpoint kept as the best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<Metric>,
    pub files: Vec<FileEntry>,
}

/// What stands before the checksum of all that comes before it, at the end of `state.json`.
const SEAL: &str = ",\n  \"crc32\": ";
const END: &str = "\n}";

impl State {
    pub fn to_json(&self) -> serde_json::Result<String> {
        let text = serde_json::to_string_pretty(self)?;
        let body = text.strip_suffix(END).unwrap_or(&text);
        let checksum = crc32fast::hash(body.as_bytes());
        Ok(format!("{body}{SEAL}{checksum}{END}"))
    }

    pub fn from_json(json: &[u8]) -> serde_json::Result<Self> {
        let fault = |reason: String| serde::de::Error::custom(reason);
        let text = std::str::from_utf8(json).map_err(|error| fault(error.to_string()))?;
        let sealed = text.rsplit_once(SEAL);
        let sealed = sealed.and_then(|(body, rest)| Some((body, rest.strip_suffix(END)?)));
        let body = sealed
            .filter(|(body, checksum)| *checksum == crc32fast::hash(body.as_bytes()).to_string());
        let Some((body, _)) = body else {
            return Err(fault("it does not have its checksum".into()));
        };
        let state: Self = serde_json::from_str(&format!("{body}{END}"))?;
        // It may come from elsewhere, and these files are written beside it.
        let is_plain = |name: &str| !name.starts_with('.') && !name.contains(['/', '\\']);
        match state.files.iter().find(|file| !is_plain(&file.name)) {
            Some(file) => Err(fault(format!("{:?} is no name of a file", file.name))),
            None => Ok(state),
        }
    }

    /// What the `state.json` of the checkpoint folder `path` says, without a look at the other files.
    ///
    /// # Errors
    /// [`TrainError::Incomplete`] when there is none, or it is damaged.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let damaged = |error: String| TrainError::incomplete(path, format!("{STATE}: {error}"));
        let json = fs::read(path.join(STATE)).map_err(|error| damaged(error.to_string()))?;
        Self::from_json(&json).map_err(|error| damaged(error.to_string()))
    }
}

/// Names of the files that the text of a `state.json` lists; none if it is damaged.
pub fn files(state: &[u8]) -> Vec<String> {
    let state = State::from_json(state);
    let files = state.map(|state| state.files).unwrap_or_default();
    files.into_iter().map(|file| file.name).collect()
}

/// How far the run had come of which the text of a `state.json` speaks ([`Progress::reached`]); nothing if it is damaged.
pub fn reached(state: &[u8]) -> Option<Reached> {
    Some(State::from_json(state).ok()?.progress.reached())
}

/// A file of a checkpoint as `state.json` describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct FileEntry {
    pub name: String,
    pub bytes: u64,
    pub crc32: u32,
}

impl FileEntry {
    /// Length and checksum of the file `dir/name`.
    pub fn measure(dir: &Path, name: &str) -> io::Result<Self> {
        let mut file = File::open(dir.join(name))?;
        let mut hasher = crc32fast::Hasher::new();
        let mut buffer = vec![0; 1 << 20];
        let mut bytes = 0;
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            bytes += read as u64;
        }
        Ok(Self {
            name: name.into(),
            bytes,
            crc32: hasher.finalize(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Numbers of any length keep their checksum on the way through the file.
    #[test]
    fn a_state_is_read_as_it_was_written() {
        let mut seed = 1_u64;
        for _ in 0..2_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let state = State {
                progress: Progress {
                    step: seed >> 33,
                    ..Progress::default()
                },
                metric: Some(Metric {
                    name: "loss".into(),
                    value: f64::from_bits(seed >> 2),
                }),
                files: Vec::new(),
            };
            let text = state.to_json().unwrap();
            let read = State::from_json(text.as_bytes()).unwrap();
            assert_eq!(read.progress, state.progress);
            for at in 0..text.len() {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1;
                assert!(
                    !seed.is_multiple_of(100) || State::from_json(&bytes).is_err(),
                    "{text}"
                );
            }
        }
    }
}
