//! Which files a name stands for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::shards::{Shards, names, parts};
use crate::error::DataError;
use crate::storage::Place;

/// Beginnings of the names that Hugging Face's data sets have, by split.
const SPLITS: [&str; 6] = ["train", "validation", "valid", "val", "dev", "test"];

/// The files of `spec`, which may be a list `A::B`: one file, `@FILE`, braces as for shards, a pattern with `*` and `?`, or a folder, of which all files with one of
/// `extensions` are meant. They are in the order of the braces, and below that of their names.
///
/// # Errors
/// When there is none, or a folder has several splits.
pub(super) fn files(spec: &str, extensions: &[&str]) -> Result<Vec<Place>, DataError> {
    let mut files = Vec::new();
    let names = parts(spec).into_iter().map(names);
    for name in names.collect::<Result<Vec<_>, _>>()?.concat() {
        let path = match Place::parse(&name)? {
            Place::File(path) => path,
            elsewhere => {
                files.push(elsewhere);
                continue;
            }
        };
        let is_pattern = name.contains(['*', '?', '[']) && !path.exists();
        if path.is_dir() {
            files.extend(in_folder(&path, extensions)?.into_iter().map(Place::File));
        } else if is_pattern {
            let found = glob::glob(&path.to_string_lossy());
            let found = found.map_err(|error| DataError::Table {
                path,
                reason: error.to_string(),
            })?;
            let found: Vec<PathBuf> = found.flatten().filter(|path| path.is_file()).collect();
            if found.is_empty() {
                return Err(DataError::NoShards { pattern: name });
            }
            files.extend(found.into_iter().map(Place::File));
        } else {
            files.push(Place::File(path));
        }
    }
    Ok(files)
}

/// Archives, with the weights that `factors` give each part of the list. A part may be a folder, or a pattern.
///
/// # Errors
/// As [`files`], and when factors do not match the parts.
pub(super) fn shards(spec: &str, factors: Option<&str>) -> Result<Shards, DataError> {
    Shards::of_parts(spec, factors, |part| files(part, &["tar"]))
}

/// The files in a folder; where it has none, those in `data`, where Hugging Face's repositories have them.
fn in_folder(dir: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, DataError> {
    let is_one = |path: &PathBuf| {
        let extension = path.extension().unwrap_or_default();
        extensions
            .iter()
            .any(|known| extension.eq_ignore_ascii_case(known))
            && path.is_file()
    };
    let list = |dir: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_one).collect();
        found.sort();
        found
    };
    let mut found = list(dir);
    if found.is_empty() {
        found = list(&dir.join("data"));
    }
    let fail = |reason: String| DataError::Table {
        path: dir.to_owned(),
        reason,
    };
    if found.is_empty() {
        return Err(fail(format!(
            "no file ending in .{} in it",
            extensions.join(", .")
        )));
    }
    let mut splits: BTreeMap<&str, usize> = BTreeMap::new();
    for split in found.iter().filter_map(|path| split_of(path)) {
        *splits.entry(split).or_default() += 1;
    }
    if splits.len() > 1 {
        let has = splits
            .iter()
            .map(|(split, count)| format!("{split} ({count} files)"));
        let has: Vec<String> = has.collect();
        let first = &found[0];
        let folder = first.parent().unwrap_or(dir);
        // The kind of data is told by the extension.
        let extension = first.extension().unwrap_or_default().to_string_lossy();
        return Err(fail(format!(
            "it has the splits {}; name one, as in '{}'",
            has.join(", "),
            folder.join(format!("train-*.{extension}")).display()
        )));
    }
    Ok(found)
}

/// The split at the beginning of a file's name, as in `train-00000-of-00004.parquet`.
fn split_of(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_str()?;
    SPLITS.into_iter().find(|split| {
        let rest = name.strip_prefix(split);
        rest.is_some_and(|rest| rest.starts_with(['-', '.', '_']))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_name_stands_for_files() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().display();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        for name in ["train-1-of-2", "train-0-of-2", "test-0-of-1"] {
            std::fs::write(dir.path().join(format!("data/{name}.parquet")), b"x").unwrap();
        }
        std::fs::write(dir.path().join("b[1].parquet"), b"x").unwrap();
        let found = |spec: String| -> Result<Vec<String>, DataError> {
            let found = files(&spec, &["parquet"])?;
            Ok(found.iter().map(Place::file_name).collect())
        };
        let trains = ["train-0-of-2.parquet", "train-1-of-2.parquet"];
        assert_eq!(found(format!("{root}/data/train-*")).unwrap(), trains);
        let braces = format!("{root}/data/train-{{1..0}}-of-2.parquet");
        assert_eq!(found(braces).unwrap(), [trains[1], trains[0]]);
        // The folder's own files go before those in `data`.
        assert_eq!(found(format!("{root}")).unwrap(), ["b[1].parquet"]);
        assert_eq!(
            found(format!("{root}/b[1].parquet")).unwrap(),
            ["b[1].parquet"]
        );
        let error = found(format!("{root}/data")).unwrap_err().to_string();
        assert!(error.contains("test (1 files), train (2 files)"), "{error}");
        assert!(error.contains("data/train-*.parquet'"), "{error}");
        std::fs::remove_file(dir.path().join("data/test-0-of-1.parquet")).unwrap();
        assert_eq!(found(format!("{root}/data")).unwrap(), trains);
        std::fs::remove_file(dir.path().join("b[1].parquet")).unwrap();
        assert_eq!(found(format!("{root}")).unwrap(), trains);
        assert!(found(format!("{root}/data/val-*.parquet")).is_err());
        let empty = tempfile::tempdir().unwrap();
        let error = found(empty.path().display().to_string()).unwrap_err();
        assert!(
            error.to_string().contains("no file ending in .parquet"),
            "{error}"
        );
        // A file that is named is said to be missing by who opens it.
        assert_eq!(
            found(format!("{root}/none.parquet")).unwrap(),
            ["none.parquet"]
        );
    }
}
