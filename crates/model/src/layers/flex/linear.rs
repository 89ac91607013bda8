//! `x·weight + bias`, and its derivatives.

use burn::tensor::{Device, Tensor};
use rayon::prelude::*;

use super::product::{Matrix, Onto, Right, produced, product, turned};
use super::{Values, tensor, vectorized};
use crate::layers::derivative::{Value, differentiable};

/// Rows whose sums one core adds up in f32.
pub(super) const ROWS: usize = 64;

/// Weight and bias of a layer.
pub(in crate::layers) type Layer = (Tensor<2>, Option<Tensor<1>>);

/// `x·weight + bias` for `x` `[…, input]` and weights `[input, output]`, which may be a view.
pub(in crate::layers) fn linear<const D: usize>(
    x: &Tensor<D>,
    weight: &Tensor<2>,
    bias: Option<&Tensor<1>>,
) -> Option<Tensor<D>> {
    let (shape, device) = (x.dims(), x.device());
    let affine = Parameters::of(weight, bias)?;
    if shape.contains(&0) {
        return None;
    }
    let mut output_shape = shape;
    output_shape[D - 1] = affine.output;
    let rows = Values::of(x)?;
    let out = tensor(affine.forward(rows.get()), output_shape, &device);
    let mut inputs: Vec<Value> = vec![x.clone().into()];
    inputs.extend(values(weight, bias));
    let wanted: Vec<_> = inputs.iter().map(Value::is_tracked).collect();
    Some(differentiable(inputs, out, move |gradient| {
        let Some(gradient) = Values::of(&gradient) else {
            return wanted.iter().map(|_| None).collect();
        };
        let slopes = gradient.get();
        let of_rows = || tensor(affine.of_rows(slopes), shape, &device).into();
        let mut gradients = vec![wanted[0].then(of_rows)];
        let sums = || sum_rows(slopes, affine.output);
        gradients.extend(affine.of_parameters(rows.get(), slopes, sums, &device));
        gradients
    }))
}

/// A layer's parameters, as inputs of a node.
pub(super) fn values(weight: &Tensor<2>, bias: Option<&Tensor<1>>) -> Vec<Value> {
    let mut values = vec![weight.clone().into()];
    values.extend(bias.map(|bias| bias.clone().into()));
    values
}

/// A layer's parameters where they lie.
#[derive(Debug)]
pub(super) struct Parameters {
    weight: Values,
    bias: Option<Values>,
    input: usize,
    pub(super) output: usize,
    /// Which of both have a gradient.
    wanted: [bool; 2],
}

impl Parameters {
    /// `None` for what is not f32 on `flex`, and for weights without numbers.
    pub(super) fn of(weight: &Tensor<2>, bias: Option<&Tensor<1>>) -> Option<Self> {
        let [input, output] = weight.dims();
        let wanted = [weight.is_tracked(), bias.is_some_and(Tensor::is_tracked)];
        let bias = match bias {
            Some(bias) => Some(Values::of(bias)?),
            None => None,
        };
        (input * output > 0).then_some(Self {
            weight: Values::view(weight)?,
            bias,
            input,
            output,
            wanted,
        })
    }

    fn bias(&self) -> Option<&[f32]> {
        self.bias.as_ref().map(Values::get)
    }

    /// `rows·weight + bias`.
    pub(super) fn forward(&self, rows: &[f32]) -> Vec<f32> {
        let rows = Matrix::rows(rows, self.input);
        produced(rows, Right::Plain(self.weight.matrix()), self.bias())
    }

    /// The same added to `out`.
    pub(super) fn add(&self, rows: &[f32], out: &mut [f32]) {
        let (rows, weight) = (Matrix::rows(rows, self.input), self.weight.matrix());
        let weight = Right::Plain(weight);
        product(rows, weight, 1.0, self.bias(), out, Onto::Itself);
    }

    /// The gradient of the rows from that of the output.
    pub(super) fn of_rows(&self, slopes: &[f32]) -> Vec<f32> {
        let weight = Right::Plain(self.weight.matrix().transposed());
        produced(Matrix::rows(slopes, self.output), weight, None)
    }

    /// The gradients of the weight, and of the bias where there is one, which is the sum of the rows of `slopes`.
    pub(super) fn of_parameters(
        &self,
        rows: &[f32],
        slopes: &[f32],
        sums: impl FnOnce() -> Vec<f32>,
        device: &Device,
    ) -> Vec<Option<Value>> {
        let of_weight = || {
            let columns = turned(rows, self.input);
            let columns = Matrix::rows(&columns, rows.len() / self.input);
            let slopes = Right::Plain(Matrix::rows(slopes, self.output));
            let product = produced(columns, slopes, None);
            tensor(product, [self.input, self.output], device).into()
        };
        let of_bias = || tensor(sums(), [self.output], device).into();
        let mut gradients = vec![self.wanted[0].then(of_weight)];
        if self.bias.is_some() {
            gradients.push(self.wanted[1].then(of_bias));
        }
        gradients
    }
}

/// The sum of all rows of `columns` numbers: of a few rows in f32, and of those in f64.
pub(super) fn sum_rows(values: &[f32], columns: usize) -> Vec<f32> {
    let parts: Vec<Vec<f32>> = values
        .par_chunks(ROWS * columns)
        .map(|rows| {
            vectorized(
                #[inline(always)]
                || {
                    let mut sums = vec![0.0; columns];
                    add_rows(rows, &mut sums);
                    sums
                },
            )
        })
        .collect();
    total(&parts, columns)
}

/// Adds every row to `sums`.
#[inline(always)]
pub(super) fn add_rows(rows: &[f32], sums: &mut [f32]) {
    for row in rows.chunks_exact(sums.len()) {
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
}

/// The sum of some rows, in f64.
pub(super) fn total(parts: &[Vec<f32>], columns: usize) -> Vec<f32> {
    let mut totals = vec![0.0_f64; columns];
    for part in parts {
        let sums = totals.iter_mut().zip(part);
        sums.for_each(|(total, x)| *total += f64::from(*x));
    }
    totals.into_iter().map(|total| total as f32).collect()
}
