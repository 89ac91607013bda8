//! A tensor on its way into a weights file.

use std::borrow::Cow;
use std::path::Path;

use half::{bf16, f16};

use super::error::WeightsError;
use super::tensor::DType;

/// A tensor to be written.
#[derive(Debug, Clone)]
pub struct TensorOut<'a> {
    /// Key in the file.
    pub key: &'a str,
    /// Element type in the file.
    pub dtype: DType,
    /// Extents, outermost first.
    pub shape: &'a [usize],
    /// Elements in row-major order, little-endian.
    pub bytes: Cow<'a, [u8]>,
}

impl<'a> TensorOut<'a> {
    /// `values` of `shape`, written as `f32`.
    pub fn f32(key: &'a str, shape: &'a [usize], values: &'a [f32]) -> Self {
        Self {
            key,
            dtype: DType::F32,
            shape,
            bytes: Cow::Borrowed(bytemuck::cast_slice(values)),
        }
    }

    /// `values` of `shape`, rounded to the 16-bit floats `dtype`; as `f32` for every other type.
    pub fn floats(key: &'a str, shape: &'a [usize], values: &'a [f32], dtype: DType) -> Self {
        let halves: Vec<u8> = match dtype {
            DType::F16 => values
                .iter()
                .flat_map(|value| f16::from_f32(*value).to_le_bytes())
                .collect(),
            DType::BF16 => values
                .iter()
                .flat_map(|value| bf16::from_f32(*value).to_le_bytes())
                .collect(),
            _ => return Self::f32(key, shape, values),
        };
        Self {
            key,
            dtype,
            shape,
            bytes: Cow::Owned(halves),
        }
    }

    /// # Errors
    /// [`WeightsError::Tensor`] of `file` when the bytes do not fit the shape.
    pub(super) fn check(&self, file: &Path) -> Result<(), WeightsError> {
        let numel: usize = self.shape.iter().product();
        if numel * self.dtype.size() == self.bytes.len() {
            return Ok(());
        }
        Err(WeightsError::Tensor {
            file: file.to_path_buf(),
            key: self.key.to_string(),
            reason: format!(
                "shape {:?} does not fit {} bytes",
                self.shape,
                self.bytes.len()
            ),
        })
    }
}
