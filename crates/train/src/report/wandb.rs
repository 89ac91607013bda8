//! Weights & Biases: an offline run folder, as `wandb sync` sends it to the server later.
//!
//! The folder holds one file of protobuf records (`wandb_internal.proto` of PyPI's wandb) in LevelDB's log format. What is written
//! here is what a curve needs: who the run is, its flags, the scalars of each step, the latest of each, and that it ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::append::{AppendFile, News};
use super::protobuf::Message;

/// The release whose records are written, and the oldest reader that they are meant for.
const PRODUCER: &str = concat!("openclip-", env!("CARGO_PKG_VERSION"));
const MIN_CONSUMER: &str = "0.40.0";

/// What a run is called and described with.
#[derive(Debug, Clone, Default)]
pub struct Facts<'a> {
    /// `--wandb-project-name`.
    pub project: &'a str,
    /// `--wandb-notes`.
    pub notes: &'a str,
    /// `--name`.
    pub name: &'a str,
    /// The flags.
    pub config: Map<String, Value>,
    /// The step that the run goes on from: it is a second run of the same group then.
    pub resumed_at: Option<u64>,
}

/// An offline run that grows step by step.
#[derive(Debug)]
pub struct Offline {
    log: LogFile,
    id: String,
    records: u64,
    started: SystemTime,
    pending: Pending,
}

/// What the record of a step will hold.
#[derive(Debug, Default)]
struct Pending {
    step: u64,
    values: Map<String, Value>,
}

impl Offline {
    /// Begins a run under `dir/wandb`, which is created with the first [`flush`](Self::flush).
    pub fn create(dir: &Path, facts: &Facts<'_>) -> Self {
        let group = id(facts.name);
        let id = match facts.resumed_at {
            Some(step) => format!("{group}-from-{step}"),
            None => group.clone(),
        };
        let now = jiff::Zoned::now().strftime("%Y%m%d_%H%M%S");
        let folder = dir.join(format!("wandb/offline-run-{now}-{id}"));
        // A place for files beside the run, of which there are none. Where this fails, the run's file fails and is told of.
        let _ = fs::create_dir_all(folder.join("files"));
        let mut run = Self {
            log: LogFile::new(folder.join(format!("run-{id}.wandb"))),
            id,
            records: 0,
            started: SystemTime::now(),
            pending: Pending::default(),
        };
        let mut version = Message::default();
        version.bytes(version_info::PRODUCER, PRODUCER.as_bytes());
        version.bytes(version_info::MIN_CONSUMER, MIN_CONSUMER.as_bytes());
        let mut header = Message::default();
        header.bytes(header_record::VERSION_INFO, &version.0);
        run.record(record::HEADER, &header);
        let start = run.describe(facts, &group);
        run.record(record::RUN, &start);
        run
    }

    fn describe(&self, facts: &Facts<'_>, group: &str) -> Message {
        let mut config = Message::default();
        for (key, value) in &facts.config {
            config.bytes(config_record::UPDATE, &item(item::KEY, key, value).0);
        }
        let since = self.since_epoch();
        let mut start = Message::default();
        start.varint(timestamp::SECONDS, since.as_secs());
        start.varint(timestamp::NANOS, since.subsec_nanos().into());
        let host = gethostname::gethostname();
        let mut message = Message::default();
        for (field, text) in [
            (run_record::RUN_ID, self.id.as_str()),
            (run_record::PROJECT, facts.project),
            (run_record::RUN_GROUP, group),
            (run_record::DISPLAY_NAME, facts.name),
            (run_record::NOTES, facts.notes),
            (run_record::HOST, &host.to_string_lossy()),
        ] {
            message.bytes(field, text.as_bytes());
        }
        message.bytes(run_record::CONFIG, &config.0);
        message.varint(run_record::STARTING_STEP, facts.resumed_at.unwrap_or(0));
        message.bytes(run_record::START_TIME, &start.0);
        message
    }

    /// Scalars of step `step`; what comes later has the same step or a later one.
    pub fn scalars<S: AsRef<str>>(&mut self, step: u64, scalars: &[(S, f64)]) {
        // One record for each step: the last one is held back until its step is over.
        if self.pending.step != step {
            self.write_pending();
        }
        let runtime = self.started.elapsed().unwrap_or_default();
        self.pending.step = step;
        let values = &mut self.pending.values;
        for (name, value) in scalars {
            // What is not finite has no number in JSON, and is a text to W&B.
            let value = match value {
                value if value.is_finite() => json!(value),
                value if value.is_nan() => json!("NaN"),
                value => json!(if *value > 0.0 {
                    "Infinity"
                } else {
                    "-Infinity"
                }),
            };
            values.insert(name.as_ref().to_owned(), value);
        }
        let now = (self.since_epoch() + runtime).as_secs_f64();
        self.pending.values.extend([
            ("_step".to_owned(), json!(step)),
            ("_runtime".to_owned(), json!(runtime.as_secs_f64())),
            ("_timestamp".to_owned(), json!(now)),
        ]);
    }

