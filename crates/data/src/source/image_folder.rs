//! Labelled images, one directory per class, by torchvision's `ImageFolder` rules.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use super::files::is_image;
use super::litter::is_litter;
use super::table::Table;
use super::{ImageData, Item, Sample};
use crate::error::DataError;

/// Names that a message lists.
const LISTED: usize = 8;

/// The class directories of a folder. (torchvision counts hidden ones too.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassFolders {
    /// Their names, in order.
    pub names: Vec<String>,
    /// Where each is.
    pub paths: Vec<PathBuf>,
    /// Directories that are no classes, by [`is_litter`].
    pub passed_over: Vec<String>,
    /// How many images are in none of them.
    pub loose_images: usize,
}

impl ClassFolders {
    /// Lists them.
    ///
    /// # Errors
    /// When `root` cannot be read or has none.
    pub fn list(root: &Path) -> Result<Self, DataError> {
        let io = |source| DataError::Io {
            path: root.to_owned(),
            source,
        };
        let (mut classes, mut passed_over, mut loose_images) = (Vec::new(), Vec::new(), 0);
        for entry in std::fs::read_dir(root).map_err(io)? {
            let entry = entry.map_err(io)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            match entry.path() {
                path if !path.is_dir() => loose_images += usize::from(is_image(&path)),
                _ if is_litter(&name) => passed_over.push(name),
                path => classes.push((name, path)),
            }
        }
        if classes.is_empty() {
            return Err(DataError::NoClasses {
                path: root.to_owned(),
            });
        }
        classes.sort();
        passed_over.sort();
        let (names, paths) = classes.into_iter().unzip();
        Ok(Self {
            names,
            paths,
            passed_over,
            loose_images,
        })
    }
}

/// Every image below `root/<class>/`, labelled by the place of `<class>` among the sorted class directories.
#[derive(Clone, Debug)]
pub struct ImageFolder {
    root: PathBuf,
    classes: Vec<String>,
    samples: Vec<(PathBuf, usize)>,
}

impl ImageFolder {
    /// Lists the images. Classes, then directories below them, then files are in the order of their names. What is
    /// passed over, and classes without an image, are logged.
    ///
    /// # Errors
    /// When a directory cannot be read, there is no class directory, or none has an image.
    pub fn open(root: &Path) -> Result<Self, DataError> {
        let folders = ClassFolders::list(root)?;
        let mut samples = Vec::new();
        let mut empty = Vec::new();
        let mut left_out = LeftOut::default();
        for (label, (name, path)) in folders.names.iter().zip(&folders.paths).enumerate() {
            let images = images_below(path, &mut left_out)?;
            if images.is_empty() {
                empty.push(name.as_str());
            }
            samples.extend(images.into_iter().map(|path| (path, label)));
        }
        if samples.is_empty() {
            return Err(DataError::NoImages {
                path: root.to_owned(),
            });
        }
        let place = root.display();
        if !folders.passed_over.is_empty() {
            let names: Vec<&str> = folders.passed_over.iter().map(String::as_str).collect();
            log::info!(
                "{place}: passed over, since they are no classes: {}",
                listed(&names)
            );
        }
        if folders.loose_images > 0 {
            let count = folders.loose_images;
            log::warn!("{place}: left out {count} images that are in no class folder");
        }
        if let Some(what) = left_out.found() {
            log::info!("{place}: left out in the class folders: {what}");
        }
        if !empty.is_empty() {
            let (count, classes) = (empty.len(), folders.names.len());
            let names = listed(&empty);
            log::warn!("{place}: {count} of {classes} classes have no image: {names}");
        }
        Ok(Self {
            root: root.to_owned(),
            classes: folders.names,
            samples,
        })
    }

    /// The same images, labelled by the numbers that the class directories are named by: those of ImageNet-V2 are `0` to `999`, which
    /// as words stand in another order. There are then `classes` classes, with images or without.
    ///
    /// # Errors
    /// When a directory has another name.
    pub fn by_number(mut self, classes: usize) -> Result<Self, DataError> {
        let number = |name: &String| match name.parse() {
            Ok(number) if number < classes => Ok(number),
            _ => Err(DataError::ClassNumber {
                path: self.root.clone(),
                name: name.clone(),
                last: classes.saturating_sub(1),
            }),
        };
        let numbers: Vec<usize> = self.classes.iter().map(number).collect::<Result<_, _>>()?;
        if numbers.len() < classes {
            let (root, found) = (self.root.display(), numbers.len());
            log::warn!("{root}: folders of {found} classes, out of {classes}");
        }
        for (_, label) in &mut self.samples {
            *label = numbers[*label];
        }
        self.classes = (0..classes).map(|class| class.to_string()).collect();
        Ok(self)
    }

    /// The class directories' names; the label is the index.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }
}

/// What is found in class directories beside images.
#[derive(Debug, Default)]
struct LeftOut {
    /// Files by extension.
    others: BTreeMap<String, u64>,
    /// Files and folders by [`is_litter`].
    litter: u64,
    /// Links to a folder that they are in themselves.
    loops: u64,
}

impl LeftOut {
    fn add_other(&mut self, path: &Path) {
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        *self.others.entry(extension.to_lowercase()).or_default() += 1;
    }

    fn found(&self) -> Option<String> {
        let others = self
            .others
            .iter()
            .map(|(extension, count)| match &extension[..] {
                "" => format!("{count} files without extension"),
                extension => format!("{count} × .{extension}"),
            });
        let counts = [
            (self.litter, "hidden or of the system"),
            (self.loops, "links to a folder around them"),
        ];
        let counts = counts.iter().filter(|(count, _)| *count > 0);
        let counts = counts.map(|(count, what)| format!("{count} {what}"));
        let all: Vec<String> = others.chain(counts).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        (!all.is_empty()).then(|| listed(&all))
    }
}

