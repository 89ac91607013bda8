//! Convolution of `[batch, channels, height, width]` over all channels, as products with a matrix of *columns*: what each tap of
//! each input channel meets at every place of the output, `[inputs·kernel², pictures·places]`.

use std::ops::Range;

use burn::tensor::{Device, Tensor};
use rayon::prelude::*;

use super::{Values, sum, tensor};
use crate::layers::derivative::{Value, differentiable};

/// Numbers of the matrix of columns that exist at a time, unless one picture has more.
const COLUMNS: usize = 1 << 20;

/// Sizes of a convolution.
#[derive(Debug, Clone)]
struct Shape {
    batch: usize,
    inputs: usize,
    outputs: usize,
    /// Height and width.
    size: [usize; 2],
    out: [usize; 2],
    kernel: usize,
    stride: usize,
    device: Device,
}

/// As [`super::super::conv::Conv2d::forward`], with a padding of half the kernel.
pub(in crate::layers) fn dense(
    x: &Tensor<4>,
    weight: &Tensor<4>,
    bias: Option<&Tensor<1>>,
    stride: usize,
) -> Option<Tensor<4>> {
    let [batch, inputs, height, width] = x.dims();
    let [outputs, _, kernel, _] = weight.dims();
    let size = [height, width];
    let shape = Shape {
        batch,
        inputs,
        outputs,
        size,
        out: size.map(|side| (side + kernel / 2 * 2 - kernel) / stride + 1),
        kernel,
        stride,
        device: x.device().inner(),
    };
    let values = Values::of(x)?;
    let matrix = weight.clone().inner().reshape([outputs, shape.rows()]);
    let start = match bias {
        Some(bias) => Values::of(bias)?.get().to_vec(),
        None => vec![0.0; outputs],
    };
    let output = shape.forward(values.get(), &matrix, &start)?;
    let mut inputs = vec![Value::from(x.clone()), Value::from(weight.clone())];
    inputs.extend(bias.map(|bias| Value::from(bias.clone())));
    let wanted: Vec<bool> = inputs.iter().map(Value::is_tracked).collect();
    let backward = move |gradient: Tensor<4>| {
        let nothing = wanted.iter().map(|_| None).collect();
        let gradients = || shape.backward(values.get(), &matrix, &Values::of(&gradient)?, &wanted);
        gradients().unwrap_or(nothing)
    };
    Some(differentiable(inputs, output, backward))
}

impl Shape {
    /// Rows of the matrix of columns.
    fn rows(&self) -> usize {
        self.inputs * self.kernel * self.kernel
    }

    fn places(&self) -> usize {
        self.out[0] * self.out[1]
    }

    /// Pictures whose columns exist together.
    fn parts(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let count = (COLUMNS / (self.rows() * self.places()).max(1)).max(1);
        let batch = self.batch;
        (0..batch)
            .step_by(count)
            .map(move |from| from..batch.min(from + count))
    }

    fn forward(&self, x: &[f32], matrix: &Tensor<2>, start: &[f32]) -> Option<Tensor<4>> {
        let places = self.places();
        let mut out = vec![0.0; self.batch * self.outputs * places];
        for part in self.parts() {
            let product = matrix.clone().matmul(self.columns(x, &part));
            let product = Values::of(&product)?;
            let product = product.get();
            let out = &mut out[part.start * self.outputs * places..]
                [..part.len() * self.outputs * places];
            out.par_chunks_mut(places)
                .enumerate()
                .for_each(|(index, out)| {
                    let (picture, channel) = (index / self.outputs, index % self.outputs);
                    let product = &product[(channel * part.len() + picture) * places..];
                    for (out, product) in out.iter_mut().zip(product) {
                        *out = product + start[channel];
                    }
                });
        }
        let [height, width] = self.out;
        Some(tensor(
            out,
            [self.batch, self.outputs, height, width],
            &self.device,
        ))
    }

