//! `--dataset-type`: which source reads `--train-data`.

use std::path::Path;

use super::columnar::Format;
use super::shards::{names, parts};
use super::{coco, flickr};
use crate::error::DataError;
use crate::storage::mask;

/// The kinds of data that `--dataset-type` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatasetKind {
    /// CSV or TSV with a header.
    Csv,
    /// Tar shards.
    Webdataset,
    /// Black images.
    Synthetic,
    /// Parquet files with pictures, or with their paths or addresses.
    Parquet,
    /// The same in Arrow's IPC files.
    Arrow,
    /// Captions in JSON: COCO's, or Karpathy's splits.
    Coco,
    /// Captions of Flickr30k and Flickr8k.
    Flickr,
    /// A tree of pictures with a `.txt` beside each.
    Folder,
}

/// What `--dataset-type` calls them.
const NAMES: [(&str, DatasetKind); 8] = [
    ("csv", DatasetKind::Csv),
    ("webdataset", DatasetKind::Webdataset),
    ("synthetic", DatasetKind::Synthetic),
    ("parquet", DatasetKind::Parquet),
    ("arrow", DatasetKind::Arrow),
    ("coco", DatasetKind::Coco),
    ("flickr", DatasetKind::Flickr),
    ("folder", DatasetKind::Folder),
];

/// What extensions say.
const EXTENSIONS: [(&str, DatasetKind); 13] = [
    ("csv", DatasetKind::Csv),
    ("tsv", DatasetKind::Csv),
    ("tar", DatasetKind::Webdataset),
    ("tgz", DatasetKind::Webdataset),
    ("tbz2", DatasetKind::Webdataset),
    ("txz", DatasetKind::Webdataset),
    ("tzst", DatasetKind::Webdataset),
    ("parquet", DatasetKind::Parquet),
    ("pq", DatasetKind::Parquet),
    ("arrow", DatasetKind::Arrow),
    ("feather", DatasetKind::Arrow),
    ("json", DatasetKind::Coco),
    ("token", DatasetKind::Flickr),
];

/// Extensions of packed files, before which stands that of the file in them.
const PACKED: [&str; 4] = ["gz", "bz2", "xz", "zst"];

impl DatasetKind {
    /// What `name` (a kind's, or `auto`) means for one part of a list. `auto` goes by [`Self::of`].
    ///
    /// # Errors
    /// When the name is that of no kind, or `auto` cannot tell.
    pub fn parse(name: &str, part: &str) -> Result<Self, DataError> {
        let named = NAMES.iter().find(|(known, _)| *known == name);
        match (named, name) {
            (Some((_, kind)), _) => Ok(*kind),
            (None, "auto") => {
                Self::of(part).ok_or_else(|| DataError::UnknownDataset { data: mask(part) })
            }
            (None, other) => Err(DataError::DatasetType {
                name: other.to_owned(),
            }),
        }
    }

    /// Whether its samples come in shards.
    pub fn is_sharded(self) -> bool {
        matches!(self, Self::Webdataset | Self::Parquet | Self::Arrow)
    }

    /// [`Self::parse`] for every part of a list `A::B`.
    ///
    /// # Errors
    /// As there.
    pub fn of_list(name: &str, data: &str) -> Result<Vec<Self>, DataError> {
        let kinds = parts(data).into_iter().map(|part| Self::parse(name, part));
        kinds.collect()
    }

