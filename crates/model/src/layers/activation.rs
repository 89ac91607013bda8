//! Non-linearities of the towers.

use burn::tensor::{Tensor, activation};

/// Non-linearity inside an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activation {
    /// `x·Φ(x)` with the error function.
    #[default]
    Gelu,
    /// `x·sigmoid(1.702·x)`, the approximation OpenAI's CLIP was trained with.
    QuickGelu,
}

impl Activation {
    /// GELU, or QuickGELU where the configuration asks for it.
    pub fn from_quick(quick_gelu: bool) -> Self {
        if quick_gelu { Self::QuickGelu } else { Self::Gelu }
    }

    /// Element-wise; the shape stays.
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Gelu => activation::gelu(x),
            Self::QuickGelu => x.clone() * activation::sigmoid(x.mul_scalar(1.702)),
        }
    }
}
