//! `--dataset-type`: which source reads `--train-data`.

use crate::error::DataError;

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
    /// What `name` (`csv`, `webdataset`, `synthetic` or `auto`) means for `data`. `auto` goes by the last extension:
    /// `csv` and `tsv`, or `tar`.
    ///
    /// # Errors
    /// When the name is none of these, or `auto` knows no such extension.
    pub fn parse(name: &str, data: &str) -> Result<Self, DataError> {
        let extension = data.rsplit('.').next().unwrap_or_default();
        match (name, extension) {
            ("csv", _) | ("auto", "csv" | "tsv") => Ok(Self::Csv),
            ("webdataset", _) | ("auto", "tar") => Ok(Self::Webdataset),
            ("synthetic", _) => Ok(Self::Synthetic),
            ("auto", _) => Err(DataError::UnknownDataset {
                data: data.to_owned(),
            }),
            (other, _) => Err(DataError::DatasetType {
                name: other.to_owned(),
            }),
        }
    }
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
            ("csv", "pairs.txt", Some(DatasetKind::Csv)),
            ("synthetic", "", Some(DatasetKind::Synthetic)),
            ("webdataset-audio", "x.tar", None),
        ] {
            assert_eq!(DatasetKind::parse(name, data).ok(), kind, "{name} {data}");
        }
    }
}
