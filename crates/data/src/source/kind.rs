//! `--dataset-type`: which source reads `--train-data`.

use crate::error::DataError;
use crate::storage::mask;

/// The kinds of training data that `--dataset-type` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatasetKind {
    /// CSV or TSV with a header.
    Csv,
    /// Tar shards.
    Webdataset,
    /// Black images.
    Synthetic,
}

impl DatasetKind {
    /// What `name` (`csv`, `webdataset`, `synthetic` or `auto`) means for `data`. `auto` goes by the last extension,
    /// in any case: `csv` and `tsv`, or `tar` and `tgz`; that of a packed file stands before it, as in `a.csv.gz`. In a
    /// command the first word with such an extension counts. All parts of a list `a.csv::b.csv` are of one kind.
    ///
    /// # Errors
    /// When the name is none of these, or `auto` knows no such extension.
    pub fn parse(name: &str, data: &str) -> Result<Self, DataError> {
        match (name, Self::of(data)) {
            ("csv", _) => Ok(Self::Csv),
            ("webdataset", _) => Ok(Self::Webdataset),
            ("auto", Some(kind)) => Ok(kind),
            ("synthetic", _) => Ok(Self::Synthetic),
            ("auto", _) => Err(DataError::UnknownDataset { data: mask(data) }),
            (other, _) => Err(DataError::DatasetType {
                name: other.to_owned(),
            }),
        }
    }

    /// The kind that the extensions tell.
    fn of(data: &str) -> Option<Self> {
        let kind = |part: &str| {
            let name = part.to_ascii_lowercase();
            let packed = ["gz", "bz2", "xz", "zst"].iter();
            let mut packed =
                packed.filter_map(|suffix| name.strip_suffix(suffix)?.strip_suffix('.'));
            match packed.next().unwrap_or(&name).rsplit_once('.')?.1 {
                "csv" | "tsv" => Some(Self::Csv),
                "tar" | "tgz" => Some(Self::Webdataset),
                _ => None,
            }
        };
        let kind = |part| names_in(part).find_map(kind);
        let mut kinds = data.split("::").map(kind);
        let first = kinds.next()??;
        kinds.all(|kind| kind == Some(first)).then_some(first)
    }
}

/// What may be names of files in one part of a list: the words of a command, an address without its query, else the part itself.
fn names_in(part: &str) -> impl Iterator<Item = &str> {
    let (command, rest) = match part.strip_prefix("pipe:") {
        Some(command) => (command, None),
        None if part.contains("://") => ("", part.split(['?', '#']).next()),
        None => ("", Some(part)),
    };
    let words = command.split(|c: char| c.is_whitespace() || "'\"|;&<>()=".contains(c));
    words.filter(|word| !word.is_empty()).chain(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_goes_by_extension() {
        for (name, data, kind) in [
            ("auto", "a/b.csv", Some(DatasetKind::Csv)),
            ("auto", "b.tsv", Some(DatasetKind::Csv)),
            ("auto", "x-{00..10}.tar", Some(DatasetKind::Webdataset)),
            ("auto", "a.tar::b-{0..9}.tar", Some(DatasetKind::Webdataset)),
            ("auto", "pairs.parquet", None),
            ("auto", "", None),
            ("auto", "pairs.csv.gz", Some(DatasetKind::Csv)),
            ("auto", "A.TSV", Some(DatasetKind::Csv)),
            ("auto", "a.csv::b.tsv.gz", Some(DatasetKind::Csv)),
            ("auto", "a.csv::b.tar", None),
            ("auto", "x-{0..3}.tar.gz", Some(DatasetKind::Webdataset)),
            ("auto", "x.tgz", Some(DatasetKind::Webdataset)),
            ("auto", "csv", None),
            (
                "auto",
                "pipe:aws s3 cp s3://b/{00..10}.tar -",
                Some(DatasetKind::Webdataset),
            ),
            (
                "auto",
                "pipe:curl -s 'https://h/a.tar.gz' | gunzip",
                Some(DatasetKind::Webdataset),
            ),
            ("auto", "pipe:cat a", None),
            (
                "auto",
                "https://h/{0..3}.tar?sig=a.b/c::s3://b/a.tar",
                Some(DatasetKind::Webdataset),
            ),
            (
                "auto",
                "http://h/a.csv::pipe:cat b.tsv",
                Some(DatasetKind::Csv),
            ),
            ("auto", "a.gz", None),
            ("csv", "pairs.txt", Some(DatasetKind::Csv)),
            ("synthetic", "", Some(DatasetKind::Synthetic)),
            ("webdataset-audio", "x.tar", None),
        ] {
            assert_eq!(DatasetKind::parse(name, data).ok(), kind, "{name} {data}");
        }
    }
}
