//! Convolutions for inference that stand for several layers: BatchNorm, parallel branches and skip connections are all linear
//! once the running statistics are fixed, so they fold into one kernel (structural re-parameterisation, "RepVGG",
//! <https://arxiv.org/abs/2101.03697>).

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, TensorData};

use super::conv::convolve;
use super::{BatchNorm2d, Conv2d};

/// A convolution with bias whose weights are no parameters: they follow from those of the layers it stands for, in f32.
#[derive(Debug, Clone)]
pub struct Folded {
    weight: Tensor<4>,
    bias: Tensor<1>,
    stride: usize,
    groups: usize,
}

impl Folded {
    /// `conv` alone.
    pub fn conv(conv: &Conv2d) -> Self {
        let weight = conv.weight.val().cast(DType::F32);
        let [output, ..] = weight.dims();
        let bias = match &conv.bias {
            Some(bias) => bias.val().cast(DType::F32),
            None => Tensor::zeros([output], (&weight.device(), DType::F32)),
        };
        Self {
            weight,
            bias,
            stride: conv.stride(),
            groups: conv.groups(),
        }
    }

    /// What gives back its input of `channels`, as a kernel of one pixel in `groups`.
    pub fn identity(channels: usize, groups: usize, device: &Device) -> Self {
        let inputs = channels / groups;
        let mut weight = vec![0.0_f32; channels * inputs];
        for channel in 0..channels {
            weight[channel * inputs + channel % inputs] = 1.0;
        }
        let weight = TensorData::new(weight, [channels, inputs, 1, 1]);
        Self {
            weight: Tensor::from_data(weight, (device, DType::F32)),
            bias: Tensor::zeros([channels], (device, DType::F32)),
            stride: 1,
            groups,
        }
    }

    /// Followed by `norm` in evaluation mode.
    #[must_use]
    pub fn norm(self, norm: &BatchNorm2d) -> Self {
        let [scale, shift] = norm.affine();
        let scaled = self.scaled(scale);
        Self {
            bias: scaled.bias + shift,
            ..scaled
        }
    }

    /// Followed by a factor per channel, `[output]`.
    #[must_use]
    pub fn scaled(self, factors: Tensor<1>) -> Self {
        let factors = factors.cast(DType::F32);
        let [output] = factors.dims();
        Self {
            weight: self.weight * factors.clone().reshape([output, 1, 1, 1]),
            bias: self.bias * factors,
            ..self
        }
    }

    /// The sum with a parallel branch of the same stride and groups, whose kernel may have another odd side.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let side = self.side().max(other.side());
        Self {
            weight: self.padded(side) + other.padded(side),
            bias: self.bias + other.bias,
            ..self
        }
    }

    /// `[batch, input, height, width]` → `[batch, output, …]` as [`Conv2d::forward`].
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let weight = self.weight.clone().cast(x.dtype());
        let bias = self.bias.clone().cast(x.dtype());
        convolve(x, weight, Some(bias), self.stride, self.groups)
    }

    fn side(&self) -> usize {
        let [_, _, side, _] = self.weight.dims();
        side
    }

    fn padded(&self, side: usize) -> Tensor<4> {
        match (side - self.side()) / 2 {
            0 => self.weight.clone(),
            edge => self.weight.clone().pad([(edge, edge); 2], 0.0),
        }
    }
}

/// A convolution and BatchNorm, under the names of timm's `ConvNormAct`.
#[derive(Module, Debug)]
pub struct ConvNorm {
    /// Without bias.
    pub conv: Conv2d,
    /// Behind it.
    pub bn: BatchNorm2d,
    #[module(skip)]
    folded: Option<Folded>,
}

impl ConvNorm {
    /// Both layers.
    pub fn new(conv: Conv2d, bn: BatchNorm2d) -> Self {
        Self {
            conv,
            bn,
            folded: None,
        }
    }

    /// As [`Conv2d::forward`].
    pub fn forward(&self, x: Tensor<4>, training: bool) -> Tensor<4> {
        match &self.folded {
            Some(folded) if !training => folded.forward(x),
            _ => self.bn.forward(self.conv.forward(x), training),
        }
    }

    /// Both as one convolution.
    pub fn folded(&self) -> Folded {
        Folded::conv(&self.conv).norm(&self.bn)
    }

    /// Makes evaluation use one convolution.
    pub fn fold(&mut self) {
        self.folded = Some(self.folded());
    }
}
