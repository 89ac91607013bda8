//! One float32 matrix in NumPy's `.npy` format, version 1.0.
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>

use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use openclip_model::files::atomic::AtomicFile;

use crate::error::EvalError;

/// Bytes before the data. The row count is known at the end only, so the header has room for any count.
const HEADER: usize = 128;

pub(super) struct NpyWriter {
    file: AtomicFile,
    width: usize,
    rows: u64,
    bytes: Vec<u8>,
}

impl NpyWriter {
    pub(super) fn create(path: &Path, width: usize) -> Result<Self, EvalError> {
        let create = || {
            let mut file = AtomicFile::create(path)?;
            file.write_all(&header(0, width))?;
            Ok(file)
        };
        Ok(Self {
            file: create().map_err(|error: io::Error| EvalError::io(path, error))?,
            width,
            rows: 0,
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
        self.bytes
            .extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let written = self.file.write_all(&self.bytes);
        written.map_err(|error| EvalError::io(self.file.path(), error))?;
        self.rows += rows as u64;
        Ok(())
    }

    /// Fixes up the header and returns the number of rows.
    pub(super) fn finish(self) -> Result<u64, EvalError> {
        let Self {
            mut file,
            width,
            rows,
            ..
        } = self;
        let path = file.path().to_owned();
        let finish = || {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&header(rows, width))?;
            file.finish()
        };
        finish().map_err(|error| EvalError::io(&path, error))?;
        Ok(rows)
    }
}

fn header(rows: u64, width: usize) -> Vec<u8> {
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend(((HEADER - 10) as u16).to_le_bytes());
    header.extend(
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {width}), }}")
            .into_bytes(),
    );
    header.resize(HEADER - 1, b' ');
    header.push(b'\n');
    header
}
