//! Pairs of image path or address and caption in a CSV or TSV file with a header.

mod others;
mod rows;
mod text;

use std::io;
use std::path::{Path, PathBuf};

use self::others::Others;
use self::rows::{Row, Rows, fault};
use super::beside::Beside;
use super::columns::{Columns, OF_CSV};
use super::listing;
use super::pairs::Pairs;
use super::table::Table;
use super::{Item, Sample};
use crate::error::DataError;
use crate::storage::{Place, mask};

/// Of the files in a folder.
const EXTENSIONS: [&str; 2] = ["csv", "tsv"];

/// Where the columns are; the defaults are OpenCLIP's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvFormat {
    /// `--csv-separator`: one character, or `\t` written out.
    pub separator: String,
    /// The columns of image paths, which start in the current directory or beside the file, and of captions.
    pub columns: Columns,
}

impl Default for CsvFormat {
    fn default() -> Self {
        Self {
            separator: "\t".into(),
            columns: Columns::default(),
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
    rows: Pairs,
    files: Vec<File>,
    is_captioned: bool,
}

/// The rows of one of the files.
#[derive(Clone, Debug)]
struct File {
    /// Where they begin.
    first: usize,
    /// Where its pictures are.
    pictures: Beside,
    /// Its other columns, where they go along.
    others: Others,
}

impl Csv {
    /// Reads the whole of a file, plain or packed with gzip, zstd, bzip2 or xz, in UTF-8 or in UTF-16 with a byte order mark. `a.csv::b.csv` is the
    /// rows of both, each with a header of its own; braces, `*` and `@FILE` stand for several as well.
    ///
    /// # Errors
    /// When a file cannot be read, lacks a column, has a row with more fields than the header, an open quote, or
    /// another encoding.
    pub fn open(path: &Path, format: &CsvFormat) -> Result<Self, DataError> {
        let mut table = Self {
            path: path.to_owned(),
            rows: Pairs::default(),
            files: Vec::new(),
            is_captioned: false,
        };
        let places = match path.to_str().filter(|_| !path.exists()) {
            Some(list) => listing::files(list, &EXTENSIONS)?,
            None => vec![Place::File(path.to_owned())],
        };
        for place in &places {
            table.read(place, format)?;
        }
        Ok(table)
    }

    /// Whether there is a column of captions.
    pub fn is_captioned(&self) -> bool {
        self.is_captioned
    }

    /// The rows alone.
    pub(super) fn into_pairs(self) -> Pairs {
        self.rows
    }

    /// Adds the rows of one file.
    fn read(&mut self, place: &Place, format: &CsvFormat) -> Result<(), DataError> {
        let malformed = |error| malformed(place, error);
        let separator = separator(&format.separator)?;
        let mut rows = Rows::new(text::open(place).map_err(malformed)?, separator);
        let mut row = Row::default();
        rows.read(&mut row).map_err(malformed)?;
        let header = (0..row.len()).map(|column| row.field(column).map(str::to_owned));
        let header: Vec<String> = header.collect::<io::Result<_>>().map_err(malformed)?;
        let names: Vec<&str> = header.iter().map(String::as_str).collect();
        let found = format.columns.find(&names, &OF_CSV);
        let found = found.map_err(|column| DataError::MissingColumn {
            path: place.to_string().into(),
            column,
            columns: header.clone(),
        })?;
        let at = |name: &String| header.iter().position(|column| column == name);
        let header = Header {
            path: place.as_file().unwrap_or(Path::new("")),
            separator: char::from(separator),
            count: header.len(),
            image: at(&found.image).unwrap_or_default(),
            caption: found.caption.as_ref().and_then(at),
        };
        self.is_captioned |= header.caption.is_some();
        let first = self.rows.len();
        let mut others = Others::default();
        if format.columns.carried {
            let used = [Some(header.image), header.caption];
            others = Others::new(&names, |column| used.contains(&Some(column)));
        }
        while rows.read(&mut row).map_err(malformed)? {
            self.add(&row, &header).map_err(malformed)?;
            others.add(&row).map_err(malformed)?;
        }
        let pictures = Beside::learn(place, self.rows.names(first));
        self.files.push(File {
            first,
            pictures,
            others,
        });
        Ok(())
    }

    fn add(&mut self, row: &Row, header: &Header<'_>) -> io::Result<()> {
        let (found, expected) = (row.len(), header.count);
        if found > expected {
            let reason = format!("{found} fields, and {expected} in the header");
            return Err(fault(row.line(), &reason));
        }
        for column in 0..found {
            row.field(column)?;
        }
        for &(field, line) in row.quotes() {
            header.check_quoted(row.field(field)?, line)?;
        }
        let caption = header.caption.map_or(Ok(""), |column| row.field(column))?;
        self.rows.push(row.field(header.image)?, caption);
        Ok(())
    }
}

/// What the header says.
struct Header<'a> {
    path: &'a Path,
    separator: char,
    count: usize,
    image: usize,
    caption: Option<usize>,
}

impl Header<'_> {
    /// Whether a quoted field has rows in it: lines with as many fields as the header, one of them the path of a file.
    /// A quote too many, closed by the next one in the file, takes in what stands between.
    fn check_quoted(&self, field: &str, line: u64) -> io::Result<()> {
        let is_file =
            |name: &str| Path::new(name).is_file() || self.path.with_file_name(name).is_file();
        let is_row = |text: &str| {
            let mut fields = text.split(self.separator);
            let image = fields.clone().nth(self.image);
            fields.by_ref().count() == self.count && image.is_some_and(is_file)
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

fn malformed(place: &Place, error: io::Error) -> DataError {
    let path = place.to_string().into();
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
        self.rows.len()
    }

    fn item(&self, index: usize) -> Item {
        let (name, caption) = self.rows.get(index);
        let file = self.files.partition_point(|file| file.first <= index);
        let File {
            first,
            pictures,
            others,
        } = &self.files[file - 1];
        Item::Sample(Sample {
            image: pictures.find(name),
            name: name.to_owned(),
            caption: (!caption.is_empty()).then(|| caption.to_owned()),
            label: None,
            fields: others.of(index - first),
            shard: None,
        })
    }

    fn describe(&self) -> String {
        let path = mask(&self.path.to_string_lossy());
        format!("{} rows of {path}", self.rows.len())
    }
}

#[cfg(test)]
mod tests;
