//! One matrix in NumPy's `.npy` format, version 1.0.
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>

use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use half::f16;
use half::slice::HalfFloatSliceExt;
use openclip_model::files::atomic::AtomicFile;
use serde::{Deserialize, Serialize};

use crate::error::EvalError;

/// Bytes before the data. The row count is known at the end only, so the header has room for any count.
const HEADER: usize = 128;

/// The numbers of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Numbers {
    /// 16 bits.
    Float16,
    /// 32 bits.
    Float32,
}

impl Numbers {
    /// NumPy's word for them, of the low byte first.
    pub(crate) fn descr(self) -> &'static str {
        match self {
            Self::Float16 => "<f2",
            Self::Float32 => "<f4",
        }
    }

    /// Bytes of one.
    pub fn bytes(self) -> usize {
        match self {
            Self::Float16 => 2,
            Self::Float32 => 4,
        }
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Array {
    /// Its rows.
    pub rows: u64,
    /// CRC-32 of its values as they lie in the file.
    pub crc32: u32,
}

pub(super) struct NpyWriter {
    file: AtomicFile,
    width: usize,
    numbers: Numbers,
    rows: u64,
    sum: crc32fast::Hasher,
    narrow: Vec<f16>,
    bytes: Vec<u8>,
}

impl NpyWriter {
    pub(super) fn create(path: &Path, width: usize, numbers: Numbers) -> Result<Self, EvalError> {
        let create = || {
            let mut file = AtomicFile::create(path)?;
            file.write_all(&header(0, width, numbers))?;
            Ok(file)
        };
        Ok(Self {
            file: create().map_err(|error: io::Error| EvalError::io(path, error))?,
            width,
            numbers,
            rows: 0,
            sum: crc32fast::Hasher::new(),
            narrow: Vec::new(),
            bytes: Vec::new(),
        })
    }

    pub(super) fn append(&mut self, values: &[f32], rows: usize) -> Result<(), EvalError> {
        if rows.checked_mul(self.width) != Some(values.len()) {
            return Err(EvalError::Rows {
                values: values.len(),
                rows,
                width: self.width,
            });
        }
        self.bytes.clear();
        match self.numbers {
            Numbers::Float32 => {
                let bytes = values.iter().flat_map(|value| value.to_le_bytes());
                self.bytes.extend(bytes);
            }
            Numbers::Float16 => {
                self.narrow.resize(values.len(), f16::ZERO);
                self.narrow.convert_from_f32_slice(values);
                let bytes = self.narrow.iter().flat_map(|value| value.to_le_bytes());
                self.bytes.extend(bytes);
            }
        }
        self.sum.update(&self.bytes);
        let written = self.file.write_all(&self.bytes);
        written.map_err(|error| EvalError::io(self.file.path(), error))?;
        self.rows += rows as u64;
        Ok(())
    }

    /// Fixes up the header and gives the file its name.
    pub(super) fn finish(self) -> Result<Array, EvalError> {
        let Self {
            mut file,
            width,
            numbers,
            rows,
            sum,
            ..
        } = self;
        let path = file.path().to_owned();
        let finish = || {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&header(rows, width, numbers))?;
            file.finish()
        };
        finish().map_err(|error| EvalError::io(&path, error))?;
        Ok(Array {
            rows,
            crc32: sum.finalize(),
        })
    }
}

fn header(rows: u64, width: usize, numbers: Numbers) -> Vec<u8> {
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend(((HEADER - 10) as u16).to_le_bytes());
    let descr = numbers.descr();
    header.extend(
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {width}), }}")
            .into_bytes(),
    );
    header.resize(HEADER - 1, b' ');
    header.push(b'\n');
    header
}
