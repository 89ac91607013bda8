//! Depthwise convolution: every channel has its own kernel.
//!
//! On the CPU, `flex/depthwise.rs` computes it and its derivative where the channels are, last; on other devices Burn's grouped
//! convolution does.

use burn::module::{Module, Param};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor, module};

use super::flex::depthwise::{Channels, depthwise};
use super::parameter;

/// A square kernel of odd side per channel, stride 1, and zeros around the picture so that its size stays.
#[derive(Module, Debug)]
pub struct DepthwiseConv {
    /// `[channels, 1, side, side]`.
    pub weight: Param<Tensor<4>>,
    /// `[channels]`.
    pub bias: Param<Tensor<1>>,
}

impl DepthwiseConv {
    /// A convolution over `channels` with kernels of `side`, which is odd.
    pub fn new(channels: usize, side: usize, device: &Device) -> Self {
        Self {
            weight: parameter([channels, 1, side, side], device),
            bias: parameter([channels], device),
        }
    }

    /// `[batch, height, width, channels]` → the same shape.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let dtype = x.dtype();
        let [channels, _, side, _] = self.weight.dims();
        let weight = self.weight.val().cast(dtype);
        let bias = self.bias.val().cast(dtype);
        if let Some(output) = depthwise(Channels::Last, &x, &weight, Some(&bias), 1) {
            return output;
        }
        let pad = side / 2;
        let options = ConvOptions::new([1, 1], [pad, pad], [1, 1], channels);
        let x = x.permute([0, 3, 1, 2]);
        module::conv2d(x, weight, Some(bias), options).permute([0, 2, 3, 1])
    }
}
