//! Matrix product in the dtype of the input.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, module};

use super::parameter;

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

    /// `[…, input]` → `[…, output]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let dtype = x.dtype();
        let bias = self.bias.as_ref().map(|bias| bias.val().cast(dtype));
        module::linear(x, self.weight.val().cast(dtype), bias)
    }
}