    /// Hands the records so far to the system.
    pub fn flush(&mut self) -> Option<News> {
        self.log.file.flush()
    }

    /// The run is over.
    pub fn finish(mut self) -> Option<News> {
        self.write_pending();
        let mut exit = Message::default();
        exit.varint(exit_record::CODE, 0);
        let runtime = self.started.elapsed().unwrap_or_default();
        exit.varint(exit_record::RUNTIME, runtime.as_secs());
        self.record(record::EXIT, &exit);
        self.flush()
    }

    fn write_pending(&mut self) {
        let Pending { step, values } = std::mem::take(&mut self.pending);
        if values.is_empty() {
            return;
        }
        let mut number = Message::default();
        number.varint(history_step::NUM, step);
        let (mut history, mut summary) = (Message::default(), Message::default());
        for (key, value) in &values {
            let item = item(item::NESTED_KEY, key, value);
            history.bytes(history_record::ITEM, &item.0);
            summary.bytes(summary_record::UPDATE, &item.0);
        }
        history.bytes(history_record::STEP, &number.0);
        self.record(record::SUMMARY, &summary);
        self.record(record::HISTORY, &history);
    }

    fn record(&mut self, kind: u64, content: &Message) {
        self.records += 1;
        let mut info = Message::default();
        info.bytes(record_info::STREAM_ID, self.id.as_bytes());
        let mut message = Message::default();
        message.varint(record::NUM, self.records);
        message.bytes(kind, &content.0);
        message.bytes(record::INFO, &info.0);
        self.log.append(&message.0);
    }

