//! Matrix product in the dtype of the input.

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Tensor, module};

use super::flex::linear::Layer;
use super::{flex, parameter};
use crate::device::is_recorded;

/// `y = x·W + b`, computed in the dtype of `x`.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[input, output]`, the transpose of PyTorch's layout.
    pub weight: Param<Tensor<2>>,
    /// `[output]`.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// A layer from `input` to `output` features.
    pub fn new(input: usize, output: usize, bias: bool, device: &Device) -> Self {
        Self {
            weight: parameter([input, output], device),
            bias: bias.then(|| parameter([output], device)),
        }
    }

    /// Its parameters in f32.
    pub(super) fn in_f32(&self) -> Layer {
        let bias = self.bias.as_ref();
        let bias = bias.map(|bias| bias.val().cast(DType::F32));
        (self.weight.val().cast(DType::F32), bias)
    }

    /// `[…, input]` → `[…, output]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let dtype = x.dtype();
        let bias = self.bias.as_ref().map(|bias| bias.val().cast(dtype));
        linear(x, self.weight.val().cast(dtype), bias)
    }
}

/// `x·weight + bias` for `x` `[…, input]` and weights `[input, output]` of one dtype.
pub(crate) fn linear<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<D> {
    match flex::linear::linear(&x, &weight, bias.as_ref()) {
        Some(product) => product,
        // Burn's layer is of one operation or another by the size of the batch.
        None if is_recorded(&x) => {
            let product = x.matmul(weight.unsqueeze());
            match bias {
                Some(bias) => product + bias.unsqueeze(),
                None => product,
            }
        }
        None => module::linear(x, weight, bias),
    }
}
