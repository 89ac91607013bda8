//! A gate per channel ("Squeeze-and-Excitation Networks", <https://arxiv.org/abs/1709.01507>).

use burn::module::Module;
use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::{Device, Tensor};

use crate::layers::Conv2d;

/// Multiplies every channel by a number between 0 and 1 that depends on the means of all channels.
#[derive(Module, Debug)]
pub struct SqueezeExcite {
    /// `channels → reduced`.
    pub fc1: Conv2d,
    /// `reduced → channels`.
    pub fc2: Conv2d,
}

impl SqueezeExcite {
    /// A gate for `channels` from `reduced` features.
    pub fn new(channels: usize, reduced: usize, device: &Device) -> Self {
        Self {
            fc1: Conv2d::new(channels, reduced, 1, 1, device).biased(device),
            fc2: Conv2d::new(reduced, channels, 1, 1, device).biased(device),
        }
    }

    /// `[batch, channels, height, width]` → the same shape.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        let mean = x
            .clone()
            .reshape([batch, channels, height * width])
            .mean_dim(2)
            .reshape([batch, channels, 1, 1]);
        x * sigmoid(self.fc2.forward(relu(self.fc1.forward(mean))))
    }

    /// `[batch, height, width, channels]` → the same shape.
    pub fn forward_channels_last(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, height, width, channels] = x.dims();
        let mean = x.clone().reshape([batch, height * width, channels]);
        let mean = mean.mean_dim(1).reshape([batch, 1, 1, channels]);
        let gate = relu(self.fc1.forward_channels_last(mean));
        x * sigmoid(self.fc2.forward_channels_last(gate))
    }
}
