//! Non-linearities of the towers.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use burn::tensor::{DType, Tensor, activation};

use super::flex;
use super::flex::activation::{Curve, GELU, Gated, QUICK_GELU, SILU, TANH_GELU};
use crate::files::config::{ActivationOptions, Approximation};
use crate::layers::derivative::{Value, differentiable, is_on_cube};

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
            Self::Gelu => gelu(x),
            Self::TanhGelu => activation::gelu_approximate(x),
            Self::QuickGelu => x.clone() * activation::sigmoid(x.mul_scalar(1.702)),
            Self::Relu => activation::relu(x),
        }
    }

    /// The same as a function of a value.
    pub(super) fn curve(self) -> Curve {
        self.gate().map_or(Curve::Relu, Curve::Gated)
    }

    fn gate(self) -> Option<&'static Gated> {
        match self {
            Self::Gelu => Some(&GELU),
            Self::TanhGelu => Some(&TANH_GELU),
            Self::QuickGelu => Some(&QUICK_GELU),
            Self::Relu => None,
        }
    }
}

/// `max(x + add, 0)`.
pub fn rectified<const D: usize>(x: Tensor<D>, add: Option<Tensor<D>>) -> Tensor<D> {
    if let Some(found) = flex::activation::rectified(&x, add.as_ref()) {
        return found;
    }
    activation::relu(match add {
        Some(add) => x + add,
        None => x,
    })
}

/// `x·sigmoid(x)`.
pub fn silu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    SILU.forward(x).unwrap_or_else(activation::silu)
}

fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match x.is_tracked() && is_on_cube(&x) {
        true => exact_gelu(x),
        false => activation::gelu(x),
    }
}

/// With the derivative `Φ(x) + x·φ(x)`. Burn's own is that of the approximation with a hyperbolic tangent on CubeCL's backends, where
/// the value is exact: up to 9·10⁻⁴ off.
fn exact_gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let (dtype, input) = (x.dtype(), vec![Value::from(x.clone())]);
    let x = x.inner();
    differentiable(input, activation::gelu(x.clone()), move |gradient| {
        let x = x.cast(DType::F32);
        let density = (x.clone().square() * -0.5).exp() / (2.0 * PI).sqrt();
        let share = (x.clone() * FRAC_1_SQRT_2).erf() * 0.5 + 0.5;
        let gradient = gradient.cast(DType::F32) * (x * density + share);
        vec![Some(gradient.cast(dtype).into())]
    })
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use burn::tensor::Device;

    #[test]
    fn both_ways_to_the_gelu_agree() {
        let inputs: Vec<f32> = (-600..=600).map(|i| i as f32 * 0.01).collect();
        let read = |x: Tensor<1>| x.try_into_vec_as::<f32>().unwrap();
        let [(a, da), (b, db)] = [true, false].map(|exact| {
            let device = Device::flex().autodiff();
            let x = Tensor::<1>::from_floats(inputs.as_slice(), &device).require_grad();
            let y = match exact {
                true => exact_gelu(x.clone()),
                false => Activation::Gelu.forward(x.clone()),
            };
            let slope = x.grad(&(y.clone() * 3.0).sum().backward()).unwrap();
            (read(y.inner()), read(slope))
        });
        for (a, b) in a.into_iter().zip(b).chain(da.into_iter().zip(db)) {
            assert!((a - b).abs() <= 2e-6, "{a} {b}");
        }
    }
}
