//! Lines of JSON: `train.jsonl` has one object per step, `results.jsonl` one per evaluation.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::TrainError;

/// Bytes of a line that are looked at; a longer one is no entry.
const MOST: u64 = 1 << 20;

/// `entry` as one line. Values that JSON does not have (NaN, infinities) are written as `null`.
pub fn line<T: Serialize>(entry: &T) -> Vec<u8> {
    let mut line = serde_json::to_vec(entry).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Ends a last line that lacks only its line feed, and removes one that is torn, as a process leaves it that is killed while it
/// writes.
///
/// # Errors
/// When the file cannot be read or written.
pub fn repair(file: &mut File) -> io::Result<()> {
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
    let (bytes, start) = last_line(file, length)?;
    match serde_json::from_slice::<Value>(&bytes) {
        Ok(_) => file.write_all(b"\n"),
        Err(_) => file.set_len(start),
    }
}

/// What stands behind the last line feed, and where it begins. Of more than [`MOST`] bytes the end alone.
fn last_line(file: &mut File, length: u64) -> io::Result<(Vec<u8>, u64)> {
    let from = length.saturating_sub(MOST);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    Read::take(&mut *file, MOST).read_to_end(&mut bytes)?;
    let start = bytes.iter().rposition(|&byte| byte == b'\n');
    let start = start.map_or(0, |at| at + 1);
    Ok((bytes.split_off(start), from + start as u64))
}

/// Gives every entry to `take`, in order; none when the file is missing. Lines that are no JSON are passed over: the first of them is
/// returned with how many there are. A last line that is torn does not count.
///
/// # Errors
/// When the file cannot be read.
pub fn read(path: &Path, mut take: impl FnMut(&Value)) -> Result<Option<Damage>, TrainError> {
    let read = |source| TrainError::Read {
        path: path.to_owned(),
        source,
    };
    // A device may have no end, and a pipe none that comes.
    if !path.is_file() {
        return Ok(None);
    }
    let mut file = BufReader::new(File::open(path).map_err(read)?);
    let mut damage: Option<Damage> = None;
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let mut whole = file.by_ref().take(MOST);
        if whole.read_until(b'\n', &mut line).map_err(read)? == 0 {
            break;
        }
        if line.len() as u64 == MOST {
            file.skip_until(b'\n').map_err(read)?;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice(&line) {
            Ok(entry) => take(&entry),
            Err(_) if !line.ends_with(b"\n") && (line.len() as u64) < MOST => break,
            Err(error) => {
                let first = || Damage {
                    line: number,
                    reason: error.to_string(),
                    lines: 0,
                };
                damage.get_or_insert_with(first).lines += 1;
            }
        }
    }
    Ok(damage)
}

/// Lines that are no entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Number of the first one, from one.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
    /// How many there are.
    pub lines: u64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::report::append::AppendFile;
    use serde_json::json;

    fn append(path: &Path, entry: &Value) {
        let mut file = AppendFile::new(path.to_owned()).repaired(repair);
        assert!(file.append(&line(entry)));
        assert!(file.flush().is_none());
    }

    fn entries(path: &Path) -> (Vec<Value>, Option<Damage>) {
        let mut entries = Vec::new();
        let damage = read(path, |entry| entries.push(entry.clone())).unwrap();
        (entries, damage)
    }

    #[test]
    fn lines_come_back_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.jsonl");
        assert!(entries(&path).0.is_empty());
        append(&path, &json!({"epoch": 1, "clip_val_loss": f64::NAN}));
        append(&path, &json!({"epoch": 2, "note": "zwei\nZeilen"}));
        let expected = [
            json!({"epoch": 1, "clip_val_loss": null}),
            json!({"epoch": 2, "note": "zwei\nZeilen"}),
        ];
        assert_eq!(entries(&path), (expected.to_vec(), None));
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
    }

    #[test]
    fn a_torn_line_is_left_out_and_then_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.jsonl");
        std::fs::write(&path, "{\"a\": 1}\n{\"a\": 2, \"b\"").unwrap();
        assert_eq!(entries(&path), (vec![json!({"a": 1})], None));
        append(&path, &json!({"a": 3}));
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\"a\": 1}\n{\"a\":3}\n"
        );
        std::fs::write(&path, "{\"a\": 1}").unwrap();
        append(&path, &json!({"a": 2}));
        assert_eq!(entries(&path).0, [json!({"a": 1}), json!({"a": 2})]);
    }

    #[test]
    fn damaged_lines_are_counted_and_hide_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.jsonl");
        let junk = "x".repeat(3 << 20);
        std::fs::write(&path, format!("1\n{{\"a\"\n2\n{junk}\n\n\0\0\n3\n")).unwrap();
        let (found, damage) = entries(&path);
        let damage = damage.unwrap();
        assert_eq!(found, [json!(1), json!(2), json!(3)]);
        assert_eq!((damage.line, damage.lines), (2, 3));
        append(&path, &json!(4));
        assert_eq!(entries(&path).0.len(), 4);
    }
}
