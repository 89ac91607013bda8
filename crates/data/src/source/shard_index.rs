//! What a shard holds and where, remembered from the first time it was read, so that a run which is resumed can jump.
//!
//! A shard's items are noted in their order while it is read for the first time: of a sample where it lies and how much memory it
//! takes, of a problem all of it. The order of a pass can be repeated from that without a byte of the data; only the samples that
//! wait in the shuffle buffer are read again. A sample takes nine to twelve bytes. Each rank has a file of its own, to which it appends.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::{Item, Problem, ProblemKind};

/// The folder beside a run that holds its indexes.
pub const SHARD_INDEX: &str = "shard-index";
/// First bytes of a file, with the version of its form.
const MAGIC: &[u8; 8] = b"ocshard2";
/// Bytes before a record's body: its length, its checksum, the length of the name in it and what its version is told by, four bytes
/// each.
const HEAD: u64 = 16;
/// Most items of a shard that are noted; a larger shard is read again after a resume.
const MAX_ITEMS: usize = 4 << 20;

/// Where a sample lies: bytes of a file, or rows of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// First byte or row.
    pub start: u64,
    /// How many.
    pub length: u64,
}

/// An item of a shard, without its data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Entry {
    Sample { extent: Extent, bytes: u64 },
    Problem(Problem),
}

/// Notes the items of a shard while it is read.
#[derive(Debug)]
pub struct Recorder {
    is_on: bool,
    /// The version that is noted already.
    known: Option<u32>,
    version: Option<String>,
    entries: Vec<Entry>,
}

impl Recorder {
    /// One that notes, or one that does not.
    pub fn new(is_on: bool) -> Self {
        Self {
            is_on,
            known: None,
            version: None,
            entries: Vec::new(),
        }
    }

    /// Says which version of the shard is read, and that its parts can be read again. Without it nothing is noted.
    pub fn begin(&mut self, version: Option<&str>) {
        let is_new = |version: &&str| self.is_on && self.known != Some(mark(version));
        self.version = version.filter(is_new).map(str::to_owned);
    }

    /// Says that the shard cannot be read in parts, or may be another the next time.
    pub fn give_up(&mut self) {
        *self = Self::new(false);
    }

    /// Notes the next item, before it is pushed. The extent of a problem is of no use.
    pub fn note(&mut self, item: &Item, extent: Extent) {
        if self.version.is_none() {
            return;
        }
        if self.entries.len() == MAX_ITEMS {
            return self.give_up();
        }
        match item {
            Item::Sample(sample) => self.entries.push(Entry::Sample {
                extent,
                bytes: sample.image_bytes() as u64,
            }),
            // What cannot be read today may well be tomorrow.
            Item::Problem(problem)
                if matches!(
                    problem.kind,
                    ProblemKind::UnreadableShard
                        | ProblemKind::TruncatedShard
                        | ProblemKind::UnreadableImage
                ) =>
            {
                self.give_up();
            }
            Item::Problem(problem) => self.entries.push(Entry::Problem(problem.clone())),
        }
    }
}

/// What is known of one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    pub version: String,
    pub entries: Vec<Entry>,
}

/// The items of the shards that a rank has read.
#[derive(Debug)]
pub struct ShardIndex {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Where the record of a shard begins, and what its version is told by, by the shard's name.
    records: HashMap<String, (u64, u32)>,
    /// Behind the last whole record.
    end: u64,
    file: Option<File>,
    has_failed: bool,
}

impl ShardIndex {
    /// The index of a rank in the folder `dir`, with what it noted so far. Nothing is written before the first shard is noted. A
    /// file that cannot be read or written costs a warning.
    pub fn open(dir: &Path, rank: usize) -> Self {
        let index = Self {
            path: dir.join(format!("rank-{rank}.index")),
            state: Mutex::default(),
        };
        if index.path.exists() {
            let mut state = index.lock();
            if let Err(error) = state.open(&index.path) {
                index.fail(&mut state, &error);
            }
        }
        index
    }

    /// A disk that fails once is not asked again.
    fn fail(&self, state: &mut State, error: &io::Error) {
        let path = self.path.display();
        log::warn!(
            "{path}: {error}; shards that are not noted there are read again after a resume"
        );
        state.has_failed = true;
    }

    /// What is known of a shard; `version` is that of today, where it is known.
    pub(super) fn find(&self, name: &str, version: Option<&str>) -> Option<Known> {
        let mut state = self.lock();
        let (at, _) = *state.records.get(name)?;
        match state.read(at) {
            Ok(known) => Some(known).filter(|known| version.is_none_or(|now| now == known.version)),
            Err(error) => {
                log::warn!("{}: {error}; {name} is read again", self.path.display());
                state.records.remove(name);
                None
            }
        }
    }

    /// Keeps what was noted of a shard that was read to its end.
    pub(super) fn add(&self, name: &str, recorder: Recorder) {
        let mut state = self.lock();
        let Some(version) = recorder.version.filter(|_| !state.has_failed) else {
            return;
        };
        let known = Known {
            version,
            entries: recorder.entries,
        };
        let appended = state
            .open(&self.path)
            .and_then(|()| state.append(name, &known));
        if let Err(error) = appended {
            self.fail(&mut state, &error);
        }
    }

