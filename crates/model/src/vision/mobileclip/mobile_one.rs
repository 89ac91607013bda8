//! Convolutions of several parallel branches in training, which fold into one for inference.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::squeeze_excite::SqueezeExcite;
use crate::layers::batch_norm::PendingStatistics;
use crate::layers::folded::{ConvNorm, Folded, Tail};
use crate::layers::{Activation, BatchNorm2d, Channels, Conv2d};

/// Sizes and switches of a [`MobileOneBlock`].
#[derive(Debug, Clone, Copy)]
pub struct MobileOneConfig {
    /// Channels before it.
    pub input: usize,
    /// Channels behind it.
    pub output: usize,
    /// Side of the kernel, odd.
    pub kernel: usize,
    /// Pixels between neighbours of the output.
    pub stride: usize,
    /// Every output channel sees one input channel.
    pub depthwise: bool,
    /// A branch with the whole kernel.
    pub convolution: bool,
    /// A branch with a kernel of one pixel, beside a larger one.
    pub scale_branch: bool,
    /// Reduced features of the squeeze-and-excite gate behind the sum; no gate when absent.
    pub gate: Option<usize>,
    /// Non-linearity at the end.
    pub activation: Option<Activation>,
}

impl MobileOneConfig {
    /// `channels` to as many, one kernel per channel, stride 1, nothing behind the sum.
    pub fn mixing(channels: usize, kernel: usize) -> Self {
        Self {
            input: channels,
            output: channels,
            kernel,
            stride: 1,
            depthwise: true,
            convolution: true,
            scale_branch: true,
            gate: None,
            activation: None,
        }
    }

    fn branch(&self, kernel: usize, pending: &PendingStatistics, device: &Device) -> ConvNorm {
        let Self {
            input,
            output,
            stride,
            ..
        } = *self;
        let conv = match self.depthwise {
            true => Conv2d::depthwise(input, output, kernel, stride, device),
            false => Conv2d::new(input, output, kernel, stride, device),
        };
        ConvNorm::new(conv, BatchNorm2d::new(output, pending, device))
    }
}

/// Sum of a convolution, the same with one pixel, and the input, each behind a BatchNorm; then gate and non-linearity
/// ("MobileOne", <https://arxiv.org/abs/2206.04040>; timm's `MobileOneBlock`).
#[derive(Module, Debug)]
pub struct MobileOneBlock {
    /// Gate behind the sum.
    pub se: Option<SqueezeExcite>,
    /// The input's branch, where its shape is the output's.
    pub identity: Option<BatchNorm2d>,
    /// Branches with the whole kernel; one or none.
    pub conv_kxk: Vec<ConvNorm>,
    /// Branch with a kernel of one pixel.
    pub conv_scale: Option<ConvNorm>,
    #[module(skip)]
    groups: usize,
    #[module(skip)]
    activation: Option<Activation>,
    #[module(skip)]
    folded: Option<Folded>,
}

impl MobileOneBlock {
    /// Builds the branches.
    pub fn new(config: &MobileOneConfig, pending: &PendingStatistics, device: &Device) -> Self {
        let same = config.input == config.output && config.stride == 1;
        let whole = config
            .convolution
            .then(|| config.branch(config.kernel, pending, device));
        let scale = config.scale_branch && config.kernel > 1;
        Self {
            se: config
                .gate
                .map(|reduced| SqueezeExcite::new(config.output, reduced, device)),
            identity: same.then(|| BatchNorm2d::new(config.input, pending, device)),
            conv_kxk: whole.into_iter().collect(),
            conv_scale: scale.then(|| config.branch(1, pending, device)),
            groups: if config.depthwise { config.input } else { 1 },
            activation: config.activation,
            folded: None,
        }
    }

    /// As [`Conv2d::forward`].
    pub fn forward(&self, x: Tensor<4>, training: bool) -> Tensor<4> {
        let sum = match &self.folded {
            Some(folded) if !training => folded.forward(x),
            _ => self.branches(x, training),
        };
        finish(sum, &self.se, self.activation)
    }

    /// The same in evaluation with channels last, once it is folded.
    pub fn evaluate(&self, x: Tensor<4>) -> Option<Tensor<4>> {
        let folded = self.folded.as_ref()?;
        Some(evaluate(folded, x, &self.se, self.activation))
    }

