//! Layers in evaluation mode that read and write plain numbers, row after row.

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::module::Param;
use burn::tensor::Tensor;

use super::Values;
use super::product::{Matrix, Onto, Packed, Right, product};
use super::quantised::{Quantised, Scratch};
use crate::layers::linear::Linear;

/// What weights are multiplied as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bits {
    /// Numbers of f32.
    #[default]
    All,
    /// Whole numbers of 8 bits, beside activations of 8 bits.
    Eight,
}

/// A linear layer.
#[derive(Debug)]
pub(crate) struct Affine {
    weight: Values,
    bias: Option<Vec<f32>>,
    output: usize,
    /// Whether the layer was asked for anything: one that is asked once is not worth packing.
    used: AtomicBool,
    packed: OnceLock<Option<Packed>>,
    quantised: Option<Quantised>,
}

impl Affine {
    /// A layer, its output times `scale`.
    pub(crate) fn of(linear: &Linear, scale: Option<&Tensor<1>>, bits: Bits) -> Option<Self> {
        let weight = linear.weight.val();
        let [_, output] = weight.dims();
        let bias = linear.bias.as_ref().map(Param::val);
        Self::new(&weight, bias.as_ref(), 0..output, scale, bits)
    }

    /// A convolution of single pixels with weights `[output, input, 1, 1]`.
    pub(crate) fn pointwise(weight: Tensor<4>, bias: &Tensor<1>, bits: Bits) -> Option<Self> {
        let [output, input, ..] = weight.dims();
        let weight = weight.reshape([output, input]).transpose();
        Self::new(&weight, Some(bias), 0..output, None, bits)
    }

    /// Some columns of a layer, its output times `scale`.
    pub(crate) fn new(
        weight: &Tensor<2>,
        bias: Option<&Tensor<1>>,
        columns: Range<usize>,
        scale: Option<&Tensor<1>>,
        bits: Bits,
    ) -> Option<Self> {
        let cut = |x: &Tensor<1>| x.clone().slice_dim(0, columns.clone());
        let weight = weight.clone().slice_dim(1, columns.clone());
        let (weight, bias) = match scale {
            None => (weight, bias.map(cut)),
            Some(scale) => (
                weight * cut(scale).unsqueeze(),
                bias.map(|bias| cut(bias) * cut(scale)),
            ),
        };
        let bias = match bias {
            Some(bias) => Some(Values::of(&bias)?.get().to_vec()),
            None => None,
        };
        let weight = Values::view(&weight)?;
        Some(Self {
            quantised: (bits == Bits::Eight).then(|| Quantised::new(weight.matrix())),
            weight,
            bias,
            output: columns.len(),
            used: AtomicBool::new(false),
            packed: OnceLock::new(),
        })
    }

    /// Columns of its output.
    pub(super) fn outputs(&self) -> usize {
        self.output
    }

    /// Rows of `x` to rows of `out`, or added to what is there.
    pub(super) fn forward(&self, x: &[f32], out: &mut [f32], onto: Onto, scratch: &mut Scratch) {
        let bias = self.bias.as_deref();
        if let Some(quantised) = &self.quantised {
            return quantised.forward(x, bias, scratch, out, onto);
        }
        let rows = out.len() / self.output;
        // Weights that are not packed are multiplied by a single row in another order.
        let packed = match self.used.swap(true, Ordering::Relaxed) || rows == 1 {
            true => self
                .packed
                .get_or_init(|| Packed::new(self.weight.matrix()))
                .as_ref(),
            false => None,
        };
        let right = packed.map_or_else(|| Right::Plain(self.weight.matrix()), Right::Packed);
        let x = Matrix::rows(x, x.len() / rows.max(1));
        product(x, right, 1.0, bias, out, onto);
    }
}

/// A buffer, made as long as that where it is shorter.
pub(super) fn sized(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
    &mut buffer[..length]
}
