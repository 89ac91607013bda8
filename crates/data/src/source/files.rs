//! A directory or a list of images without captions, for embedding and classification.

mod left_out;

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use super::litter::{is_litter, is_of_system};
use super::table::Table;
use super::{IMAGE_EXTENSIONS, ImageData, Item, Sample};
use crate::error::DataError;
use crate::image::{PICTURE_EXTENSIONS, is_picture};

pub use self::left_out::{LeftOut, Reason};

/// Bytes at the beginning of a file that tell its format.
const START: u64 = 64;

/// Extensions of pictures that cannot be decoded, but are to be named for what they are.
const NAMED_EXTENSIONS: [&str; 4] = ["heic", "heif", "jxl", "psd"];

/// Images in a fixed order. Those of a directory are named by their paths within it, with `/` on every system; those of a list by
/// their paths.
#[derive(Clone, Debug)]
pub struct Files {
    /// Where relative paths start; empty for a list.
    root: PathBuf,
    paths: Vec<PathBuf>,
    left_out: LeftOut,
    description: String,
}

impl Files {
    /// The images in `dir` and in all folders below it, sorted by path.
    ///
    /// A file is an image by its extension or by its first bytes, whatever it is called. Links are followed. What is left out is
    /// counted by reason: hidden files and folders, what macOS and other systems put beside files, everything that is no image.
    ///
    /// # Errors
    /// When the directory cannot be read or has no image in it.
    pub fn directory(dir: &Path) -> Result<Self, DataError> {
        let mut paths = Vec::new();
        let mut left_out = LeftOut::default();
        let mut walk = WalkDir::new(dir).follow_links(true).into_iter();
        while let Some(entry) = walk.next() {
            let (path, reason) = match entry {
                Ok(entry) => {
                    let reason = reason(&entry);
                    if reason.is_some() && entry.file_type().is_dir() {
                        walk.skip_current_dir();
                    }
                    if reason.is_none() && entry.file_type().is_dir() {
                        continue;
                    }
                    (entry.into_path(), reason)
                }
                Err(error) if error.depth() == 0 => {
                    return Err(DataError::Io {
                        path: dir.to_owned(),
                        source: error.into(),
                    });
                }
                Err(error) => {
                    let reason = match error.loop_ancestor() {
                        Some(_) => Reason::Loop,
                        None => Reason::Unreadable,
                    };
                    (error.path().unwrap_or(dir).to_owned(), Some(reason))
                }
            };
            let path = path.strip_prefix(dir).unwrap_or(&path).to_owned();
            match reason {
                Some(reason) => left_out.add(reason, &name_of(&path)),
                None => paths.push(path),
            }
        }
        if paths.is_empty() {
            return Err(DataError::NoPictures {
                path: dir.to_owned(),
                left_out: left_out.to_string(),
            });
        }
        paths.sort();
        Ok(Self {
            description: format!("{} images in {}", paths.len(), dir.display()),
            root: dir.to_owned(),
            paths,
            left_out,
        })
    }

    /// The given files, in the given order, whatever their extensions.
    pub fn list(paths: Vec<PathBuf>) -> Self {
        Self {
            description: format!("a list of {} images", paths.len()),
            root: PathBuf::new(),
            paths,
            left_out: LeftOut::default(),
        }
    }

    /// Where the images are, in order.
    pub fn paths(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.paths.iter().map(|path| self.root.join(path))
    }

    /// What was found beside the images of a directory.
    pub fn left_out(&self) -> &LeftOut {
        &self.left_out
    }
}

impl Table for Files {
    fn len(&self) -> usize {
        self.paths.len()
    }

    fn item(&self, index: usize) -> Item {
        let path = &self.paths[index];
        let name = match self.root.as_os_str().is_empty() {
            true => path.to_string_lossy().into_owned(),
            false => name_of(path),
        };
        Item::Sample(Sample {
            name,
            shard: None,
            image: ImageData::Path(self.root.join(path)),
            caption: None,
            label: None,
            fields: Default::default(),
        })
    }

    fn describe(&self) -> String {
        self.description.clone()
    }
}

/// A relative path with `/` between its parts.
fn name_of(path: &Path) -> String {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(part) => Some(part.to_string_lossy()),
        _ => None,
    });
    parts.collect::<Vec<_>>().join("/")
}

/// Why an entry is left out; the root itself never is, whatever its name.
fn reason(entry: &DirEntry) -> Option<Reason> {
    let name = entry.file_name().to_string_lossy();
    if entry.depth() > 0 && is_litter(&name) {
        return Some(match is_of_system(&name) {
            true => Reason::System,
            false => Reason::Hidden,
        });
    }
    if entry.file_type().is_dir() || has_picture_extension(entry.path()) && is_regular(entry) {
        return None;
    }
    if !is_regular(entry) {
        return Some(Reason::NotAPicture);
    }
    match start_of(entry.path()) {
        Ok(start) if is_picture(&start) => None,
        Ok(_) => Some(Reason::NotAPicture),
        Err(_) => Some(Reason::Unreadable),
    }
}

/// Whether an entry, or what it links to, is a file whose reading comes to an end.
fn is_regular(entry: &DirEntry) -> bool {
    entry.file_type().is_file()
}

fn start_of(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut start = Vec::new();
    File::open(path)?.take(START).read_to_end(&mut start)?;
    Ok(start)
}

fn has_picture_extension(path: &Path) -> bool {
    has_extension(path, &PICTURE_EXTENSIONS) || has_extension(path, &NAMED_EXTENSIONS)
}

/// Whether the extension is one of [`IMAGE_EXTENSIONS`], in any case.
pub(crate) fn is_image(path: &Path) -> bool {
    has_extension(path, &IMAGE_EXTENSIONS)
}

fn has_extension(path: &Path, list: &[&str]) -> bool {
    let extension = path.extension().unwrap_or_default();
    list.iter()
        .any(|known| extension.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests;
