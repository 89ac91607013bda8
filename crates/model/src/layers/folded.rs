//! Convolutions for inference that stand for several layers: BatchNorm, parallel branches and skip connections are all linear
//! once the running statistics are fixed, so they fold into one kernel (structural re-parameterisation, "RepVGG",
//! <https://arxiv.org/abs/2101.03697>).

use std::sync::{Arc, OnceLock};

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, TensorData};

use super::conv::convolve;
use super::flex::depthwise::{Channels, depthwise};
use super::flex::packed::Packed;
use super::{Activation, BatchNorm2d, Conv2d, PatchEmbed};

/// A convolution with bias whose weights are no parameters: they follow from those of the layers it stands for, in f32.
#[derive(Debug, Clone)]
pub struct Folded {
    weight: Tensor<4>,
    bias: Tensor<1>,
    stride: usize,
    groups: usize,
    /// Made when it is first asked for; nothing where the device has its own way.
    packed: Arc<OnceLock<Option<Packed>>>,
}

/// What follows a convolution, on the CPU while its output is in the cache.
#[derive(Debug, Clone, Default)]
pub struct Tail {
    /// Added to the output.
    pub add: Option<Tensor<4>>,
    /// Behind that.
    pub activation: Option<Activation>,
}

impl From<Activation> for Tail {
    fn from(activation: Activation) -> Self {
        Self {
            add: None,
            activation: Some(activation),
        }
    }
}

impl Tail {
    fn forward(self, x: Tensor<4>) -> Tensor<4> {
        let x = match self.add {
            Some(add) => x + add,
            None => x,
        };
        match self.activation {
            Some(activation) => activation.forward(x),
            None => x,
        }
    }
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
        Self::of(weight, bias, conv.stride(), conv.groups())
    }

    /// Patches side by side.
    pub fn patches(patches: &PatchEmbed) -> Self {
        let weight = patches.weight.val().cast(DType::F32);
        let [output, _, side, _] = weight.dims();
        let bias = match &patches.bias {
            Some(bias) => bias.val().cast(DType::F32),
            None => Tensor::zeros([output], (&weight.device(), DType::F32)),
        };
        Self::of(weight, bias, side, 1)
    }

    fn of(weight: Tensor<4>, bias: Tensor<1>, stride: usize, groups: usize) -> Self {
        Self {
            weight,
            bias,
            stride,
            groups,
            packed: Arc::default(),
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
        Self::of(
            Tensor::from_data(weight, (device, DType::F32)),
            Tensor::zeros([channels], (device, DType::F32)),
            1,
            groups,
        )
    }

    /// Followed by `norm` in evaluation mode.
    #[must_use]
    pub fn norm(self, norm: &BatchNorm2d) -> Self {
        let [scale, shift] = norm.affine();
        let Self { weight, bias, .. } = self.clone().scaled(scale);
        Self::of(weight, bias + shift, self.stride, self.groups)
    }

    /// Followed by a factor per channel, `[output]`.
    #[must_use]
    pub fn scaled(self, factors: Tensor<1>) -> Self {
        let factors = factors.cast(DType::F32);
        let [output] = factors.dims();
        let weight = self.weight * factors.clone().reshape([output, 1, 1, 1]);
        Self::of(weight, self.bias * factors, self.stride, self.groups)
    }

    /// The sum with a parallel branch of the same stride and groups, whose kernel may have another odd side.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let side = self.side().max(other.side());
        let weight = self.padded(side) + other.padded(side);
        Self::of(weight, self.bias + other.bias, self.stride, self.groups)
    }

    /// `[batch, input, height, width]` → `[batch, output, …]` as [`Conv2d::forward`].
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let weight = self.weight.clone().cast(x.dtype());
        let bias = self.bias.clone().cast(x.dtype());
        convolve(x, weight, Some(bias), self.stride, self.groups)
    }

    /// The same with what follows, in either layout.
    pub fn with(&self, layout: Channels, x: Tensor<4>, tail: Tail) -> Tensor<4> {
        if layout == Channels::First {
            return tail.forward(self.forward(x));
        }
        let [outputs, inputs, kernel, _] = self.weight.dims();
        if self.groups == 1 && (kernel % 2 == 1 || kernel == self.stride) {
            let packed = || Packed::new(&self.weight, &self.bias, self.stride);
            let packed = self.packed.get_or_init(packed).as_ref();
            let curve = tail.activation.map(Activation::curve);
            let found = packed.and_then(|packed| packed.forward(&x, tail.add.as_ref(), curve));
            if let Some(found) = found {
                return found;
            }
        }
        if inputs == 1 {
            let [batch, height, width, channels] = x.dims();
            // Every output channel has one of its own.
            let each = outputs / channels.max(1);
            let x = match each {
                1 => x.clone(),
                _ => x
                    .clone()
                    .reshape([batch, height, width, channels, 1])
                    .repeat_dim(4, each)
                    .reshape([batch, height, width, outputs]),
            };
            let (weight, bias) = (&self.weight, Some(&self.bias));
            if let Some(found) = depthwise(layout, &x, weight, bias, self.stride) {
                return tail.forward(found);
            }
        }
        let x = self.forward(x.permute([0, 3, 1, 2]));
        tail.forward(x.permute([0, 2, 3, 1]))
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

    /// In evaluation, as [`Folded::with`].
    pub fn evaluate(&self, layout: Channels, x: Tensor<4>, tail: Tail) -> Tensor<4> {
        match &self.folded {
            Some(folded) => folded.with(layout, x, tail),
            None => self.folded().with(layout, x, tail),
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
