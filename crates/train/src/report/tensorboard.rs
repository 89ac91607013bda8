//! Event files for TensorBoard: scalars only.
//!
//! An event file is a sequence of [TFRecords](https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details),
//! each a protobuf `Event` of
//! [`event.proto`](https://github.com/tensorflow/tensorboard/blob/master/tensorboard/compat/proto/event.proto).

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::append::{AppendFile, News};
use super::protobuf::Message;

/// Writes scalars to one event file `events.out.tfevents.<seconds>.<host>`.
pub struct EventWriter {
    file: AppendFile,
}

impl EventWriter {
    /// Starts a file in `dir`, both created with the first [`flush`](Self::flush). Files of earlier starts of the run stay; TensorBoard
    /// shows them as one. A run that stops and resumes within a second finds the name taken; a number behind it keeps the files in
    /// order.
    ///
    /// `resumed_at` is the first step that a resumed run computes: TensorBoard then forgets what an earlier file says
    /// about this and later steps.
    pub fn new(dir: &Path, resumed_at: Option<u64>) -> Self {
        let host = gethostname::gethostname();
        let host = host.to_string_lossy();
        let name = format!("events.out.tfevents.{}.{host}", now() as u64);
        let mut writer = Self {
            file: AppendFile::fresh(dir.to_owned(), name),
        };
        let mut version = event_of(0);
        version.bytes(event::FILE_VERSION, b"brain.Event:2");
        writer.write(&version);
        if let Some(step) = resumed_at {
            let mut session = Message::default();
            session.varint(session_log::STATUS, session_log::START);
            let mut start = event_of(step);
            start.bytes(event::SESSION_LOG, &session.0);
            writer.write(&start);
        }
        writer
    }

    /// Takes one event with the value of every tag at `step`.
    pub fn scalars<S: AsRef<str>>(&mut self, step: u64, values: &[(S, f64)]) {
        let mut summary = Message::default();
        for (tag, value) in values {
            let mut entry = Message::default();
            entry.bytes(summary_value::TAG, tag.as_ref().as_bytes());
            entry.float(summary_value::SIMPLE_VALUE, *value as f32);
            summary.bytes(summary::VALUE, &entry.0);
        }
        let mut event = event_of(step);
        event.bytes(event::SUMMARY, &summary.0);
        self.write(&event);
    }

    /// Hands everything so far to the system, so that a running TensorBoard sees it.
    pub fn flush(&mut self) -> Option<News> {
        self.file.flush()
    }

    /// The event file, or its folder before there is one.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    fn write(&mut self, event: &Message) {
        self.file.append(&record(&event.0));
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

/// Length, its checksum, the data, its checksum.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend(length);
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(data);
    record.extend(masked_crc(data).to_le_bytes());
    record
}

/// TFRecord's checksum: CRC-32C, rotated and shifted so that a checksum of data that contains checksums stays sound.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

// Field numbers of event.proto and summary.proto.
mod event {
    pub(super) const WALL_TIME: u64 = 1;
    pub(super) const STEP: u64 = 2;
    pub(super) const FILE_VERSION: u64 = 3;
    pub(super) const SUMMARY: u64 = 5;
    pub(super) const SESSION_LOG: u64 = 7;
}
mod session_log {
    pub(super) const STATUS: u64 = 1;
    pub(super) const START: u64 = 1;
}
mod summary {
    pub(super) const VALUE: u64 = 1;
}
mod summary_value {
    pub(super) const TAG: u64 = 1;
    pub(super) const SIMPLE_VALUE: u64 = 2;
}

/// An `Event` of now.
fn event_of(step: u64) -> Message {
    let mut event = Message::default();
    event.double(event::WALL_TIME, now());
    event.varint(event::STEP, step);
    event
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    /// `tensorboard.compat.tensorflow_stub.pywrap_tensorflow.masked_crc32c` of these bytes.
    #[test]
    fn checksum_as_tensorboard() {
        assert_eq!(masked_crc(b""), 0xa282_ead8);
        assert_eq!(masked_crc(b"123456789"), 0xc78a_b0e5);
    }

    #[test]
    fn every_start_has_its_own_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = EventWriter::new(&dir.path().join("tensorboard"), None);
        first.scalars(1, &[("train/loss", 2.5), ("train/lr", 1e-3)]);
        assert!(first.flush().is_none());
        let mut second = EventWriter::new(&dir.path().join("tensorboard"), Some(1));
        assert!(second.flush().is_none());
        assert!(first.path() < second.path());

        let bytes = std::fs::read(first.path()).unwrap();
        let mut records = Vec::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            assert_eq!(record(&rest[12..12 + length]), &rest[..length + 16]);
            records.push(&rest[12..12 + length]);
            rest = &rest[length + 16..];
        }
        assert_eq!(records.len(), 2);
        assert!(records[0].ends_with(b"brain.Event:2"));
        assert!(String::from_utf8_lossy(records[1]).contains("train/loss"));
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let mut none = EventWriter::new(&file, None);
        assert!(matches!(none.flush(), Some(News::Failed(_))));
    }
}