    fn branches(&self, x: Tensor<4>, training: bool) -> Tensor<4> {
        let identity = self.identity.iter();
        let identity = identity.map(|norm| norm.forward(x.clone(), training));
        let convolutions = self.conv_scale.iter().chain(&self.conv_kxk);
        let convolutions = convolutions.map(|branch| branch.forward(x.clone(), training));
        let sum = identity.chain(convolutions).reduce(|sum, x| sum + x);
        sum.unwrap_or_else(|| x.zeros_like())
    }

    /// The branches as one convolution; gate and non-linearity are not in it. Nothing where there is no branch.
    pub fn folded(&self) -> Option<Folded> {
        let identity = self.identity.iter().map(|norm| {
            let [channels] = norm.weight.dims();
            Folded::identity(channels, self.groups, &norm.weight.device()).norm(norm)
        });
        let convolutions = self.conv_scale.iter().chain(&self.conv_kxk);
        let convolutions = convolutions.map(ConvNorm::folded);
        convolutions.chain(identity).reduce(Folded::plus)
    }

    /// Makes evaluation use one convolution.
    pub fn fold(&mut self) {
        self.folded = self.folded();
    }
}

/// What follows the sum of branches.
fn finish(
    sum: Tensor<4>,
    gate: &Option<SqueezeExcite>,
    activation: Option<Activation>,
) -> Tensor<4> {
    let gated = match gate {
        Some(gate) => gate.forward(sum),
        None => sum,
    };
    match activation {
        Some(activation) => activation.forward(gated),
        None => gated,
    }
}

/// One convolution and what follows it, channels last.
fn evaluate(
    folded: &Folded,
    x: Tensor<4>,
    gate: &Option<SqueezeExcite>,
    activation: Option<Activation>,
) -> Tensor<4> {
    let Some(gate) = gate else {
        let add = None;
        return folded.with(Channels::Last, x, Tail { add, activation });
    };
    let gated = gate.forward_channels_last(folded.with(Channels::Last, x, Tail::default()));
    match activation {
        Some(activation) => activation.forward(gated),
        None => gated,
    }
}

/// Sum of a large and a small depthwise convolution ("RepLKNet", <https://arxiv.org/abs/2203.06717>; timm's
/// `ReparamLargeKernelConv`), then gate and non-linearity.
#[derive(Module, Debug)]
pub struct ReparamLargeKernelConv {
    /// With the large kernel.
    pub large_conv: ConvNorm,
    /// With the small one.
    pub small_conv: ConvNorm,
    /// Gate behind the sum.
    pub se: Option<SqueezeExcite>,
    #[module(skip)]
    activation: Option<Activation>,
    #[module(skip)]
    folded: Option<Folded>,
}

impl ReparamLargeKernelConv {
    /// Side of the small kernel.
    const SMALL: usize = 3;

    /// The branches of `config` with its kernel and the small one.
    pub fn new(config: &MobileOneConfig, pending: &PendingStatistics, device: &Device) -> Self {
        Self {
            large_conv: config.branch(config.kernel, pending, device),
            small_conv: config.branch(Self::SMALL, pending, device),
            se: config
                .gate
                .map(|reduced| SqueezeExcite::new(config.output, reduced, device)),
            activation: config.activation,
            folded: None,
        }
    }

    /// As [`Conv2d::forward`].
    pub fn forward(&self, x: Tensor<4>, training: bool) -> Tensor<4> {
        let sum = match &self.folded {
            Some(folded) if !training => folded.forward(x),
            _ => {
                self.large_conv.forward(x.clone(), training) + self.small_conv.forward(x, training)
            }
        };
        finish(sum, &self.se, self.activation)
    }

    /// The same in evaluation with channels last, once it is folded.
    pub fn evaluate(&self, x: Tensor<4>) -> Option<Tensor<4>> {
        let folded = self.folded.as_ref()?;
        Some(evaluate(folded, x, &self.se, self.activation))
    }

    /// Makes evaluation use one convolution.
    pub fn fold(&mut self) {
        self.folded = Some(self.large_conv.folded().plus(self.small_conv.folded()));
    }
}
