//! Pairs of image path and caption in a CSV or TSV file with a header.

mod rows;
mod text;

use std::io;
use std::path::{Path, PathBuf};

use self::rows::{Row, Rows, fault};
use super::table::Table;
use super::{ImageData, Item, Sample};
use crate::error::DataError;
use crate::storage::Place;

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

/// The rows of a CSV file, or of several.
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
    /// Reads the whole of a file, plain or packed with gzip, zstd, bzip2 or xz, in UTF-8 or in UTF-16 with a byte order mark. `a.csv::b.csv` is the
    /// rows of both, each with a header of its own.
    ///
    /// # Errors
    /// When a file cannot be read, lacks a column, has a row with more fields than the header, an open quote, or
    /// another encoding.
    pub fn open(path: &Path, format: &CsvFormat) -> Result<Self, DataError> {
        let mut table = Self {
            path: path.to_owned(),
            text: String::new(),
            ends: Vec::new(),
        };
        match path.to_str().filter(|_| !path.exists()) {
            Some(list) => list
                .split("::")
                .try_for_each(|part| table.read(Path::new(part), format))?,
            None => table.read(path, format)?,
        }
        Ok(table)
    }

    /// Adds the rows of one file.
    fn read(&mut self, path: &Path, format: &CsvFormat) -> Result<(), DataError> {
        let malformed = |error| malformed(path, error);
        let separator = separator(&format.separator)?;
        let mut rows = Rows::new(
            text::open(&Place::File(path.to_owned())).map_err(malformed)?,
            separator,
        );
        let mut row = Row::default();
        rows.read(&mut row).map_err(malformed)?;
        let header = (0..row.len()).map(|column| row.field(column).map(str::to_owned));
        let header: Vec<String> = header.collect::<io::Result<_>>().map_err(malformed)?;
        let column = |name: &str| {
            header
                .iter()
                .position(|column| column == name)
                .ok_or_else(|| DataError::MissingColumn {
                    path: path.to_owned(),
                    column: name.to_owned(),
                    columns: header.clone(),
                })
        };
        let columns = Columns {
            separator: char::from(separator),
            count: header.len(),
            image: column(&format.image_column)?,
            caption: format.caption_column.as_deref().map(column).transpose()?,
        };
        while rows.read(&mut row).map_err(malformed)? {
            self.add(&row, &columns).map_err(malformed)?;
        }
        Ok(())
    }

    fn add(&mut self, row: &Row, columns: &Columns) -> io::Result<()> {
        let (found, expected) = (row.len(), columns.count);
        if found > expected {
            let reason = format!("{found} fields, and {expected} in the header");
            return Err(fault(row.line(), &reason));
        }
        for column in 0..found {
            row.field(column)?;
        }
        for &(field, line) in row.quotes() {
            columns.check_quoted(row.field(field)?, line)?;
        }
        self.text.push_str(row.field(columns.image)?);
        let end_of_path = self.text.len();
        if let Some(caption) = columns.caption {
            self.text.push_str(row.field(caption)?);
        }
        self.ends.push((end_of_path, self.text.len()));
        Ok(())
    }
}

/// What the header says.
struct Columns {
    separator: char,
    count: usize,
    image: usize,
    caption: Option<usize>,
}

