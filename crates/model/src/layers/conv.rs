//! Two-dimensional convolution.

use burn::module::{Module, Param};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor, module};

use super::flex::dense::dense;
use super::flex::depthwise::{Channels, depthwise};
use super::linear::linear;
use super::parameter;
use super::patch::project_patches;
use crate::device::is_flex;

/// A convolution computed in the dtype of its input.
///
/// Its padding keeps the size at stride 1; with a stride as long as its kernel it has none, and pixels that fill no kernel at the
/// right and bottom edge are left out.
#[derive(Module, Debug)]
pub struct Conv2d {
    /// `[output, input / groups, kernel, kernel]`.
    pub weight: Param<Tensor<4>>,
    /// `[output]`.
    pub bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    stride: usize,
    #[module(skip)]
    groups: usize,
}

impl Conv2d {
    /// From `input` to `output` channels with a square kernel, whose side is odd or the stride; without bias.
    pub fn new(input: usize, output: usize, kernel: usize, stride: usize, device: &Device) -> Self {
        Self {
            weight: parameter([output, input, kernel, kernel], device),
            bias: None,
            stride,
            groups: 1,
        }
    }

    /// The same with one input channel per output channel, which are a multiple of the input's.
    pub fn depthwise(
        input: usize,
        output: usize,
        kernel: usize,
        stride: usize,
        device: &Device,
    ) -> Self {
        Self {
            groups: input,
            ..Self::new(1, output, kernel, stride, device)
        }
    }

    /// With a bias.
    #[must_use]
    pub fn biased(self, device: &Device) -> Self {
        // Without the weight, which is not there yet.
        let output = self.weight.lazy_shape()[0];
        Self {
            bias: Some(parameter([output], device)),
            ..self
        }
    }

    /// Pixels between neighbours of the output.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Groups of channels that do not see each other.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// `[batch, input, height, width]` → `[batch, output, ⌈height / stride⌉, ⌈width / stride⌉]`, rounded down where the stride is
    /// the kernel.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let weight = self.weight.val().cast(x.dtype());
        let bias = self.bias.as_ref().map(|bias| bias.val().cast(x.dtype()));
        convolve(x, weight, bias, self.stride, self.groups)
    }

    /// The same on `[batch, height, width, input]`, to `[batch, …, …, output]`.
    pub fn forward_channels_last(&self, x: Tensor<4>) -> Tensor<4> {
        let [output, input, kernel, _] = self.weight.dims();
        let weight = self.weight.val().cast(x.dtype());
        let bias = self.bias.as_ref().map(|bias| bias.val().cast(x.dtype()));
        if self.groups == 1 && kernel == 1 && self.stride == 1 {
            return linear(x, weight.reshape([output, input]).transpose(), bias);
        }
        if self.groups == output {
            let bias = bias.as_ref();
            if let Some(found) = depthwise(Channels::Last, &x, &weight, bias, self.stride) {
                return found;
            }
        }
        self.forward(x.permute([0, 3, 1, 2])).permute([0, 2, 3, 1])
    }
}

/// The convolution of a [`Conv2d`] with weights in the dtype of `x`.
pub(crate) fn convolve(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    stride: usize,
    groups: usize,
) -> Tensor<4> {
    let [output, input, kernel, _] = weight.dims();
    let [batch, channels, height, width] = x.dims();
    if groups == 1 && kernel == 1 && stride == 1 && (x.is_autodiff() || !is_flex(&x.device())) {
        // A matrix product, whose backward pass is two more. Without one, `flex` computes the convolution itself in half to all of
        // the time.
        let x = x.reshape([batch, input, height * width]);
        let product = weight.reshape([1, output, input]).matmul(x);
        let product = match bias {
            Some(bias) => product + bias.reshape([1, output, 1]),
            None => product,
        };
        return product.reshape([batch, output, height, width]);
    }
    if groups == 1 && kernel == stride && kernel > 1 {
        let (rows, columns) = (height / stride, width / stride);
        return project_patches(x, weight, bias)
            .swap_dims(1, 2)
            .reshape([batch, output, rows, columns]);
    }
    if groups == channels && output == channels && kernel == 1 && stride == 1 {
        let product = x * weight.reshape([1, output, 1, 1]);
        return match bias {
            Some(bias) => product + bias.reshape([1, output, 1, 1]),
            None => product,
        };
    }
    if groups == channels && output > channels {
        // What follows is fast where every channel has one kernel.
        let each = output / channels;
        let x = x
            .reshape([batch, channels, 1, height * width])
            .expand([batch, channels, each, height * width])
            .reshape([batch, output, height, width]);
        return convolve(x, weight, bias, stride, output);
    }
    let found = match groups {
        1 => dense(&x, &weight, bias.as_ref(), stride),
        _ if groups == output => depthwise(Channels::First, &x, &weight, bias.as_ref(), stride),
        _ => None,
    };
    if let Some(found) = found {
        return found;
    }
    let padding = kernel / 2;
    let options = ConvOptions::new([stride; 2], [padding; 2], [1, 1], groups);
    module::conv2d(x, weight, bias, options)
}
