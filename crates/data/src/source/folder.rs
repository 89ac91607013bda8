//! Pictures in a folder and the folders below it, each with its caption in a `.txt` of the same name beside it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::files::Files;
use super::table::Table;
use super::{ImageData, Item, Problem, ProblemKind};
use crate::error::DataError;

/// Longest caption that is read.
const MAX_CAPTION: u64 = 1 << 20;

/// One sample for every picture; one without a `.txt` has no caption.
#[derive(Clone, Debug)]
pub struct CaptionedFolder {
    files: Files,
}

impl CaptionedFolder {
    /// Lists the pictures, by the rules of [`Files::directory`]. What is left out is logged.
    ///
    /// # Errors
    /// When the folder cannot be read, or no picture in it has a caption.
    pub fn open(dir: &Path) -> Result<Self, DataError> {
        let files = Files::directory(dir)?;
        if !files
            .paths()
            .any(|path| path.with_extension("txt").exists())
        {
            return Err(DataError::Table {
                path: dir.to_owned(),
                reason: format!(
                    "{} pictures, and none with a .txt of the same name beside it",
                    files.len()
                ),
            });
        }
        if files.left_out().loses_pictures() {
            log::warn!("{}: left out: {}", dir.display(), files.left_out());
        }
        Ok(Self { files })
    }
}

impl Table for CaptionedFolder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn item(&self, index: usize) -> Item {
        let mut item = self.files.item(index);
        if let Item::Sample(sample) = &mut item
            && let ImageData::Path(path) = &sample.image
        {
            let path = path.with_extension("txt");
            match caption(&path) {
                Ok(caption) => sample.caption = Some(caption).filter(|caption| !caption.is_empty()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Item::Problem(Problem {
                        kind: ProblemKind::InvalidCaption,
                        place: path.display().to_string(),
                        reason: error.to_string(),
                    });
                }
            }
        }
        item
    }

    fn describe(&self) -> String {
        self.files.describe()
    }
}

/// The text of a file, without the space around it.
fn caption(path: &Path) -> io::Result<String> {
    let wrong = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    if !std::fs::metadata(path)?.is_file() {
        return Err(wrong("not a regular file".into()));
    }
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_CAPTION + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_CAPTION {
        return Err(wrong(format!("more than {MAX_CAPTION} bytes")));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong("not UTF-8".into()))?;
    // Some editors begin a file with a byte order mark.
    Ok(text.trim_start_matches('\u{feff}').trim().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::super::Order;
    use super::super::testing::Collect;
    use super::*;

    #[test]
    fn a_caption_is_in_the_text_beside_its_picture() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        write("b.jpg", b"x");
        let error = CaptionedFolder::open(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("1 pictures, and none with a .txt"),
            "{error}"
        );
        write("b.txt", "\u{feff}ü\n".as_bytes());
        write("deep/er/a.PNG", b"x");
        write("deep/er/a.txt", b"two\nlines\n");
        write("c.webp", b"x");
        write("d.png", b"x");
        write("d.txt", b"caf\xe9");
        write("e.png", b"x");
        write("e.txt", b" \n");
        write("f.png", b"x");
        std::fs::create_dir(dir.path().join("f.txt")).unwrap();
        write("alone.txt", b"no picture");
        let table = CaptionedFolder::open(dir.path()).unwrap();
        let all = Collect::pass(&table, &Order::sequential(), 0).unwrap();
        let pairs: Vec<_> = all
            .samples()
            .map(|s| (s.name.as_str(), s.caption.as_deref()))
            .collect();
        assert_eq!(
            pairs,
            [
                ("b.jpg", Some("ü")),
                ("c.webp", None),
                ("deep/er/a.PNG", Some("two\nlines")),
                ("e.png", None),
            ]
        );
        assert_eq!(all.problems(), [ProblemKind::InvalidCaption; 2]);
        assert_eq!(table.len(), 6, "each picture is one item");
    }
}
