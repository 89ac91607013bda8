//! One shard, from its first sample to its name.

use std::io;
use std::path::PathBuf;

use openclip_model::files::atomic::AtomicFile;
use serde_json::json;

use super::prepare::Ready;
use crate::error::DataError;

/// A shard that is being written.
pub(super) struct Shard {
    path: PathBuf,
    tar: tar::Builder<AtomicFile>,
    samples: u64,
    capacity: u64,
}

impl Shard {
    /// Begins the shard `path` of at most `capacity` samples.
    pub fn create(path: PathBuf, capacity: u64) -> Result<Self, DataError> {
        let file = AtomicFile::create(&path);
        let file = file.map_err(|source| DataError::Io {
            path: path.clone(),
            source,
        })?;
        Ok(Self {
            path,
            tar: tar::Builder::new(file),
            samples: 0,
            capacity,
        })
    }

    /// Adds a sample, the `number`-th of the pack.
    pub fn add(&mut self, number: u64, sample: &Ready) -> Result<(), DataError> {
        let mut facts = json!({"key": key(number), "source": sample.place});
        let optional = [
            ("caption", sample.caption.as_ref().map(|text| json!(text))),
            ("label", sample.label.map(|label| json!(label))),
            ("original_width", sample.was.map(|[width, _]| json!(width))),
            (
                "original_height",
                sample.was.map(|[_, height]| json!(height)),
            ),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                facts[name] = value;
            }
        }
        let facts = facts.to_string();
        let caption = sample.caption.as_deref().map(str::as_bytes);
        let members = [
            (sample.suffix, Some(sample.picture.as_slice())),
            ("txt", caption),
            ("json", Some(facts.as_bytes())),
        ];
        for (suffix, bytes) in members {
            if let Some(bytes) = bytes {
                self.append(&format!("{}.{suffix}", key(number)), bytes)
                    .map_err(|source| self.failed(source))?;
            }
        }
        self.samples += 1;
        Ok(())
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        self.tar.append_data(&mut header, name, bytes)
    }

    /// Whether no further sample belongs into it.
    pub fn is_full(&self) -> bool {
        self.samples >= self.capacity
    }

    /// Gives the file its name and says how many samples it has.
    pub fn finish(self) -> Result<u64, DataError> {
        let finished = self.tar.into_inner().and_then(AtomicFile::finish);
        finished.map_err(|source| DataError::Io {
            path: self.path,
            source,
        })?;
        Ok(self.samples)
    }

    fn failed(&self, source: io::Error) -> DataError {
        DataError::Io {
            path: self.path.clone(),
            source,
        }
    }
}

/// The key of the `number`-th sample.
fn key(number: u64) -> String {
    format!("{number:09}")
}