    /// What `--dataset-type` calls it.
    pub fn name(self) -> &'static str {
        let found = NAMES.iter().find(|(_, kind)| *kind == self);
        found.map_or("auto", |(name, _)| name)
    }

    /// The kind of one part of a list: by the last extension, in any case, or by what lies in a folder. That of a packed file
    /// stands before it, as in `a.csv.gz`; behind `#` is a split, as in `dataset_coco.json#train`.
    pub fn of(part: &str) -> Option<Self> {
        let path = Path::new(part);
        if path.is_dir() {
            return Some(Self::of_folder(path));
        }
        if flickr::is_one(path) {
            return Some(Self::Flickr);
        }
        if part.starts_with('@') {
            let names = names(part).ok()?;
            return Self::of(names.first()?);
        }
        names_in(part).find_map(Self::of_name)
    }

    /// By the extension alone.
    fn of_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let name = match name.rsplit_once('#') {
            Some((file, _)) if file.ends_with(".json") => file,
            _ => &name,
        };
        let packed = PACKED.iter();
        let mut packed = packed.filter_map(|suffix| name.strip_suffix(suffix)?.strip_suffix('.'));
        let (_, extension) = packed.next().unwrap_or(name).rsplit_once('.')?;
        let known = EXTENSIONS.iter().find(|(known, _)| *known == extension);
        known.map(|(_, kind)| *kind)
    }

    /// By the first there is of shards, tables and captions. Beside img2dataset's shards lie parquet files without pictures.
    fn of_folder(dir: &Path) -> Self {
        let has = |dir: &Path, extensions: &[&str]| {
            let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
            let mut paths = entries.map(|entry| entry.path());
            paths.any(|path| {
                let extension = path.extension().unwrap_or_default();
                extensions
                    .iter()
                    .any(|known| extension.eq_ignore_ascii_case(known))
            })
        };
        if has(dir, &["tar"]) {
            return Self::Webdataset;
        }
        for dir in [dir, &dir.join("data")] {
            if has(dir, Format::Parquet.extensions()) {
                return Self::Parquet;
            }
            if has(dir, Format::Arrow.extensions()) {
                return Self::Arrow;
            }
        }
        if !coco::candidates(dir).is_empty() {
            Self::Coco
        } else if !flickr::candidates(dir).is_empty() {
            Self::Flickr
        } else {
            Self::Folder
        }
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
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn auto_goes_by_extension() {
        for (name, data, kind) in [
            ("auto", "a/b.csv", Some(DatasetKind::Csv)),
            ("auto", "b.tsv", Some(DatasetKind::Csv)),
            ("auto", "x-{00..10}.tar", Some(DatasetKind::Webdataset)),
            ("auto", "a.tar::b-{0..9}.tar", Some(DatasetKind::Webdataset)),
            ("auto", "pairs.parquet", Some(DatasetKind::Parquet)),
            ("auto", "train-*.Parquet", Some(DatasetKind::Parquet)),
            ("auto", "cache-1.arrow", Some(DatasetKind::Arrow)),
            ("auto", "a.feather", Some(DatasetKind::Arrow)),
            (
                "auto",
                "annotations/captions_val2017.json",
                Some(DatasetKind::Coco),
            ),
            (
                "auto",
                "dataset_coco.json#train+restval",
                Some(DatasetKind::Coco),
            ),
            (
                "auto",
                "dataset_flickr30k.json#test",
                Some(DatasetKind::Flickr),
            ),
            ("auto", "results_20130124.token", Some(DatasetKind::Flickr)),
            ("auto", "Flickr8k.token.txt", Some(DatasetKind::Flickr)),
            ("auto", "captions.txt", Some(DatasetKind::Flickr)),
            ("auto", "other.txt", None),
            ("auto", "", None),
            ("auto", "pairs.csv.gz", Some(DatasetKind::Csv)),
            ("auto", "A.TSV", Some(DatasetKind::Csv)),
            ("auto", "x-{0..3}.tar.gz", Some(DatasetKind::Webdataset)),
            ("auto", "x.tgz", Some(DatasetKind::Webdataset)),
            (
                "auto",
                "pipe:aws s3 cp s3://b/{00..29}.tar -",
                Some(DatasetKind::Webdataset),
            ),
            (
                "auto",
                "pipe:cat 'a.tar.gz' | gunzip",
                Some(DatasetKind::Webdataset),
            ),
            ("auto", "pipe:ls", None),
            (
                "auto",
                "https://h/a.parquet?sig=1.tar",
                Some(DatasetKind::Parquet),
            ),
            (
                "auto",
                "hf://datasets/o/n@v1.0/{00..10}.tar",
                Some(DatasetKind::Webdataset),
            ),
            ("auto", "x.tar.zst", Some(DatasetKind::Webdataset)),
            ("auto", "x.TAR.BZ2", Some(DatasetKind::Webdataset)),
            ("auto", "x-{0..3}.tar.xz", Some(DatasetKind::Webdataset)),
            ("auto", "b.txz", Some(DatasetKind::Webdataset)),
            ("auto", "a.tzst", Some(DatasetKind::Webdataset)),
            ("auto", "a.csv.zst", Some(DatasetKind::Csv)),
            ("auto", "a.zst", None),
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
                "https://h/{0..3}.tar?sig=a.b/c",
                Some(DatasetKind::Webdataset),
            ),
            ("auto", "a.gz", None),
            ("csv", "pairs.txt", Some(DatasetKind::Csv)),
            ("parquet", "pairs", Some(DatasetKind::Parquet)),
            ("synthetic", "", Some(DatasetKind::Synthetic)),
            ("webdataset-audio", "x.tar", None),
        ] {
            assert_eq!(DatasetKind::parse(name, data).ok(), kind, "{name} {data}");
        }
    }

    #[test]
    fn auto_looks_into_folders() {
        for (files, kind) in [
            (&["00000.parquet", "00000.tar"][..], DatasetKind::Webdataset),
            (&["00000.parquet"], DatasetKind::Parquet),
            (
                &["README.md", "data/train-00000-of-00001.parquet"],
                DatasetKind::Parquet,
            ),
            (
                &["data-00000-of-00001.arrow", "state.json"],
                DatasetKind::Arrow,
            ),
            (&["annotations/captions_val2017.json"], DatasetKind::Coco),
            (&["captions.txt", "Images/a.jpg"], DatasetKind::Flickr),
            (&["a.jpg", "a.txt"], DatasetKind::Folder),
        ] {
            let dir = tempfile::tempdir().unwrap();
            for file in files {
                let path = dir.path().join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, b"x").unwrap();
            }
            let data = dir.path().to_str().unwrap();
            assert_eq!(DatasetKind::parse("auto", data).unwrap(), kind, "{files:?}");
        }
    }

    #[test]
    fn a_folder_is_known_by_every_extension_of_tables() {
        for (name, kind) in [
            ("a.pq", DatasetKind::Parquet),
            ("a.feather", DatasetKind::Arrow),
            ("a.jpg", DatasetKind::Folder),
        ] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(name), b"x").unwrap();
            let part = dir.path().to_str().unwrap();
            assert_eq!(DatasetKind::of(part), Some(kind), "{name}");
        }
    }
}
