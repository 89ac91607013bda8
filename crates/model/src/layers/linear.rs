//! Matrix product in the dtype of the input.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, module};

use super::{flex, parameter};
use crate::device::is_flex;

/// Most rows that `flex` multiplies faster one after the other: for one row it streams the weights, for a few it walks them
/// column by column, at a quarter of the speed.
const FEW_ROWS: usize = 8;

/// Weights that are read again for the next row should still be in the processor's cache then.
const CACHED: usize = 1 << 22;

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
    let [input, output] = weight.dims();
    let mut dims = x.dims();
    let rows: usize = dims[..D - 1].iter().product();
    if let Some(product) = flex::linear::linear(&x, &weight, bias.as_ref()) {
        return product;
    }
    let few = (2..=FEW_ROWS).contains(&rows) && input * output <= CACHED;
    if !few || x.is_autodiff() || !is_flex(&x.device()) {
        return module::linear(x, weight, bias);
    }
    let x = x.reshape([rows, input]);
    let row = |i| {
        module::linear(
            x.clone().slice_dim(0, i..i + 1),
            weight.clone(),
            bias.clone(),
        )
    };
    dims[D - 1] = output;
    Tensor::cat((0..rows).map(row).collect(), 0).reshape(dims)
}
