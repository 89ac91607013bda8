//! Flickr30k and Flickr8k: `results_20130124.token` with a line `IMAGE#NUMBER<tab>CAPTION` for each caption, Kaggle's `captions.txt`,
//! which is a CSV file, or Karpathy's JSON.

use std::io::{self, BufRead};
use std::path::{Path, PathBuf};

use super::captions::Captions;
use super::coco::{self, around};
use super::csv::{Csv, CsvFormat};
use super::pairs::Pairs;
use crate::error::DataError;

/// Names of the folders in which the pictures come.
const FOLDERS: [&str; 9] = [
    "flickr30k-images",
    "flickr30k_images",
    "flickr30k_images/flickr30k_images",
    "flickr8k-images",
    "Flicker8k_Dataset",
    "Flickr8k_Dataset",
    "Images",
    "images",
    "",
];

/// The ways in which a file says what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Token,
    Csv,
    Json,
}

/// By its name; `None` for a file that is none of these.
fn form(path: &Path) -> Option<Form> {
    let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
    // Behind # is a split of Karpathy's.
    let name = name.split('#').next().unwrap_or_default();
    match name {
        "captions.txt" => Some(Form::Csv),
        _ if name.ends_with(".token") || name.ends_with(".token.txt") => Some(Form::Token),
        _ if name.starts_with("dataset_flickr") && name.ends_with(".json") => Some(Form::Json),
        _ => None,
    }
}

/// Whether a file is one of the data sets' by its name.
pub(super) fn is_one(path: &Path) -> bool {
    form(path).is_some()
}

/// The files of a folder that are.
pub(super) fn candidates(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let mut found: Vec<_> = paths
        .filter(|path| path.is_file() && is_one(path))
        .collect();
    found.sort();
    found
}

/// Opens a file, or a folder that has one.
///
/// # Errors
/// When the file cannot be read, or the pictures are not found.
pub(super) fn open(spec: &Path) -> Result<Captions, DataError> {
    let found = match spec.is_dir() {
        true => candidates(spec),
        false => vec![spec.to_owned()],
    };
    let [path] = &found[..] else {
        let names: Vec<String> = found
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let reason = match names.is_empty() {
            true => {
                "no results_20130124.token, captions.txt or dataset_flickr30k.json in it".into()
            }
            false => format!("several files of captions, name one: {}", names.join(", ")),
        };
        return Err(DataError::Table {
            path: spec.to_owned(),
            reason,
        });
    };
    let pairs = match form(path) {
        Some(Form::Json) => return coco::open(path),
        Some(Form::Csv) => {
            let separator = ",".to_owned();
            let format = CsvFormat {
                separator,
                ..CsvFormat::default()
            };
            Csv::open(path, &format)?.into_pairs()
        }
        Some(Form::Token) | None => tokens(path)?,
    };
    if pairs.len() == 0 {
        return Err(DataError::Table {
            path: path.clone(),
            reason: "no captions in it".into(),
        });
    }
    Captions::new(path, pairs, &around(path, &FOLDERS))
}

fn tokens(path: &Path) -> Result<Pairs, DataError> {
    let io = |source| DataError::Io {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(io)?;
    let mut pairs = Pairs::default();
    for (at, line) in io::BufReader::new(file).split(b'\n').enumerate() {
        let line = line.map_err(io)?;
        let wrong = |reason: &str| DataError::Table {
            path: path.to_owned(),
            reason: format!("line {}: {reason}", at + 1),
        };
        let line = String::from_utf8(line).map_err(|_| wrong("not UTF-8"))?;
        let line = line.trim_end_matches('\r');
        if line.is_empty() {
            continue;
        }
        let expected = "expected IMAGE#NUMBER, a tab and a caption";
        let (image, caption) = line.split_once('\t').ok_or_else(|| wrong(expected))?;
        let (image, _) = image.rsplit_once('#').ok_or_else(|| wrong(expected))?;
        pairs.push(image, caption.trim());
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::super::testing::Collect;
    use super::super::{ImageData, Order};
    use super::*;

    fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    fn pairs(spec: &Path) -> Vec<(String, String, PathBuf)> {
        let table = open(spec).unwrap();
        let all = Collect::pass(&table, &Order::sequential(), 0).unwrap();
        let row = |sample: &super::super::Sample| {
            let ImageData::Path(path) = &sample.image else {
                panic!("{sample:?}");
            };
            let caption = sample.caption.clone().unwrap_or_default();
            (sample.name.clone(), caption, path.clone())
        };
        all.samples().map(row).collect()
    }

    #[test]
    fn a_line_for_each_caption() {
        let dir = tempfile::tempdir().unwrap();
        let token = "1.jpg#0\tTwo dogs , running .\r\n1.jpg#1\tDogs\n\na#b.jpg#0\t\"quoted\n";
        let path = write(dir.path(), "results_20130124.token", token);
        let picture = write(dir.path(), "flickr30k-images/1.jpg", "x");
        let found = pairs(&path);
        assert_eq!(
            found[0],
            (
                "1.jpg".into(),
                "Two dogs , running .".into(),
                picture.clone()
            )
        );
        let names: Vec<_> = found
            .iter()
            .map(|(name, caption, _)| (&**name, &**caption))
            .collect();
        assert_eq!(names[1..], [("1.jpg", "Dogs"), ("a#b.jpg", "\"quoted")]);
        assert_eq!(
            pairs(dir.path()),
            found,
            "the folder has but one file of captions"
        );
        for (text, line) in [("1.jpg#0\ta\n1.jpg b\n", 2), ("1.jpg\ta\n", 1), ("", 0)] {
            std::fs::write(&path, text).unwrap();
            let error = open(&path).unwrap_err().to_string();
            let words = match line {
                0 => "no captions in it".to_owned(),
                line => format!("line {line}: expected IMAGE#NUMBER"),
            };
            assert!(error.contains(&words), "{error}");
        }
    }

    #[test]
    fn kaggle_has_a_csv_file() {
        let dir = tempfile::tempdir().unwrap();
        let text = "image,caption\n1.jpg,A child .\n1.jpg,\"A girl , in pink\"\n";
        write(dir.path(), "captions.txt", text);
        let picture = write(dir.path(), "Images/1.jpg", "x");
        let found = pairs(dir.path());
        assert_eq!(
            found[1],
            ("1.jpg".into(), "A girl , in pink".into(), picture)
        );
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn places_that_were_looked_at_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), "x/results.token", "none.jpg#0\ta\n");
        let error = open(&path).unwrap_err().to_string();
        for part in ["none.jpg", "x/flickr30k-images", "results.token"] {
            assert!(error.contains(part), "{error}");
        }
        write(dir.path(), "x/captions.txt", "image,caption\n");
        let error = open(&dir.path().join("x")).unwrap_err().to_string();
        assert!(error.contains("name one"), "{error}");
    }
}
