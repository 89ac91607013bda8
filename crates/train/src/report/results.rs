//! `results.jsonl`: one JSON object per evaluation, one per line.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::TrainError;

/// Appends `entry` as one line and forces it to disk. The file is created when missing.
///
/// A process that is killed while it writes leaves a torn last line; the next call removes it. Values that JSON does
/// not have (NaN, infinities) are written as `null`.
///
/// # Errors
/// When the file cannot be written or `entry` is no JSON value.
pub fn append<T: Serialize>(path: &Path, entry: &T) -> Result<(), TrainError> {
    append_all(path, std::slice::from_ref(entry))
}

/// Appends one line for each of `entries`; see [`append`].
///
/// # Errors
/// When the file cannot be written or an entry is no JSON value.
pub fn append_all<T: Serialize>(path: &Path, entries: &[T]) -> Result<(), TrainError> {
    let write = |source| TrainError::Write {
        path: path.to_owned(),
        source,
    };
    let mut lines = Vec::new();
    for entry in entries {
        serde_json::to_writer(&mut lines, entry).map_err(|error| write(error.into()))?;
        lines.push(b'\n');
    }
    append_lines(path, &lines).map_err(write)
}

fn append_lines(path: &Path, lines: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)?;
    repair(&mut file)?;
    file.write_all(lines)?;
    file.sync_data()
}

/// Ends a last line that lacks only its line feed, and removes one that is torn.
fn repair(file: &mut File) -> std::io::Result<()> {
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(());
    }
    file.seek(SeekFrom::Start(length - 1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    if last == *b"\n" {
        return Ok(());
    }
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    let start = bytes
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |at| at + 1);
    match serde_json::from_slice::<Value>(&bytes[start..]) {
        Ok(_) => file.write_all(b"\n"),
        Err(_) => file.set_len(start as u64),
    }
}

/// Every entry, in order; none when the file is missing. A torn last line is left out.
///
/// # Errors
/// When the file cannot be read or another line is not JSON.
pub fn read(path: &Path) -> Result<Vec<Value>, TrainError> {
    let read = |source| TrainError::Read {
        path: path.to_owned(),
        source,
    };
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(read(error)),
    };
    let mut entries = Vec::new();
    for (at, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice(line) {
            Ok(entry) => entries.push(entry),
            Err(_) if !line.ends_with(b"\n") => break,
            Err(error) => {
                let problem = format!("line {} is not JSON: {error}", at + 1);
                return Err(read(std::io::Error::new(
                    std::io::ErrorKind::InvalidData,
                    problem,
                )));
            }
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use serde_json::json;

    #[test]
    fn lines_come_back_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.jsonl");
        assert!(read(&path).unwrap().is_empty());
        append(&path, &json!({"epoch": 1, "clip_val_loss": f64::NAN})).unwrap();
        append(&path, &json!({"epoch": 2, "note": "zwei\nZeilen"})).unwrap();
        let entries = read(&path).unwrap();
        assert_eq!(
            entries,
            [
                json!({"epoch": 1, "clip_val_loss": null}),
                json!({"epoch": 2, "note": "zwei\nZeilen"})
            ]
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
    }

    #[test]
    fn a_torn_line_is_left_out_and_then_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.jsonl");
        std::fs::write(&path, "{\"a\": 1}\n{\"a\": 2, \"b\"").unwrap();
        assert_eq!(read(&path).unwrap(), [json!({"a": 1})]);
        append(&path, &json!({"a": 3})).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\"a\": 1}\n{\"a\":3}\n"
        );
        std::fs::write(&path, "{\"a\": 1}").unwrap();
        append(&path, &json!({"a": 2})).unwrap();
        assert_eq!(read(&path).unwrap(), [json!({"a": 1}), json!({"a": 2})]);
    }

    #[test]
    fn a_bad_line_in_the_middle_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.jsonl");
        std::fs::write(&path, "{\"a\": 1}\n{\"a\"\n{}\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("line 2"));
        assert!(append(&dir.path().join("missing/results.jsonl"), &1).is_err());
    }
}
