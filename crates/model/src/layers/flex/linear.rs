//! `x·weight + bias`, and its derivatives.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::product::{Matrix, Onto, Right, product};
use super::{Values, tensor, vectorized};
use crate::layers::derivative::Value;
use crate::layers::derivative::differentiable;

/// Rows whose sums one core adds up in f32.
const ROWS: usize = 64;

/// `x·weight + bias` for `x` `[…, input]` and weights `[input, output]`, which may be a view.
pub(in crate::layers) fn linear<const D: usize>(
    x: &Tensor<D>,
    weight: &Tensor<2>,
    bias: Option<&Tensor<1>>,
) -> Option<Tensor<D>> {
    let ([input, output], device) = (weight.dims(), x.device());
    let shape = x.dims();
    if shape.contains(&0) || output == 0 {
        return None;
    }
    let mut output_shape = shape;
    output_shape[D - 1] = output;
    let rows = Values::of(x)?;
    let matrix = Values::view(weight)?;
    let shift = match bias {
        Some(bias) => Some(Values::of(bias)?),
        None => None,
    };
    let count = rows.get().len() / input;
    let mut out = vec![0.0; count * output];
    let shift = shift.as_ref().map(Values::get);
    let right = Right::Plain(matrix.matrix());
    product(
        Matrix::rows(rows.get(), input),
        right,
        1.0,
        shift,
        &mut out,
        Onto::Nothing,
    );
    let mut inputs: Vec<Value> = vec![x.clone().into(), weight.clone().into()];
    inputs.extend(bias.map(|bias| bias.clone().into()));
    let wanted: Vec<_> = inputs.iter().map(Value::is_tracked).collect();
    let out = tensor(out, output_shape, &device);
    Some(differentiable(inputs, out, move |gradient| {
        let Some(gradient) = Values::of(&gradient) else {
            return wanted.iter().map(|_| None).collect();
        };
        let slopes = Matrix::rows(gradient.get(), output);
        let of = |which: usize| -> Value {
            match which {
                0 => {
                    let mut out = vec![0.0; count * input];
                    let right = Right::Plain(matrix.matrix().transposed());
                    product(slopes, right, 1.0, None, &mut out, Onto::Nothing);
                    tensor(out, shape, &device).into()
                }
                1 => {
                    let mut out = vec![0.0; input * output];
                    let left = Matrix::rows(rows.get(), input).transposed();
                    product(
                        left,
                        Right::Plain(slopes),
                        1.0,
                        None,
                        &mut out,
                        Onto::Nothing,
                    );
                    tensor(out, [input, output], &device).into()
                }
                _ => tensor(sum_rows(gradient.get(), output), [output], &device).into(),
            }
        };
        let gradients = wanted.iter().enumerate();
        gradients
            .map(|(which, wanted)| wanted.then(|| of(which)))
            .collect()
    }))
}

/// The sum of all rows of `columns` numbers: of a few rows in f32, and of those in f64.
fn sum_rows(values: &[f32], columns: usize) -> Vec<f32> {
    let parts: Vec<Vec<f32>> = values
        .par_chunks(ROWS * columns)
        .map(|rows| {
            let mut sums = vec![0.0; columns];
            vectorized(
                #[inline(always)]
                || {
                    for row in rows.chunks_exact(columns) {
                        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
                    }
                },
            );
            sums
        })
        .collect();
    let mut totals = vec![0.0_f64; columns];
    for part in parts {
        let sums = totals.iter_mut().zip(part);
        sums.for_each(|(total, x)| *total += f64::from(x));
    }
    totals.into_iter().map(|total| total as f32).collect()
}
