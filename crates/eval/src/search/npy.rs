//! An `.npy` file whose numbers lie in memory as they lie on the disk.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::embeddings::Numbers;
use crate::error::EvalError;
use crate::npy::Header;

/// A matrix of a file.
#[derive(Debug)]
pub struct Matrix {
    path: PathBuf,
    map: Mmap,
    /// Where the numbers begin.
    start: usize,
    rows: usize,
    width: usize,
    numbers: Numbers,
}

impl Matrix {
    /// Opens a file of float16 or float32 numbers, `[rows, width]`, row by row.
    ///
    /// # Errors
    /// When it cannot be read, is no such file, or has another size than it says.
    pub fn open(path: &Path) -> Result<Self, EvalError> {
        let map = map(path)?;
        let broken = |reason: String| EvalError::Array {
            path: path.to_owned(),
            reason,
        };
        let header = Header::read(&map).map_err(broken)?;
        let (numbers, rows, width) = parse(&header).map_err(broken)?;
        let start = header.end;
        let size = rows.checked_mul(width * numbers.bytes());
        let found = map.len() - start;
        match size {
            Some(size) if size == found => Ok(Self {
                path: path.to_owned(),
                map,
                start,
                rows,
                width,
                numbers,
            }),
            _ => Err(broken(format!(
                "{found} bytes of numbers, where [{rows}, {width}] of {} take {}",
                numbers.descr(),
                size.map_or_else(|| "more than there can be".into(), |size| size.to_string())
            ))),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// What they are.
    pub fn numbers(&self) -> Numbers {
        self.numbers
    }

    /// All numbers as they lie in the file, the low byte first.
    pub fn bytes(&self) -> &[u8] {
        &self.map[self.start..]
    }

    /// One row.
    pub fn row(&self, row: usize) -> Vec<f32> {
        let size = self.width * self.numbers.bytes();
        let bytes = &self.bytes()[row * size..(row + 1) * size];
        match self.numbers {
            Numbers::Float16 => {
                let halves = bytes.as_chunks().0.iter();
                halves
                    .map(|half| half::f16::from_le_bytes(*half).to_f32())
                    .collect()
            }
            Numbers::Float32 => {
                let words = bytes.as_chunks().0.iter();
                words.map(|word| f32::from_le_bytes(*word)).collect()
            }
        }
    }
}

#[allow(
    unsafe_code,
    reason = "a file that is mapped and cut off by another program meanwhile ends this one; embedding files are never written in place"
)]
pub(super) fn map(path: &Path) -> Result<Mmap, EvalError> {
    let failed = |error| EvalError::io(path, error);
    let file = File::open(path).map_err(failed)?;
    // SAFETY: the file is only read here, and who writes embeddings gives a new file the name of an old one.
    unsafe { Mmap::map(&file) }.map_err(failed)
}

/// What numbers there are, how many rows, and how many in a row.
fn parse(header: &Header<'_>) -> Result<(Numbers, usize, usize), String> {
    let numbers = match header.kind() {
        "<f2" => Numbers::Float16,
        "<f4" => Numbers::Float32,
        other => {
            return Err(format!(
                "numbers of kind {other:?}; expected float16 (<f2) or float32 (<f4)"
            ));
        }
    };
    if !header.is_by_row() {
        return Err("column by column; expected an array row by row".into());
    }
    match header.sides().as_deref() {
        Some(&[rows, width]) if width > 0 => Ok((numbers, rows, width)),
        Some(&[width]) if width > 0 => Ok((numbers, 1, width)),
        _ => Err(format!(
            "of shape ({}); expected (rows, width)",
            header.shape()
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn open(header: &str, data: &[u8]) -> Result<Matrix, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.bytes());
        bytes.extend(data);
        std::fs::write(&path, bytes).unwrap();
        Matrix::open(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn numpys_own_headers() {
        let header = "{'descr': '<f2', 'fortran_order': False, 'shape': (2, 3), }      \n";
        let matrix = open(header, &[0, 0x3c, 0, 0x40, 0, 0, 0, 0xbc, 0, 0, 0, 0]).unwrap();
        assert_eq!((matrix.rows(), matrix.width()), (2, 3));
        assert_eq!(matrix.row(0), [1.0, 2.0, 0.0]);
        assert_eq!(matrix.row(1), [-1.0, 0.0, 0.0]);
        let one = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }\n";
        assert_eq!(open(one, &1.5_f32.to_le_bytes()).unwrap().row(0), [1.5]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let header = |descr: &str, order: &str, shape: &str| {
            format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n")
        };
        for (header, data, words) in [
            (header("<f2", "False", "(2, 3)"), 11, "11 bytes of numbers"),
            (header("<f8", "False", "(1, 1)"), 8, "<f8"),
            (header("<f2", "True", "(1, 1)"), 2, "row by row"),
            (
                header("<f2", "False", "(1, 1, 1)"),
                2,
                "expected (rows, width)",
            ),
            (
                header("<f2", "False", "(9999999999999999999, 3)"),
                2,
                "more than there can be",
            ),
            (
                header("<f2", "False", "(999999999999999999, 999)"),
                2,
                "more than there can be",
            ),
        ] {
            let error = open(&header, &vec![0; data]).unwrap_err();
            assert!(
                error.contains("a.npy: ") && error.contains(words),
                "{error}"
            );
        }
        let dir = tempfile::tempdir().unwrap();
        for (bytes, words) in [
            (&b"\x93NUMPY"[..], "cut off"),
            (b"\x93NUMPY\x01\0\xff", "cut off"),
            (b"\x93NUMPY\x01\0\xff\xff", "cut off"),
            (b"\x93NUMPY\x09\0\0\0", "version 9"),
            (b"hello, I am text", "not an .npy file"),
        ] {
            let path = dir.path().join("b.npy");
            std::fs::write(&path, bytes).unwrap();
            let error = Matrix::open(&path).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
