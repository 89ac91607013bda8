//! Matrix product in the dtype of the input.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, module};

use super::{flex, parameter};

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
        linear(x, self.weight.val().cast(dtype), bias)
    }
}

/// `x·weight + bias` for `x` `[…, input]` and weights `[input, output]` of one dtype.
pub(super) fn linear<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<D> {
    match flex::linear::linear(&x, &weight, bias.as_ref()) {
        Some(product) => product,
        None => module::linear(x, weight, bias),
    }
}