/// The first few names.
fn listed(names: &[&str]) -> String {
    let more = names.len().saturating_sub(LISTED);
    let shown = names[..names.len() - more].join(", ");
    if more == 0 {
        shown
    } else {
        format!("{shown} and {more} more")
    }
}

/// All images below a class directory. Directories are compared as whole strings, as Python sorts `os.walk`: there
/// `a-b` comes before `a/c`, which a comparison by path components would turn round.
fn images_below(dir: &Path, left_out: &mut LeftOut) -> Result<Vec<PathBuf>, DataError> {
    let mut found = Vec::new();
    let mut litter = 0;
    let is_wanted = |entry: &DirEntry| {
        let is_litter = entry.depth() > 0 && is_litter(&entry.file_name().to_string_lossy());
        litter += u64::from(is_litter);
        !is_litter
    };
    for entry in WalkDir::new(dir)
        .follow_links(true)
        .into_iter()
        .filter_entry(is_wanted)
    {
        let path = match entry {
            Ok(entry) if !entry.file_type().is_file() => continue,
            Ok(entry) => entry.into_path(),
            Err(error) if error.loop_ancestor().is_some() => {
                left_out.loops += 1;
                continue;
            }
            Err(error) => match error.path().filter(|path| path.is_symlink()) {
                // Its target is missing, which is told of when it is to be read.
                Some(path) => path.to_owned(),
                None => {
                    return Err(DataError::Io {
                        path: error.path().unwrap_or(dir).to_owned(),
                        source: error.into(),
                    });
                }
            },
        };
        if !is_image(&path) {
            left_out.add_other(&path);
            continue;
        }
        let parent = path
            .parent()
            .map(Path::as_os_str)
            .unwrap_or_default()
            .to_owned();
        let name = path.file_name().unwrap_or_default().to_owned();
        found.push((parent, name, path));
    }
    left_out.litter += litter;
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
            fields: Default::default(),
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
    fn folders_named_by_numbers() {
        let dir = tempfile::tempdir().unwrap();
        touch(dir.path(), &["10/a.jpeg", "2/b.jpeg", "9/c.jpeg"]);
        let folder = ImageFolder::open(dir.path()).unwrap();
        assert_eq!(folder.classes(), ["10", "2", "9"]);
        let folder = folder.by_number(11).unwrap();
        assert_eq!(folder.classes().len(), 11);
        let all = Collect::pass(&folder, &Order::sequential(), 0).unwrap();
        let labels: Vec<_> = all.samples().map(|sample| sample.label.unwrap()).collect();
        assert_eq!(labels, [10, 2, 9]);
        let beyond = ImageFolder::open(dir.path()).unwrap().by_number(10);
        assert!(
            matches!(&beyond, Err(DataError::ClassNumber { name, last: 9, .. }) if name == "10"),
            "{beyond:?}"
        );
        touch(dir.path(), &["cat/d.jpeg"]);
        let word = ImageFolder::open(dir.path()).unwrap().by_number(11);
        let error = word.unwrap_err().to_string();
        assert!(
            error.contains("\"cat\"") && error.contains("0 to 10"),
            "{error}"
        );
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

    #[test]
    fn what_is_no_class_and_no_picture_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let files = [
            ".ipynb_checkpoints/a-checkpoint.jpg",
            "__MACOSX/cat/._a.jpg",
            "cat/.ipynb_checkpoints/a-checkpoint.jpg",
            "cat/._a.jpg",
            "cat/a.jpg",
            "cat/notes.txt",
            "dog/a.gif",
            "loose.jpg",
        ];
        touch(dir.path(), &files);
        std::fs::create_dir(dir.path().join("owl")).unwrap();
        let folders = ClassFolders::list(dir.path()).unwrap();
        assert_eq!(folders.passed_over, [".ipynb_checkpoints", "__MACOSX"]);
        assert_eq!(folders.loose_images, 1);
        let folder = ImageFolder::open(dir.path()).unwrap();
        assert_eq!(folder.classes(), ["cat", "dog", "owl"]);
        let all = Collect::pass(&folder, &Order::sequential(), 0).unwrap();
        assert_eq!(
            all.names(),
            [dir.path().join("cat/a.jpg").to_string_lossy()]
        );
        let mut left_out = LeftOut::default();
        images_below(&dir.path().join("cat"), &mut left_out).unwrap();
        images_below(&dir.path().join("dog"), &mut left_out).unwrap();
        assert_eq!(
            left_out.found().unwrap(),
            "1 × .gif, 1 × .txt, 2 hidden or of the system"
        );
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_broken_ones_are_bad_pictures() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        touch(dir.path(), &["elsewhere/x/b.jpg", "root/cat/a.jpg"]);
        let root = dir.path().join("root");
        symlink("../elsewhere", root.join("dog")).unwrap();
        symlink("../cat", root.join("cat/again")).unwrap();
        symlink("absent.jpg", root.join("cat/z.jpg")).unwrap();
        let folder = ImageFolder::open(&root).unwrap();
        assert_eq!(folder.classes(), ["cat", "dog"]);
        let all = Collect::pass(&folder, &Order::sequential(), 0).unwrap();
        let expected = ["cat/a.jpg", "cat/z.jpg", "dog/x/b.jpg"];
        let expected = expected.map(|name| root.join(name).to_string_lossy().into_owned());
        assert_eq!(all.names(), expected);
    }
}
