//! Labelled images, one directory per class, by torchvision's `ImageFolder` rules.

use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::files::is_image;
use super::table::Table;
use super::{ImageData, Item, Sample};
use crate::error::DataError;

/// Every image below `root/<class>/`, labelled by the place of `<class>` among the sorted class directories.
#[derive(Clone, Debug)]
pub struct ImageFolder {
    root: PathBuf,
    classes: Vec<String>,
    samples: Vec<(PathBuf, usize)>,
}

impl ImageFolder {
    /// Lists the images. Classes, then directories below them, then files are in the order of their names.
    ///
    /// # Errors
    /// When a directory cannot be read, there is no class directory, or a class has no image.
    pub fn open(root: &Path) -> Result<Self, DataError> {
        let io = |source| DataError::Io {
            path: root.to_owned(),
            source,
        };
        let mut classes = Vec::new();
        for entry in std::fs::read_dir(root).map_err(io)? {
            let entry = entry.map_err(io)?;
            if entry.path().is_dir() {
                classes.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        if classes.is_empty() {
            return Err(DataError::NoClasses {
                path: root.to_owned(),
            });
        }
        classes.sort();
        let mut samples = Vec::new();
        for (label, class) in classes.iter().enumerate() {
            let images = images_below(&root.join(class))?;
            samples.extend(images.into_iter().map(|path| (path, label)));
        }
        Ok(Self {
            root: root.to_owned(),
            classes,
            samples,
        })
    }

    /// The class directories' names; the label is the index.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }
}

/// All images below a class directory. Directories are compared as whole strings, as Python sorts `os.walk`: there
/// `a-b` comes before `a/c`, which a comparison by path components would turn round.
fn images_below(dir: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut found = Vec::new();
    for entry in WalkDir::new(dir).follow_links(true) {
        let entry = entry.map_err(|error| DataError::Io {
            path: dir.to_owned(),
            source: error.into(),
        })?;
        if entry.file_type().is_file() && is_image(entry.path()) {
            let parent = entry
                .path()
                .parent()
                .map(|parent| parent.as_os_str().to_owned())
                .unwrap_or_default();
            found.push((parent, entry.file_name().to_owned(), entry.into_path()));
        }
    }
    if found.is_empty() {
        return Err(DataError::NoImages {
            path: dir.to_owned(),
        });
    }
    found.sort();
    Ok(found.into_iter().map(|(_, _, path)| path).collect())
}

impl Table for ImageFolder {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn item(&self, index: usize) -> Item {
        let (path, label) = self.samples[index].clone();
        let name = path.to_string_lossy().into_owned();
        Item::Sample(Sample {
            name,
            shard: None,
            image: ImageData::Path(path),
            caption: None,
            label: Some(label),
        })
    }

    fn describe(&self) -> String {
        format!(
            "{} images of {} classes in {}",
            self.samples.len(),
            self.classes.len(),
            self.root.display()
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::super::Order;
    use super::super::testing::Collect;
    use super::*;

    fn touch(root: &Path, names: &[&str]) {
        for name in names {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"x").unwrap();
        }
    }

    #[test]
    fn labels_and_order() {
        let dir = tempfile::tempdir().unwrap();
        // The order is torchvision's for this tree (ImageFolder(root).samples).
        touch(
            dir.path(),
            &[
                "n02/z.jpg",
                "n02/a/y.PNG",
                "n02/a-b/x.jpg",
                "n02/a/b/w.jpeg",
                "n01/k.tiff",
                "n01/skip.gif",
                "readme.txt",
            ],
        );
        let folder = ImageFolder::open(dir.path()).unwrap();
        assert_eq!(folder.classes(), ["n01", "n02"]);
        let all = Collect::pass(&folder, &Order::sequential(), 0).unwrap();
        let prefix = format!("{}/", dir.path().display());
        let found: Vec<_> = all
            .samples()
            .map(|s| (s.name.strip_prefix(&prefix).unwrap(), s.label.unwrap()))
            .collect();
        let expected = [
            ("n01/k.tiff", 0),
            ("n02/z.jpg", 1),
            ("n02/a/y.PNG", 1),
            ("n02/a-b/x.jpg", 1),
            ("n02/a/b/w.jpeg", 1),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn empty_trees_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            ImageFolder::open(dir.path()),
            Err(DataError::NoClasses { .. })
        ));
        std::fs::create_dir(dir.path().join("cat")).unwrap();
        assert!(matches!(
            ImageFolder::open(dir.path()),
            Err(DataError::NoImages { .. })
        ));
    }
}
