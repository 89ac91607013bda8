//! SwitchBack: a linear layer whose forward pass and input gradient multiply 8-bit operands (Wortsman et al. 2023,
//! <https://arxiv.org/abs/2304.13013>, algorithm 1; bitsandbytes' `SwitchBackLinearGlobal`).
//!
//! Activations and output gradients are scaled row by row, weights as a whole; the weight's gradient is that of whole numbers.
//! The 8-bit values lie in f32 tensors here, whose matrix product is exact but for the rounding of long sums: the numerics of
//! an integer kernel on every backend, without its speed.

use burn::tensor::{DType, Tensor};

use crate::layers::derivative::{Value, differentiable};

/// Largest 8-bit value.
const MAX: f64 = 127.0;

/// 8-bit values `[rows, columns]`, and what one unit of them stands for, `[rows, 1]` or `[1, 1]`.
struct Quantised {
    values: Tensor<2>,
    unit: Tensor<2>,
}

impl Quantised {
    /// Each row by its largest magnitude.
    fn rows(x: Tensor<2>) -> Self {
        let largest = x.clone().abs().max_dim(1);
        Self::by(x, largest)
    }

    /// All by the largest magnitude.
    fn whole(x: Tensor<2>) -> Self {
        let largest = x.clone().abs().max().reshape([1, 1]);
        Self::by(x, largest)
    }

    fn by(x: Tensor<2>, largest: Tensor<2>) -> Self {
        // Nothing but zeros stays zero.
        let largest = largest.clamp_min(f64::from(f32::MIN_POSITIVE));
        Self {
            values: (x / largest.clone()).mul_scalar(MAX).round(),
            unit: largest.div_scalar(MAX),
        }
    }

    fn matmul(self, other: Self) -> Tensor<2> {
        self.values.matmul(other.values) * self.unit * other.unit
    }
}

/// `x·weight` of `[…, input]` and `[input, output]`, in the dtype of `x`.
pub fn switch_back<const D: usize>(x: Tensor<D>, weight: Tensor<2>) -> Tensor<D> {
    let (dtype, weight_dtype) = (x.dtype(), weight.dtype());
    let [input, output] = weight.dims();
    let mut shape = x.dims();
    let inputs = vec![Value::from(x.clone()), Value::from(weight.clone())];
    let [needs_x, needs_weight] = [x.is_tracked(), weight.is_tracked()];
    let rows = x.inner().cast(DType::F32).reshape([-1, input as i64]);
    let weight = weight.inner().cast(DType::F32);
    let product = Quantised::rows(rows.clone()).matmul(Quantised::whole(weight.clone()));
    let x_shape = shape;
    shape[D - 1] = output;
    let product = product.reshape(shape).cast(dtype);
    differentiable(inputs, product, move |gradient| {
        let gradient = gradient.cast(DType::F32).reshape([-1, output as i64]);
        let of_x = needs_x.then(|| {
            let weight = Quantised::whole(weight.transpose());
            let of_x = Quantised::rows(gradient.clone()).matmul(weight);
            of_x.reshape(x_shape).cast(dtype).into()
        });
        let of_weight =
            needs_weight.then(|| rows.transpose().matmul(gradient).cast(weight_dtype).into());
        vec![of_x, of_weight]
    })
}
