//! A directory or a list of images without captions, for embedding and classification.

use std::path::{Path, PathBuf};

use super::table::Table;
use super::{IMAGE_EXTENSIONS, ImageData, Item, Sample};
use crate::error::DataError;

/// Images in a fixed order, named by their paths.
#[derive(Clone, Debug)]
pub struct Files {
    paths: Vec<PathBuf>,
    description: String,
}

impl Files {
    /// The images directly in `dir` (by extension, see [`IMAGE_EXTENSIONS`]), sorted by name.
    ///
    /// # Errors
    /// When the directory cannot be read or has no image in it.
    pub fn directory(dir: &Path) -> Result<Self, DataError> {
        let io = |source| DataError::Io {
            path: dir.to_owned(),
            source,
        };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if is_image(&path) && path.is_file() {
                paths.push(path);
            }
        }
        if paths.is_empty() {
            return Err(DataError::NoImages {
                path: dir.to_owned(),
            });
        }
        paths.sort();
        Ok(Self {
            description: format!("{} images in {}", paths.len(), dir.display()),
            paths,
        })
    }

    /// The given files, in the given order, whatever their extensions.
    pub fn list(paths: Vec<PathBuf>) -> Self {
        Self {
            description: format!("a list of {} images", paths.len()),
            paths,
        }
    }

    /// The paths, in order.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }
}

impl Table for Files {
    fn len(&self) -> usize {
        self.paths.len()
    }

    fn item(&self, index: usize) -> Item {
        let path = self.paths[index].clone();
        let name = path.to_string_lossy().into_owned();
        Item::Sample(Sample {
            name,
            shard: None,
            image: ImageData::Path(path),
            caption: None,
            label: None,
        })
    }

    fn describe(&self) -> String {
        self.description.clone()
    }
}

/// Whether the extension is one of [`IMAGE_EXTENSIONS`], in any case.
pub(crate) fn is_image(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    IMAGE_EXTENSIONS
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::super::Order;
    use super::super::testing::Collect;
    use super::*;

    #[test]
    fn directory_is_sorted_and_filtered() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.JPG", "a.png", "notes.txt", "c.webp", "jpg"] {
            std::fs::write(dir.path().join(name), b"x").unwrap();
        }
        std::fs::create_dir(dir.path().join("d.png")).unwrap();
        let files = Files::directory(dir.path()).unwrap();
        let all = Collect::pass(&files, &Order::sequential(), 0).unwrap();
        let names: Vec<_> = all
            .names()
            .iter()
            .map(|name| name.rsplit('/').next().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["a.png", "b.JPG", "c.webp"]);
    }

    #[test]
    fn a_directory_without_images_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let error = Files::directory(dir.path()).unwrap_err().to_string();
        assert!(error.contains(dir.path().to_str().unwrap()), "{error}");
        assert!(Files::directory(&dir.path().join("absent")).is_err());
    }
}
