//! Two-dimensional convolution.

use burn::module::{Module, Param};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor, module};

use super::parameter;

/// A convolution without bias whose padding keeps the size at stride 1, computed in the dtype of its input.
#[derive(Module, Debug)]
pub struct Conv2d {
    /// `[output, input, kernel, kernel]`.
    pub weight: Param<Tensor<4>>,
    #[module(skip)]
    stride: usize,
}

impl Conv2d {
    /// From `input` to `output` channels with a square kernel of odd side.
    pub fn new(input: usize, output: usize, kernel: usize, stride: usize, device: &Device) -> Self {
        Self {
            weight: parameter([output, input, kernel, kernel], device),
            stride,
        }
    }

    /// `[batch, input, height, width]` → `[batch, output, ⌈height / stride⌉, ⌈width / stride⌉]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let weight = self.weight.val().cast(x.dtype());
        let [output, input, kernel, _] = weight.dims();
        if kernel == 1 && self.stride == 1 {
            // A matrix product, whose backward pass is two more.
            let [batch, _, height, width] = x.dims();
            let x = x.reshape([batch, input, height * width]);
            let weight = weight.reshape([1, output, input]);
            return weight.matmul(x).reshape([batch, output, height, width]);
        }
        let padding = kernel / 2;
        let options = ConvOptions::new([self.stride; 2], [padding; 2], [1, 1], 1);
        module::conv2d(x, weight, None, options)
    }
}
