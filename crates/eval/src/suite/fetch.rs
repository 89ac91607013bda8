//! Sets in CLIP_benchmark's layout from the hub or a web server, to a folder of the same layout.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use openclip_data::storage::{Patience, Place, Watch};
use openclip_model::files::atomic::AtomicFile;

use crate::error::EvalError;

/// Files beside the parts of a set, which it need not have.
const BESIDE: [&str; 3] = [
    "classnames.txt",
    "zeroshot_classification_templates.txt",
    "dataset_type.txt",
];
/// Longest of these.
const MAX_BYTES: u64 = 16 << 20;

/// Copies the part `split` of the set at the address `from` to the folder `to`, but for the files that are there already.
///
/// # Errors
/// When the address has no `SPLIT/nshards.txt`, or a file cannot be copied.
pub fn fetch(from: &str, split: &str, to: &Path) -> Result<(), EvalError> {
    let from = from.trim_end_matches('/');
    let counted = format!("{split}/nshards.txt");
    let text = small(&format!("{from}/{counted}"))?;
    let count: usize = String::from_utf8_lossy(&text).trim().parse().map_err(|_| {
        EvalError::list(
            format!("{from}/{counted}").as_ref(),
            "expected the number of tars",
        )
    })?;
    fs::create_dir_all(to.join(split)).map_err(|error| EvalError::io(to, error))?;
    for name in BESIDE {
        let path = to.join(name);
        if path.is_file() {
            continue;
        }
        match small(&format!("{from}/{name}")) {
            Ok(bytes) => write(&path, |file| file.write_all(&bytes))?,
            Err(EvalError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    for at in 0..count {
        let name = format!("{split}/{at}.tar");
        let path = to.join(&name);
        if !path.is_file() {
            let address = format!("{from}/{name}");
            let mut stream = place(&address)?
                .open(Patience::default(), Watch::default())
                .map_err(|error| EvalError::io(address.as_ref(), error))?;
            write(&path, |file| io::copy(&mut stream, file).map(drop))?;
            log::info!("{address}: in {}", path.display());
        }
    }
    // Last, so that half a set is none.
    write(&to.join(counted), |file| file.write_all(&text))
}

fn place(address: &str) -> Result<Place, EvalError> {
    Ok(Place::parse(address)?)
}

fn small(address: &str) -> Result<Vec<u8>, EvalError> {
    place(address)?
        .read(MAX_BYTES, Patience::default(), Watch::default())
        .map_err(|error| EvalError::io(address.as_ref(), error))
}

fn write(
    path: &Path,
    content: impl FnOnce(&mut AtomicFile) -> io::Result<()>,
) -> Result<(), EvalError> {
    let io = |error| EvalError::io(path, error);
    let mut file = AtomicFile::create(path).map_err(io)?;
    content(&mut file).map_err(io)?;
    file.finish().map_err(io)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_is_copied_once_and_what_it_lacks_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("test")).unwrap();
        let error = fetch(from.to_str().unwrap(), "test", &to)
            .unwrap_err()
            .to_string();
        assert!(error.contains("test/nshards.txt"), "{error}");
        for (name, text) in [
            ("test/nshards.txt", "2\n"),
            ("test/0.tar", "a"),
            ("test/1.tar", "b"),
            ("classnames.txt", "x"),
        ] {
            fs::write(from.join(name), text).unwrap();
        }
        fetch(from.to_str().unwrap(), "test", &to).unwrap();
        assert_eq!(fs::read(to.join("test/1.tar")).unwrap(), b"b");
        assert!(to.join("classnames.txt").is_file() && !to.join("dataset_type.txt").exists());
        fs::write(from.join("test/1.tar"), "other").unwrap();
        fetch(from.to_str().unwrap(), "test", &to).unwrap();
        assert_eq!(fs::read(to.join("test/1.tar")).unwrap(), b"b");
    }
}