    fn since_epoch(&self) -> std::time::Duration {
        self.started.duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

/// W&B's ids have up to 128 characters and none of `/\#?%:`.
fn id(name: &str) -> String {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let id = name.chars().map(|c| if fine(c) { c } else { '-' });
    id.take(100).collect()
}

/// A value under a key; which of the two kinds of key is `field`.
fn item(field: u64, key: &str, value: &Value) -> Message {
    let mut item = Message::default();
    item.bytes(field, key.as_bytes());
    item.bytes(item::VALUE_JSON, value.to_string().as_bytes());
    item
}

// Field numbers of wandb_internal.proto.
mod record {
    pub(super) const NUM: u64 = 1;
    pub(super) const HISTORY: u64 = 2;
    pub(super) const SUMMARY: u64 = 3;
    pub(super) const RUN: u64 = 17;
    pub(super) const EXIT: u64 = 18;
    pub(super) const HEADER: u64 = 21;
    pub(super) const INFO: u64 = 200;
}
mod record_info {
    pub(super) const STREAM_ID: u64 = 1;
}
mod header_record {
    pub(super) const VERSION_INFO: u64 = 1;
}
mod version_info {
    pub(super) const PRODUCER: u64 = 1;
    pub(super) const MIN_CONSUMER: u64 = 2;
}
mod run_record {
    pub(super) const RUN_ID: u64 = 1;
    pub(super) const PROJECT: u64 = 3;
    pub(super) const CONFIG: u64 = 4;
    pub(super) const RUN_GROUP: u64 = 6;
    pub(super) const DISPLAY_NAME: u64 = 8;
    pub(super) const NOTES: u64 = 9;
    pub(super) const HOST: u64 = 13;
    pub(super) const STARTING_STEP: u64 = 14;
    pub(super) const START_TIME: u64 = 17;
}
mod config_record {
    pub(super) const UPDATE: u64 = 1;
}
mod history_record {
    pub(super) const ITEM: u64 = 1;
    pub(super) const STEP: u64 = 2;
}
mod history_step {
    pub(super) const NUM: u64 = 1;
}
mod summary_record {
    pub(super) const UPDATE: u64 = 1;
}
mod exit_record {
    pub(super) const CODE: u64 = 1;
    pub(super) const RUNTIME: u64 = 2;
}
/// The same numbers in configuration, history and summary.
mod item {
    pub(super) const KEY: u64 = 1;
    pub(super) const NESTED_KEY: u64 = 2;
    pub(super) const VALUE_JSON: u64 = 16;
}
mod timestamp {
    pub(super) const SECONDS: u64 = 1;
    pub(super) const NANOS: u64 = 2;
}

/// LevelDB's log format with W&B's file header and CRC-32 in place of CRC-32C: blocks of 32 KiB, whose records have a checksum, a
/// length and a type.
#[derive(Debug)]
struct LogFile {
    file: AppendFile,
    /// Bytes of the file, those included that are to be written.
    at: usize,
}

const BLOCK: usize = 32 << 10;
const RECORD_HEADER: usize = 7;
/// `:W&B`, a magic number and the version of the format.
const FILE_HEADER: [u8; 7] = [b':', b'W', b'&', b'B', 0xe1, 0xbe, 0];
const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

impl LogFile {
    fn new(path: PathBuf) -> Self {
        let mut file = AppendFile::new(path);
        file.append(&FILE_HEADER);
        Self {
            file,
            at: FILE_HEADER.len(),
        }
    }

    fn append(&mut self, data: &[u8]) {
        let record = self.framed(data);
        if self.file.append(&record) {
            self.at += record.len();
        }
    }

    /// A record as it stands at the end of the file.
    fn framed(&self, data: &[u8]) -> Vec<u8> {
        let mut framed = Vec::with_capacity(data.len() + 2 * RECORD_HEADER);
        let mut left = data;
        let mut first = true;
        loop {
            let mut room = BLOCK - (self.at + framed.len()) % BLOCK;
            if room < RECORD_HEADER {
                framed.extend(&[0; RECORD_HEADER][..room]);
                room = BLOCK;
            }
            let (part, rest) = left.split_at(left.len().min(room - RECORD_HEADER));
            let kind = match (first, rest.is_empty()) {
                (true, true) => FULL,
                (true, false) => FIRST,
                (false, false) => MIDDLE,
                (false, true) => LAST,
            };
            let mut checksum = crc32fast::Hasher::new();
            checksum.update(&[kind]);
            checksum.update(part);
            framed.extend(checksum.finalize().to_le_bytes());
            framed.extend((part.len() as u16).to_le_bytes());
            framed.push(kind);
            framed.extend(part);
            if rest.is_empty() {
                return framed;
            }
            (left, first) = (rest, false);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The records of a file, as the description of the format says to read it.
    fn records(bytes: &[u8]) -> Vec<Vec<u8>> {
        assert_eq!(&bytes[..7], b":W&B\xe1\xbe\x00");
        let (mut at, mut records, mut record) = (7, Vec::new(), Vec::new());
        while at < bytes.len() {
            if BLOCK - at % BLOCK < 7 {
                at = at.next_multiple_of(BLOCK);
                continue;
            }
            let length = usize::from(u16::from_le_bytes([bytes[at + 4], bytes[at + 5]]));
            let kind = bytes[at + 6];
            let checked = &bytes[at + 6..at + 7 + length];
            assert_eq!(&bytes[at..at + 4], crc32fast::hash(checked).to_le_bytes());
            assert!(at % BLOCK + 7 + length <= BLOCK);
            assert_eq!(record.is_empty(), kind == 1 || kind == 2);
            record.extend(&checked[1..]);
            if kind == 1 || kind == 4 {
                records.push(std::mem::take(&mut record));
            }
            at += 7 + length;
        }
        records
    }

    #[test]
    fn records_of_every_length_are_cut_at_the_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogFile::new(path.clone());
        let lengths = [1, 32_740, 3, 100_000, 32_761, 5, 65_522, 32_740, 8];
        let expected: Vec<Vec<u8>> = (1..).zip(lengths).map(|(i, n)| vec![i; n]).collect();
        for record in &expected {
            log.append(record);
        }
        assert!(log.file.flush().is_none());
        assert_eq!(records(&std::fs::read(&path).unwrap()), expected);
    }

    #[test]
    fn a_step_is_one_record_that_comes_when_it_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let facts = Facts {
            project: "open-clip",
            name: "a/b",
            ..Facts::default()
        };
        let mut run = Offline::create(dir.path(), &facts);
        let path = run.log.file.path().to_owned();
        assert!(path.ends_with("run-a-b.wandb"), "{}", path.display());
        let count = || records(&std::fs::read(&path).unwrap()).len();
        run.scalars(1, &[("train/loss", 0.5)]);
        run.scalars(1, &[("val/loss", f64::NAN)]);
        assert!(run.flush().is_none());
        assert_eq!(count(), 2);
        run.scalars(2, &[("train/loss", 0.25)]);
        assert!(run.flush().is_none());
        assert_eq!(count(), 4);
        assert!(run.finish().is_none());
        let found = records(&std::fs::read(&path).unwrap());
        assert_eq!(found.len(), 7);
        let text = String::from_utf8_lossy(&found[3]);
        for part in ["train/loss", "0.5", "val/loss", "\"NaN\""] {
            assert!(text.contains(part), "{text}");
        }
    }
}
