//! Pictures that a table names: by address, or by a path from the current directory or from the table's folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::ImageData;
use crate::storage::Place;

/// Paths that are tried to learn where a table's paths start.
const TRIED: usize = 64;

/// Where the relative paths of a table start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// In the current directory, as OpenCLIP has it.
    Here,
    /// Beside the table.
    Beside,
    /// Sometimes here, sometimes there: each path is looked for.
    Either,
}

/// Finds the pictures of one table.
#[derive(Clone, Debug)]
pub(super) struct Beside {
    /// The table.
    file: Place,
    start: Start,
    is_told: Arc<AtomicBool>,
}

impl Beside {
    /// Every path is looked for.
    pub fn new(file: &Place) -> Self {
        Self {
            file: file.clone(),
            start: match file {
                Place::Remote(_) => Start::Beside,
                _ => Start::Either,
            },
            is_told: Arc::default(),
        }
    }

    /// Learns from some of the table's paths where they start, so that the file system need not be asked for each.
    pub fn learn<'a>(file: &Place, names: impl Iterator<Item = &'a str>) -> Self {
        let mut pictures = Self::new(file);
        if pictures.start == Start::Beside {
            return pictures;
        }
        let is_relative =
            |name: &&str| !name.is_empty() && !is_address(name) && Path::new(name).is_relative();
        let relative = names.filter(is_relative);
        let (mut here, mut beside) = (true, true);
        for name in relative.take(TRIED) {
            let is_here = Path::new(name).exists();
            here &= is_here;
            beside &= !is_here && pictures.beside(name).is_some_and(|path| path.exists());
        }
        pictures.start = match (here, beside) {
            (true, _) => Start::Here,
            (false, true) => Start::Beside,
            (false, false) => Start::Either,
        };
        if pictures.start == Start::Beside {
            pictures.tell();
        }
        pictures
    }

    /// All relative paths start in `folder`.
    pub fn folder(folder: &Path) -> Self {
        Self {
            // A table that need not be there.
            file: Place::File(folder.join("table")),
            start: Start::Beside,
            is_told: Arc::new(AtomicBool::new(true)),
        }
    }

    fn beside(&self, name: &str) -> Option<PathBuf> {
        let path = self.file.as_file()?;
        Some(path.parent().unwrap_or(Path::new("")).join(name))
    }

    /// Where the picture called `name` is read.
    pub fn find(&self, name: &str) -> ImageData {
        let path = Path::new(name);
        if is_address(name) {
            // An address that is none is reported as the path of no file.
            return match Place::parse(name) {
                Ok(place @ Place::Remote(_)) => ImageData::Remote(place),
                Ok(Place::File(path)) => ImageData::Path(path),
                _ => ImageData::Path(path.to_owned()),
            };
        }
        let is_here = match self.start {
            Start::Here => true,
            Start::Beside => path.is_absolute(),
            Start::Either => path.is_absolute() || path.exists(),
        };
        if is_here {
            return ImageData::Path(path.to_owned());
        }
        if let Place::Remote(table) = &self.file {
            let mut url = table.clone();
            if let Ok(mut parts) = url.path_segments_mut() {
                parts.pop().extend(name.split('/'));
            }
            return ImageData::Remote(Place::Remote(url));
        }
        match self.beside(name) {
            // A path that is nowhere is reported as the table has it.
            Some(beside) if self.start == Start::Beside || beside.exists() => {
                self.tell();
                ImageData::Path(beside)
            }
            _ => ImageData::Path(path.to_owned()),
        }
    }

    fn tell(&self) {
        if self.is_told.swap(true, Relaxed) {
            return;
        }
        let folder = self.beside("").unwrap_or_default();
        log::info!(
            "{}: its pictures are not in the current directory and are read from {}, beside it",
            self.file,
            folder.display()
        );
    }
}

/// Whether a name is that of something far away: `https://host/a.jpg`.
pub(super) fn is_address(name: &str) -> bool {
    name.split_once("://").is_some_and(|(scheme, _)| {
        scheme.len() > 1 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_path_is_looked_for_here_and_beside_the_table() {
        let dir = tempfile::tempdir().unwrap();
        let table = Place::File(dir.path().join("pairs.csv"));
        std::fs::create_dir(dir.path().join("pictures")).unwrap();
        std::fs::write(dir.path().join("pictures/a.jpg"), b"x").unwrap();
        let there = "pictures/a.jpg";
        // Tests run in the folder of the crate.
        let here = "src/lib.rs";
        let beside = ImageData::Path(dir.path().join(there));
        let path = |name: &str| ImageData::Path(name.into());
        for (names, start) in [
            (vec![], Start::Here),
            (vec![here], Start::Here),
            (vec![there], Start::Beside),
            (vec![here, there], Start::Either),
            (vec!["none.jpg"], Start::Either),
            (
                vec!["/none.jpg", "https://host/a.jpg", there],
                Start::Beside,
            ),
        ] {
            let pictures = Beside::learn(&table, names.iter().copied());
            assert_eq!(pictures.start, start, "{names:?}");
        }
        let pictures = Beside::new(&table);
        assert_eq!(pictures.find(there), beside);
        assert_eq!(pictures.find(here), path(here));
        assert_eq!(pictures.find("none.jpg"), path("none.jpg"));
        assert_eq!(pictures.find("/none.jpg"), path("/none.jpg"));
        let remote = |name: &str| ImageData::Remote(Place::parse(name).unwrap());
        let address = "https://host/a%20b.jpg?c=d";
        assert_eq!(pictures.find(address), remote(address));
        let far = Beside::learn(
            &Place::parse("https://host/x/t.csv").unwrap(),
            [here].into_iter(),
        );
        assert_eq!(far.find("y/a b.jpg"), remote("https://host/x/y/a%20b.jpg"));
        let pictures = Beside::learn(&table, [there].into_iter());
        assert_eq!(pictures.find(there), beside);
        assert!(pictures.is_told.load(Relaxed));
    }

    #[test]
    fn addresses() {
        for (name, expected) in [
            ("https://host/a.jpg", true),
            ("s3://bucket/a.jpg", true),
            ("C://a.jpg", false),
            ("a/b://c", false),
            ("a.jpg", false),
        ] {
            assert_eq!(is_address(name), expected, "{name}");
        }
    }
}
