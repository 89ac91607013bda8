//! LayerNorm, RMSNorm and LayerScale.

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Tensor, module};

use super::flex::norm::{Norm, layer_norm};
use super::parameter;

/// LayerNorm over the last axis, computed in f32 whatever the dtype of its input.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// `[width]`.
    pub weight: Param<Tensor<1>>,
    /// `[width]`.
    pub bias: Param<Tensor<1>>,
    /// Added to the variance.
    #[module(skip)]
    eps: f64,
}

impl LayerNorm {
    /// A norm over `width` features.
    pub fn new(width: usize, eps: f64, device: &Device) -> Self {
        Self {
            weight: parameter([width], device),
            bias: parameter([width], device),
            eps,
        }
    }

    /// Added to the variance.
    pub(super) fn eps(&self) -> f64 {
        self.eps
    }

    /// The norm in evaluation mode, in f32 on the CPU.
    pub(crate) fn folded(&self) -> Option<Norm> {
        Norm::of(&self.weight.val(), &self.bias.val(), self.eps)
    }

    /// `[…, width]` → `[…, width]` in the dtype of `x`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let dtype = x.dtype();
        let weight = self.weight.val().cast(DType::F32);
        let bias = self.bias.val().cast(DType::F32);
        let x = x.cast(DType::F32);
        let normal = match layer_norm(&x, &weight, &bias, self.eps) {
            Some(normal) => normal,
            None => module::layer_norm(x, weight, Some(bias), self.eps),
        };
        normal.cast(dtype)
    }
}

/// Division by the root of the mean square over the last axis, computed in f32 (Zhang and Sennrich 2019,
/// <https://arxiv.org/abs/1910.07467>; T5's `LayerNorm`).
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// `[width]`.
    pub weight: Param<Tensor<1>>,
    /// Added to the mean square.
    #[module(skip)]
    eps: f64,
}

impl RmsNorm {
    /// A norm over `width` features.
    pub fn new(width: usize, eps: f64, device: &Device) -> Self {
        Self {
            weight: parameter([width], device),
            eps,
        }
    }

    /// `[batch, tokens, width]` → the same shape in the dtype of `x`.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let dtype = x.dtype();
        let x = x.cast(DType::F32);
        let mean_square = x.clone().square().mean_dim(2);
        let weight = self.weight.val().cast(DType::F32);
        let normed = x / mean_square.add_scalar(self.eps).sqrt();
        (normed * weight.unsqueeze()).cast(dtype)
    }
}

/// A learned factor per feature on a residual branch.
#[derive(Module, Debug)]
pub struct LayerScale {
    /// `[width]`.
    pub gamma: Param<Tensor<1>>,
}

impl LayerScale {
    /// A factor for each of `width` features.
    pub fn new(width: usize, device: &Device) -> Self {
        Self {
            gamma: parameter([width], device),
        }
    }

    /// `branch` `[batch, tokens, width]` times the factors, where there are any.
    pub(super) fn of(scale: &Option<Self>, branch: Tensor<3>) -> Tensor<3> {
        match scale {
            Some(scale) => scale.forward(branch),
            None => branch,
        }
    }

    /// `[batch, tokens, width]` → the same shape.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let gamma = self.gamma.val().cast(x.dtype());
        x * gamma.unsqueeze()
    }
}

/// A learned factor per channel on a residual branch of feature maps.
#[derive(Module, Debug)]
pub struct LayerScale2d {
    /// `[channels, 1, 1]`.
    pub gamma: Param<Tensor<3>>,
}

impl LayerScale2d {
    /// A factor for each of `channels`.
    pub fn new(channels: usize, device: &Device) -> Self {
        Self {
            gamma: parameter([channels, 1, 1], device),
        }
    }

    /// `[batch, channels, height, width]` → the same shape.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let gamma = self.gamma.val().cast(x.dtype());
        x * gamma.unsqueeze()
    }
}
