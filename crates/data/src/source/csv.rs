//! Pairs of image path and caption in a CSV or TSV file with a header.

use std::path::{Path, PathBuf};

use super::table::Table;
use super::{ImageData, Item, Sample};
use crate::error::DataError;

/// Where the columns are; the defaults are OpenCLIP's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvFormat {
    /// `--csv-separator`: one character, or `\t` written out.
    pub separator: String,
    /// `--csv-img-key`: the column of image paths, which are relative to the current directory.
    pub image_column: String,
    /// `--csv-caption-key`: the column of captions; `None` reads images only.
    pub caption_column: Option<String>,
}

impl Default for CsvFormat {
    fn default() -> Self {
        Self {
            separator: "\t".into(),
            image_column: "filepath".into(),
            caption_column: Some("title".into()),
        }
    }
}

/// The rows of a CSV file.
///
/// Captions are the text as it stands in the file, and an empty one counts as missing. (OpenCLIP trains on the word
/// `nan` for it, and rewrites numbers: `007` becomes `7`.)
#[derive(Clone, Debug)]
pub struct Csv {
    path: PathBuf,
    /// Image path and caption of every row, end to end: two strings per row would cost twice the memory.
    text: String,
    /// Where each image path and each caption ends in `text`.
    ends: Vec<(usize, usize)>,
}

impl Csv {
    /// Reads the whole file.
    ///
    /// # Errors
    /// When the file cannot be read, lacks a column, has a row with more fields than the header, or is not UTF-8.
    pub fn open(path: &Path, format: &CsvFormat) -> Result<Self, DataError> {
        let mut reader = ::csv::ReaderBuilder::new()
            .delimiter(separator(&format.separator)?)
            .flexible(true)
            .from_path(path)
            .map_err(|error| malformed(path, error))?;
        let header = reader
            .headers()
            .map_err(|error| malformed(path, error))?
            .clone();
        let column = |name: &str| {
            header
                .iter()
                .position(|column| column == name)
                .ok_or_else(|| DataError::MissingColumn {
                    path: path.to_owned(),
                    column: name.to_owned(),
                    columns: header.iter().map(str::to_owned).collect(),
                })
        };
        let image = column(&format.image_column)?;
        let caption = format.caption_column.as_deref().map(column).transpose()?;

        let mut table = Self {
            path: path.to_owned(),
            text: String::new(),
            ends: Vec::new(),
        };
        let mut row = ::csv::StringRecord::new();
        while reader
            .read_record(&mut row)
            .map_err(|error| malformed(path, error))?
        {
            if row.len() > header.len() {
                let line = row.position().map_or(0, ::csv::Position::line);
                let reason = format!(
                    "line {line} has {} fields, the header {}",
                    row.len(),
                    header.len()
                );
                return Err(DataError::Csv {
                    path: path.to_owned(),
                    reason,
                });
            }
            table.text.push_str(row.get(image).unwrap_or_default());
            let end_of_path = table.text.len();
            table.text.push_str(
                caption
                    .and_then(|caption| row.get(caption))
                    .unwrap_or_default(),
            );
            table.ends.push((end_of_path, table.text.len()));
        }
        Ok(table)
    }
}

fn separator(text: &str) -> Result<u8, DataError> {
    match text.as_bytes() {
        [byte] if byte.is_ascii() => Ok(*byte),
        br"\t" => Ok(b'\t'),
        _ => Err(DataError::CsvSeparator {
            separator: text.to_owned(),
        }),
    }
}

fn malformed(path: &Path, error: ::csv::Error) -> DataError {
    let text = error.to_string();
    match error.into_kind() {
        ::csv::ErrorKind::Io(source) => DataError::Io {
            path: path.to_owned(),
            source,
        },
        _ => DataError::Csv {
            path: path.to_owned(),
            reason: text,
        },
    }
}

impl Table for Csv {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn item(&self, index: usize) -> Item {
        let start = if index == 0 {
            0
        } else {
            self.ends[index - 1].1
        };
        let (end_of_path, end) = self.ends[index];
        let name = self.text[start..end_of_path].to_owned();
        let caption = &self.text[end_of_path..end];
        Item::Sample(Sample {
            image: ImageData::Path(PathBuf::from(&name)),
            name,
            caption: (!caption.is_empty()).then(|| caption.to_owned()),
            label: None,
            shard: None,
        })
    }

    fn describe(&self) -> String {
        format!("{} rows of {}", self.ends.len(), self.path.display())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::super::Order;
    use super::super::testing::Collect;
    use super::*;

    fn open(text: &[u8], format: &CsvFormat) -> Result<Vec<(String, Option<String>)>, DataError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pairs.csv");
        std::fs::write(&path, text).unwrap();
        let all = Collect::pass(&Csv::open(&path, format)?, &Order::sequential(), 0)?;
        Ok(all
            .samples()
            .map(|sample| (sample.name.clone(), sample.caption.clone()))
            .collect())
    }

    fn pair(path: &str, caption: &str) -> (String, Option<String>) {
        (path.into(), (!caption.is_empty()).then(|| caption.into()))
    }

    #[test]
    fn defaults_are_tab_filepath_title() {
        let text = b"\xef\xbb\xbffilepath\tid\ttitle\r\na.jpg\t1\ta \"\"quote\r\n\"b\tc.jpg\"\t2\t\"two\nlines\"\r\n";
        let rows = open(text, &CsvFormat::default()).unwrap();
        assert_eq!(
            rows,
            [pair("a.jpg", "a \"\"quote"), pair("b\tc.jpg", "two\nlines")]
        );
    }

    #[test]
    fn own_columns_and_missing_captions() {
        let format = CsvFormat {
            separator: ",".into(),
            image_column: "image".into(),
            caption_column: Some("text".into()),
        };
        let rows = open(
            "text,image\nnone,a.png\n,b.png\n\"\",c.png\nü,d.png\n".as_bytes(),
            &format,
        )
        .unwrap();
        assert_eq!(
            rows,
            [
                pair("a.png", "none"),
                pair("b.png", ""),
                pair("c.png", ""),
                pair("d.png", "ü")
            ]
        );
        // A row that ends before the caption column.
        let format = CsvFormat {
            separator: r"\t".into(),
            ..CsvFormat::default()
        };
        assert_eq!(
            open(b"filepath\ttitle\na.png\nb.png\tx\n", &format).unwrap(),
            [pair("a.png", ""), pair("b.png", "x")]
        );
    }

    #[test]
    fn a_missing_column_is_named_beside_those_that_exist() {
        let error = open(
            b"image,caption\na,b\n",
            &CsvFormat {
                separator: ",".into(),
                ..CsvFormat::default()
            },
        );
        let error = error.unwrap_err().to_string();
        for part in ["pairs.csv", "filepath", "image", "caption"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn malformed_files_are_errors_that_name_the_line() {
        let error = open(b"filepath\ttitle\na\tb\nc\td\te\n", &CsvFormat::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains("line 3"), "{error}");
        let error = open(b"filepath\ttitle\na\t\xff\n", &CsvFormat::default())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("pairs.csv") && error.contains("UTF-8"),
            "{error}"
        );
        assert!(
            open(
                b"filepath\ttitle\n",
                &CsvFormat {
                    separator: "ab".into(),
                    ..CsvFormat::default()
                }
            )
            .is_err()
        );
        let error = Csv::open(Path::new("/absent/pairs.csv"), &CsvFormat::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains("/absent/pairs.csv"), "{error}");
    }
}