    /// Notes what a shard holds while it is read, unless it is known or nothing can be kept.
    pub(super) fn recorder(&self, name: &str) -> Recorder {
        let state = self.lock();
        Recorder {
            known: state.records.get(name).map(|(_, version)| *version),
            ..Recorder::new(!state.has_failed)
        }
    }

    /// The state is whole between two calls.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// By what a version is told from others.
fn mark(version: &str) -> u32 {
    crc32fast::hash(version.as_bytes())
}

impl State {
    /// Opens the file, or begins it, unless that is done; half a record at its end is left out.
    fn open(&mut self, path: &Path) -> io::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path)?;
        let length = file.metadata()?.len();
        let mut magic = Vec::new();
        (&file).take(MAGIC.len() as u64).read_to_end(&mut magic)?;
        if magic != MAGIC {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(MAGIC)?;
        }
        self.file = Some(file);
        self.end = MAGIC.len() as u64;
        while self.end < length {
            let Ok((name, version, end)) = self.name_at(self.end, length) else {
                break;
            };
            self.records.insert(name, (self.end, version));
            self.end = end;
        }
        Ok(())
    }

    /// The name in a record, what its version is told by, and where the next one begins.
    fn name_at(&mut self, at: u64, length: u64) -> io::Result<(String, u32, u64)> {
        let [body, _, name, version] = self.head(at)?;
        let end = at + HEAD + u64::from(body);
        if end > length || name > body {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let name = String::from_utf8(self.bytes(name)?).map_err(io::Error::other)?;
        Ok((name, version, end))
    }

    /// What stands before a record's body.
    fn head(&mut self, at: u64) -> io::Result<[u32; 4]> {
        self.file()?.seek(SeekFrom::Start(at))?;
        let head = self.bytes(HEAD as u32)?;
        let word = |bytes: &[u8]| {
            let bytes = bytes.iter().rev();
            bytes.fold(0, |word, byte| word << 8 | u32::from(*byte))
        };
        Ok([0, 4, 8, 12].map(|start| word(&head[start..start + 4])))
    }

    fn read(&mut self, at: u64) -> io::Result<Known> {
        let [length, sum, name, _] = self.head(at)?;
        let body = self.bytes(length)?;
        if crc32fast::hash(&body) != sum {
            return Err(io::Error::other("a record is damaged"));
        }
        let known = body.get(name as usize..).unwrap_or_default();
        postcard::from_bytes(known).map_err(io::Error::other)
    }

    fn append(&mut self, name: &str, known: &Known) -> io::Result<()> {
        let version = mark(&known.version);
        let known = postcard::to_stdvec(known).map_err(io::Error::other)?;
        let body = [name.as_bytes(), &known].concat();
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        let words = [length, crc32fast::hash(&body), name.len() as u32, version];
        let head: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let at = self.end;
        let file = self.file()?;
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&[head, body].concat())?;
        self.records.insert(name.to_owned(), (at, version));
        self.end = at + HEAD + u64::from(length);
        Ok(())
    }

    fn bytes(&mut self, length: u32) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file()?.take(length.into()).read_to_end(&mut bytes)?;
        match bytes.len() == length as usize {
            true => Ok(bytes),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn file(&mut self) -> io::Result<&mut File> {
        self.file.as_mut().ok_or(io::ErrorKind::NotFound.into())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn recorder(starts: std::ops::Range<u64>) -> Recorder {
        let entry = |start| Entry::Sample {
            extent: Extent { start, length: 512 },
            bytes: start / 2,
        };
        Recorder {
            version: Some("1 2".into()),
            entries: starts.map(entry).collect(),
            ..Recorder::new(true)
        }
    }

    #[test]
    fn what_was_noted_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let index = ShardIndex::open(dir.path(), 0);
        for (name, starts) in [("a.tar", 0..10), ("b.tar", 5..8)] {
            assert_eq!(index.recorder(name).known, None);
            index.add(name, recorder(starts));
        }
        // A record that was cut off does not spoil those before it, nor those that follow.
        let path = dir.path().join("rank-0.index");
        let length = std::fs::metadata(&path).unwrap().len();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(length - 3)
            .unwrap();
        let index = ShardIndex::open(dir.path(), 0);
        assert_eq!(index.recorder("a.tar").known, Some(mark("1 2")));
        assert_eq!(index.recorder("b.tar").known, None);
        index.add("c.tar", recorder(0..3));
        let index = ShardIndex::open(dir.path(), 0);
        let found = |name, version| index.find(name, version).map(|known| known.entries);
        assert_eq!(found("a.tar", None), Some(recorder(0..10).entries));
        assert_eq!(found("c.tar", Some("1 2")), Some(recorder(0..3).entries));
        assert_eq!(found("c.tar", Some("1 3")), None);
        assert_eq!(found("b.tar", None), None);
    }

    #[test]
    fn a_damaged_record_is_none() {
        let dir = tempfile::tempdir().unwrap();
        ShardIndex::open(dir.path(), 0).add("a.tar", recorder(0..10));
        let path = dir.path().join("rank-0.index");
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(
            ShardIndex::open(dir.path(), 0)
                .find("a.tar", None)
                .is_none()
        );
        std::fs::write(&path, b"something else").unwrap();
        assert_eq!(
            ShardIndex::open(dir.path(), 0).recorder("a.tar").known,
            None
        );
    }
}
