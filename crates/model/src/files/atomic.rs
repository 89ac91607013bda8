//! Files that are whole or not there: written under another name, forced to the disk, renamed.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// Bytes that are collected before they go to the file.
const BUFFER: usize = 1 << 20;

/// A file that takes its name when it is complete. Dropped before [`finish`](Self::finish), it leaves nothing behind, and what
/// had the name before stays.
///
/// It grows beside its place as `.NAME.….partial`, which a process that is killed leaves there.
#[derive(Debug)]
pub struct AtomicFile {
    file: BufWriter<NamedTempFile>,
    path: PathBuf,
}

impl AtomicFile {
    /// Begins the file `path`.
    ///
    /// # Errors
    /// When its folder is not there or takes no file.
    pub fn create(path: &Path) -> io::Result<Self> {
        // A device or a pipe would make way for a plain file.
        if fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir()) {
            let reason = "it is a device or a pipe, which a file would take the place of";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        let folder = folder(path);
        let mut prefix = OsString::from(".");
        prefix.push(path.file_name().unwrap_or_default());
        prefix.push(".");
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".partial");
        #[cfg(unix)]
        {
            // As any program creates a file: the umask decides who may read it.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        Ok(Self {
            file: BufWriter::with_capacity(BUFFER, builder.tempfile_in(folder)?),
            path: path.to_owned(),
        })
    }

    /// The name that the file will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Forces the content to the disk and gives the file its name, in the place of one that has it.
    ///
    /// # Errors
    /// When the disk is full or the name cannot be taken.
    pub fn finish(self) -> io::Result<()> {
        let file = self.file.into_inner().map_err(|error| error.into_error())?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|error| error.error)?;
        sync_folder(&self.path)
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Writes the file `path` in one step.
///
/// # Errors
/// As those of [`AtomicFile`].
pub fn write(path: &Path, content: impl AsRef<[u8]>) -> io::Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(content.as_ref())?;
    file.finish()
}

/// Renames a file or folder whose content is on the disk, so that the new name outlives a crash.
///
/// # Errors
/// When it cannot be renamed.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_folder(to)
}

/// Forces the names in the folder of `path` to the disk; where folders cannot be opened, the system takes care of it.
fn sync_folder(path: &Path) -> io::Result<()> {
    match cfg!(unix) {
        true => File::open(folder(path))?.sync_all(),
        false => Ok(()),
    }
}

fn folder(path: &Path) -> &Path {
    let parent = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[cfg(unix)]
    #[test]
    fn a_device_stays_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device");
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert!(
            write(&path, "text")
                .unwrap_err()
                .to_string()
                .contains("device")
        );
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    }

    #[test]
    fn a_file_has_its_name_when_it_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("figures.json");
        assert!(write(&dir.path().join("absent/figures.json"), "").is_err());
        write(&path, "old").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"____ne").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(b"half").unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"halfne");
        assert_eq!(names(dir.path()), ["figures.json"]);
    }

    #[test]
    fn a_file_that_is_given_up_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("figures.json");
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert!(names(dir.path()).is_empty());
    }
}
