//! Pictures that a table names: by address, or by a path from the current directory or from the table's folder.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::ImageData;

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
#[derive(Debug)]
pub(super) struct Beside {
    /// The table.
    file: PathBuf,
    start: Start,
    is_told: AtomicBool,
}

impl Beside {
    /// Every path is looked for.
    pub fn new(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            start: Start::Either,
            is_told: AtomicBool::new(false),
        }
    }

    /// Learns from some of the table's paths where they start, so that the file system need not be asked for each.
    pub fn learn<'a>(file: &Path, names: impl Iterator<Item = &'a str>) -> Self {
        let mut pictures = Self::new(file);
        let relative = names.filter(|name| !is_address(name) && Path::new(name).is_relative());
        let (mut here, mut beside) = (true, true);
        for name in relative.take(TRIED) {
            let is_here = Path::new(name).exists();
            here &= is_here;
            beside &= !is_here && pictures.beside(name).exists();
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
            file: folder.join("."),
            start: Start::Beside,
            is_told: AtomicBool::new(true),
        }
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.file.with_file_name(name)
    }

    /// Where the picture called `name` is read.
    pub fn find(&self, name: &str) -> ImageData {
        let path = Path::new(name);
        let is_here = match self.start {
            Start::Here => true,
            Start::Beside => path.is_absolute(),
            Start::Either => path.is_absolute() || path.exists(),
        };
        if is_here {
            return ImageData::Path(path.to_owned());
        }
        let beside = self.beside(name);
        // A path that is nowhere is reported as the table has it.
        if self.start == Start::Either && !beside.exists() {
            return ImageData::Path(path.to_owned());
        }
        self.tell();
        ImageData::Path(beside)
    }

    fn tell(&self) {
        if self.is_told.swap(true, Relaxed) {
            return;
        }
        let folder = self.file.parent().unwrap_or(Path::new(""));
        log::info!(
            "{}: its pictures are not in the current directory and are read beside it, from {}",
            self.file.display(),
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
        let table = dir.path().join("pairs.csv");
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
            (vec!["/none.jpg", "https://host/a.jpg", there], Start::Beside),
        ] {
            let pictures = Beside::learn(&table, names.iter().copied());
            assert_eq!(pictures.start, start, "{names:?}");
        }
        let pictures = Beside::new(&table);
        assert_eq!(pictures.find(there), beside);
        assert_eq!(pictures.find(here), path(here));
        assert_eq!(pictures.find("none.jpg"), path("none.jpg"));
        assert_eq!(pictures.find("/none.jpg"), path("/none.jpg"));
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