    fn backward(
        &self,
        x: &[f32],
        matrix: &Tensor<2>,
        gradient: &Values,
        wanted: &[bool],
    ) -> Option<Vec<Option<Value>>> {
        let [height, width] = self.size;
        let map = height * width;
        let mut of_x = vec![
            0.0;
            if wanted[0] {
                self.batch * self.inputs * map
            } else {
                0
            }
        ];
        let mut of_matrix: Option<Tensor<2>> = None;
        let mut of_bias = vec![0.0_f64; self.outputs];
        for part in self.parts() {
            let gradient = self.side_by_side(gradient.get(), &part);
            if wanted.get(2) == Some(&true) {
                let rows = gradient.par_chunks(part.len() * self.places());
                of_bias.par_iter_mut().zip(rows).for_each(|(total, row)| {
                    *total += sum(row, row, |gradient, _| gradient);
                });
            }
            let gradient = tensor(
                gradient,
                [self.outputs, part.len() * self.places()],
                &self.device,
            );
            if wanted[0] {
                let columns = matrix.clone().transpose().matmul(gradient.clone());
                let of_x = &mut of_x[part.start * self.inputs * map..part.end * self.inputs * map];
                self.scatter(Values::of(&columns)?.get(), part.len(), of_x);
            }
            if wanted[1] {
                let product = gradient.matmul(self.columns(x, &part).transpose());
                of_matrix = Some(match of_matrix {
                    Some(sum) => sum + product,
                    None => product,
                });
            }
        }
        let of_x = wanted[0].then(|| {
            let shape = [self.batch, self.inputs, height, width];
            tensor(of_x, shape, &self.device).into()
        });
        let kernel = [self.outputs, self.inputs, self.kernel, self.kernel];
        let of_weight = of_matrix.map(|sum| sum.reshape(kernel).into());
        let of_bias = of_bias.into_iter().map(|sum| sum as f32).collect();
        let of_bias = tensor(of_bias, [self.outputs], &self.device).into();
        let gradients = [of_x, of_weight, Some(of_bias)];
        Some(gradients.into_iter().take(wanted.len()).collect())
    }

    /// `[batch, outputs, places]` → `[outputs, part·places]`.
    fn side_by_side(&self, maps: &[f32], part: &Range<usize>) -> Vec<f32> {
        let places = self.places();
        let mut out = vec![0.0; part.len() * self.outputs * places];
        out.par_chunks_mut(places)
            .enumerate()
            .for_each(|(index, out)| {
                let (channel, picture) = (index / part.len(), index % part.len());
                let map = (part.start + picture) * self.outputs + channel;
                out.copy_from_slice(&maps[map * places..][..places]);
            });
        out
    }

    /// The places along an axis where a tap meets the picture, and the first pixel that it meets.
    fn meets(&self, axis: usize, tap: usize) -> (Range<usize>, usize) {
        let padding = self.kernel / 2;
        let from = padding.saturating_sub(tap).div_ceil(self.stride);
        let end = (self.size[axis] + padding)
            .saturating_sub(tap)
            .div_ceil(self.stride);
        let end = end.min(self.out[axis]).max(from);
        (
            from..end,
            (from * self.stride + tap).saturating_sub(padding),
        )
    }

    fn columns(&self, x: &[f32], part: &Range<usize>) -> Tensor<2> {
        let [height, width] = self.size;
        let (places, taps) = (self.places(), self.kernel * self.kernel);
        let mut out = vec![0.0; self.rows() * part.len() * places];
        out.par_chunks_mut(places)
            .enumerate()
            .for_each(|(index, out)| {
                let (row, picture) = (index / part.len(), part.start + index % part.len());
                let (channel, tap) = (row / taps, row % taps);
                let map =
                    &x[(picture * self.inputs + channel) * height * width..][..height * width];
                let (lines, mut y) = self.meets(0, tap / self.kernel);
                let (span, x) = self.meets(1, tap % self.kernel);
                if span.is_empty() {
                    return;
                }
                for out in out
                    .chunks_exact_mut(self.out[1])
                    .take(lines.end)
                    .skip(lines.start)
                {
                    let line = &map[y * width..][..width];
                    let out = &mut out[span.clone()];
                    match self.stride {
                        1 => out.copy_from_slice(&line[x..][..out.len()]),
                        stride => {
                            for (out, x) in out.iter_mut().zip(line.iter().skip(x).step_by(stride))
                            {
                                *out = *x;
                            }
                        }
                    }
                    y += self.stride;
                }
            });
        tensor(out, [self.rows(), part.len() * places], &self.device)
    }

    /// Adds the columns of some pictures to the pixels that they were taken from.
    fn scatter(&self, columns: &[f32], pictures: usize, out: &mut [f32]) {
        let [height, width] = self.size;
        let (places, taps) = (self.places(), self.kernel * self.kernel);
        out.par_chunks_mut(height * width)
            .enumerate()
            .for_each(|(index, out)| {
                let (picture, channel) = (index / self.inputs, index % self.inputs);
                for tap in 0..taps {
                    let from = ((channel * taps + tap) * pictures + picture) * places;
                    let (lines, mut y) = self.meets(0, tap / self.kernel);
                    let (span, x) = self.meets(1, tap % self.kernel);
                    if span.is_empty() {
                        continue;
                    }
                    for line in lines {
                        let column = &columns[from + line * self.out[1]..][span.clone()];
                        let out = &mut out[y * width + x..(y + 1) * width];
                        match self.stride {
                            1 => out
                                .iter_mut()
                                .zip(column)
                                .for_each(|(out, value)| *out += value),
                            stride => {
                                for (out, value) in out.iter_mut().step_by(stride).zip(column) {
                                    *out += value;
                                }
                            }
                        }
                        y += self.stride;
                    }
                }
            });
    }
}
