//! Tensors to the host.

use burn::tensor::{Tensor, TensorReadError};

use crate::error::EvalError;

/// Values on the host, row-major.
///
/// # Errors
/// When the device does not hand them back.
pub fn host<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, EvalError> {
    tensor
        .try_into_vec_as()
        .map_err(|error: TensorReadError| EvalError::Device(error.to_string()))
}
