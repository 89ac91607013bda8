//! What tells the weights of a model from others.

use burn::module::Param;
use burn::tensor::{Tensor, TensorReadError};
use openclip_model::Clip;
use openclip_model::params::{self, Pick};
use twox_hash::xxhash3_128::Hasher;

use crate::error::EvalError;

/// A hash of the values of all parameters, in their order, in hexadecimal digits; whatever the file that they came from.
///
/// # Errors
/// When the device does not hand one back.
pub fn fingerprint(model: &Clip) -> Result<String, EvalError> {
    let mut sum = Sum(Hasher::new());
    params::export_with(model, &mut sum)?;
    Ok(format!("{:032x}", sum.0.finish_128()))
}

/// Takes in each parameter and gives none of it out: one at a time is on the host.
struct Sum(Hasher);

impl Pick for Sum {
    fn pick<const D: usize>(&mut self, param: &Param<Tensor<D>>) -> Option<Tensor<D>> {
        Some(param.val())
    }

    fn read<const D: usize>(&mut self, tensor: Tensor<D>) -> Result<Vec<f32>, TensorReadError> {
        for side in tensor.dims() {
            self.0.write(&(side as u64).to_le_bytes());
        }
        let values: Vec<f32> = tensor.try_into_vec_as()?;
        for slice in values.chunks(SLICE) {
            let bytes: Vec<u8> = slice.iter().flat_map(|value| value.to_le_bytes()).collect();
            self.0.write(&bytes);
        }
        Ok(Vec::new())
    }
}

/// Values that are taken in together.
const SLICE: usize = 1 << 14;