impl Columns {
    /// Whether a quoted field has rows in it: lines with as many fields as the header, one of them the path of a file.
    /// A quote too many, closed by the next one in the file, takes in what stands between.
    fn check_quoted(&self, field: &str, line: u64) -> io::Result<()> {
        let is_row = |text: &str| {
            let mut fields = text.split(self.separator);
            let image = fields.clone().nth(self.image);
            fields.by_ref().count() == self.count
                && image.is_some_and(|path| Path::new(path).is_file())
        };
        let rows = field.lines().skip(1).filter(|text| is_row(text)).count();
        if rows == 0 {
            return Ok(());
        }
        let reason = format!(
            "the quote that opens here takes in other rows ({rows} of them); it is closed too late, or has to be doubled"
        );
        Err(fault(line, &reason))
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

fn malformed(path: &Path, error: io::Error) -> DataError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::InvalidData => DataError::Csv {
            path,
            reason: error.to_string(),
        },
        _ => DataError::Io {
            path,
            source: error,
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
    use super::super::testing::{Collect, gzip};
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

    #[test]
    fn packed_and_wide_text_is_read_by_its_first_bytes() {
        let table = "\"filepath\"\ttitle\na.jpg\tü 😀\nb.jpg\tz\n";
        let wide = |order: fn(u16) -> [u8; 2]| -> Vec<u8> {
            let units = std::iter::once(0xfeff).chain(table.encode_utf16());
            units.flat_map(order).collect()
        };
        let (start, end) = table.split_at(30);
        let expected = [pair("a.jpg", "ü 😀"), pair("b.jpg", "z")];
        for (name, text) in [
            ("plain", table.as_bytes().to_vec()),
            ("marked", [b"\xef\xbb\xbf", table.as_bytes()].concat()),
            ("gzip", gzip(table.as_bytes())),
            (
                "two members",
                [gzip(start.as_bytes()), gzip(end.as_bytes())].concat(),
            ),
            ("little end", wide(u16::to_le_bytes)),
            ("big end", wide(u16::to_be_bytes)),
            ("wide gzip", gzip(&wide(u16::to_le_bytes))),
            ("old lines", table.replace('\n', "\r").into_bytes()),
        ] {
            assert_eq!(
                open(&text, &CsvFormat::default()).unwrap(),
                expected,
                "{name}"
            );
        }
        let table = format!("filepath\ttitle\na.jpg\t{}\n", "x😀".repeat(40_000));
        let units = std::iter::once(0xfeff).chain(table.encode_utf16());
        let text: Vec<u8> = units.flat_map(u16::to_le_bytes).collect();
        let rows = open(&text, &CsvFormat::default()).unwrap();
        assert_eq!(rows[0].1.as_ref().unwrap().len(), 200_000);
    }

    #[test]
    fn other_encodings_are_named() {
        let packed = gzip(b"filepath\ttitle\na\tb\n");
        let utf32: Vec<u8> = "\u{feff}file"
            .chars()
            .flat_map(|c| u32::from(c).to_le_bytes())
            .collect();
        for (text, words) in [
            (&packed[..packed.len() - 6], "gzip"),
            (b"BZh91AY&SY", "bzip2 data"),
            (b"\xfd7zXZ\0\0", "xz data"),
            (b"\x28\xb5\x2f\xfd\0", "zstd data"),
            (b"PK\x03\x04", "zip"),
            (&utf32, "UTF-32"),
            (b"f\0i\0l\0e\0", "byte order mark"),
            (b"\xff\xfef\0i", "UTF-16"),
            (b"\xff\xfe\0\xd8x\0", "UTF-16"),
            (
                b"filepath\ttitle\na\tb\nc\td\xe9\n",
                "line 3: field 2 is not UTF-8",
            ),
        ] {
            let error = open(text, &CsvFormat::default()).unwrap_err().to_string();
            assert!(
                error.contains("pairs.csv") && error.contains(words),
                "{error}"
            );
        }
    }

    #[test]
    fn an_open_quote_is_named_by_its_line() {
        for (text, line) in [
            ("filepath\ttitle\n\na\t\"b\nc\td\n", 3),
            ("filepath\ttitle\ra\tb\rc\t\"d\r", 3),
            ("filepath\ttitle\n\"a\n\n\"\t\"b\nc\td\n", 4),
            ("\"filepath\ttitle\na\tb\n", 1),
            ("filepath\ttitle\na\t\"", 2),
        ] {
            let error = open(text.as_bytes(), &CsvFormat::default())
                .unwrap_err()
                .to_string();
            let expected = format!("line {line}: the quote that opens here is never closed");
            assert!(error.contains(&expected), "{text:?}: {error}");
        }
        // An endless row costs no memory.
        let mut text = b"filepath\ttitle\na\t\"".to_vec();
        text.resize(20 << 20, b'x');
        let error = open(&text, &CsvFormat::default()).unwrap_err().to_string();
        assert!(error.contains("line 2: the quote"), "{error}");
    }

    #[test]
    fn a_quote_that_takes_in_rows_is_told_from_a_caption_of_many_lines() {
        let dir = tempfile::tempdir().unwrap();
        let picture = dir.path().join("b.jpg");
        std::fs::write(&picture, b"x").unwrap();
        let row = format!("{}\tb", picture.display());
        let text = |inner: &str| format!("filepath\ttitle\na\t\"one\n{inner}\ntwo\"\nc\td\n");
        let error = open(text(&row).as_bytes(), &CsvFormat::default())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("line 2: the quote") && error.contains("1 of them"),
            "{error}"
        );
        for inner in ["b.jpg\tb", "", "\t\t", &picture.to_string_lossy()] {
            let rows = open(text(inner).as_bytes(), &CsvFormat::default()).unwrap();
            assert_eq!(rows[0], pair("a", &format!("one\n{inner}\ntwo")));
        }
    }

    #[test]
    fn a_list_of_tables_is_one_set() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("a.csv"), "filepath\ttitle\na\t1\n").unwrap();
        std::fs::write(path("b.csv"), "title\tx\tfilepath\n2\t\tb\n").unwrap();
        let list = format!("{}::{}", path("a.csv").display(), path("b.csv").display());
        let table = Csv::open(Path::new(&list), &CsvFormat::default()).unwrap();
        let all = Collect::pass(&table, &Order::sequential(), 0).unwrap();
        assert_eq!(all.names(), ["a", "b"]);
        let list = format!(
            "{}::{}",
            path("a.csv").display(),
            path("none.csv").display()
        );
        let error = Csv::open(Path::new(&list), &CsvFormat::default())
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with(&*path("none.csv").to_string_lossy()),
            "{error}"
        );
    }
}
