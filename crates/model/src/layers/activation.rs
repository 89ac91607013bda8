//! Non-linearities of the towers.

use burn::tensor::{Tensor, activation};

use super::gate::{self, Gate};
use crate::config::{ActivationOptions, Approximation};

/// Non-linearity inside an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activation {
    /// `x·Φ(x)` with the error function.
    #[default]
    Gelu,
    /// `½x·(1 + tanh(√(2/π)·(x + 0.044715x³)))`.
    TanhGelu,
    /// `x·sigmoid(1.702·x)`, the approximation OpenAI's CLIP was trained with.
    QuickGelu,
    /// `max(x, 0)`.
    Relu,
}

impl Activation {
    /// What a configuration asks for; QuickGELU has no options.
    pub fn of(quick_gelu: bool, options: Option<ActivationOptions>) -> Self {
        match options.map(|options| options.approximate) {
            _ if quick_gelu => Self::QuickGelu,
            Some(Approximation::Tanh) => Self::TanhGelu,
            Some(Approximation::None) | None => Self::Gelu,
        }
    }

    /// Element-wise; the shape stays.
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        let x = match self.gate() {
            None => x,
            Some(gate) => match gate.forward(x) {
                Ok(y) => return y,
                Err(x) => x,
            },
        };
        match self {
            Self::Gelu => activation::gelu(x),
            Self::TanhGelu => activation::gelu_approximate(x),
            Self::QuickGelu => x.clone() * activation::sigmoid(x.mul_scalar(1.702)),
            Self::Relu => activation::relu(x),
        }
    }

    fn gate(self) -> Option<&'static Gate> {
        match self {
            Self::Gelu => Some(&gate::GELU),
            Self::TanhGelu => Some(&gate::TANH_GELU),
            Self::QuickGelu => Some(&gate::QUICK_GELU),
            Self::Relu => None,
        }
    }
}
