//! Convolution, BatchNorm by the statistics of the batch, a sum and ReLU with channels last, in training as one node of the graph.
//!
//! The node keeps its input, the convolution and the output, which says where ReLU let through. The norm's derivative is that of
//! [`super::norm`], of columns.

use burn::tensor::{Device, Tensor};
use rayon::prelude::*;

use super::finish::Finish;
use super::linear::{add_rows, total};
use super::packed::{Packed, Places};
use super::product::{Matrix, Onto, Right, filled, produced, product, turned};
use super::{Values, take, tensor, vectorized};
use crate::layers::derivative::{Value, differentiable};

/// Numbers of rows that one core takes at a time.
const PART: usize = 1 << 14;
/// Rows that one core takes at a time, at most.
const PIECE: usize = 64;
/// Numbers of the matrix of columns that exist at a time.
const COLUMNS: usize = 1 << 21;

/// What follows the norm.
#[derive(Debug, Clone, Copy, Default)]
pub struct Then<'a> {
    /// Added to it.
    pub add: Option<&'a Tensor<4>>,
    /// ReLU at the end.
    pub rectified: bool,
}

impl Then<'_> {
    /// ReLU alone.
    pub const RELU: Self = Self {
        add: None,
        rectified: true,
    };
}

/// Of `[batch, height, width, inputs]` by `weight` `[outputs, inputs, kernel, kernel]` with a padding of half the kernel, and by scale
/// and shift of the norm; with mean and biased variance of each channel, off the graph.
pub(in crate::layers) fn normed(
    x: &Tensor<4>,
    weight: &Tensor<4>,
    [scale, shift]: [&Tensor<1>; 2],
    stride: usize,
    eps: f64,
    then: Then<'_>,
) -> Option<(Tensor<4>, [Tensor<1>; 2])> {
    let device = x.device();
    let conv = Convolution::of(x, weight, stride)?;
    let affine = [Values::of(scale)?, Values::of(shift)?];
    let mut inputs: Vec<Value> = vec![x.clone().into(), weight.clone().into()];
    inputs.extend([scale, shift].map(|x| Value::from(x.clone())));
    inputs.extend(then.add.map(|add| Value::from(add.clone())));
    let add = match then.add {
        Some(add) => Some(Values::of(add)?),
        None => None,
    };
    let mut before = conv.forward()?;
    let [mean, variance] = statistics(&before, conv.outputs);
    let columns = Columns::new(&mean, &variance, &affine, eps);
    let add = add.as_ref().map(Values::get);
    let output = columns.forward(&before, add, then.rectified)?;
    let output = tensor(output, conv.shape(), &device);
    let kept = match then.rectified {
        true => Some(Values::of(&output)?),
        false => None,
    };
    let (shape, summed) = (conv.shape(), add.is_some());
    let channels = [conv.outputs];
    let statistics = [mean, variance].map(|x| tensor(x, channels, &device));
    let output = differentiable(inputs, output, move |gradient: Tensor<4>| {
        let mut slopes = take(gradient);
        let kept = kept.as_ref().map(Values::get);
        let [of_shift, of_scale] = columns.sums(&before, &mut slopes, kept);
        columns.backward(&mut before, &slopes, [&of_shift, &of_scale]);
        let [of_x, of_weight] = conv.backward(&before, &device);
        let mut gradients = vec![of_x, of_weight];
        gradients.extend([of_scale, of_shift].map(|x| Some(tensor(x, channels, &device).into())));
        if summed {
            gradients.push(Some(tensor(slopes, shape, &device).into()));
        }
        gradients
    });
    Some((output, statistics))
}

/// A convolution and what it reads.
struct Convolution {
    x: Values,
    /// Off the graph.
    weight: Tensor<4>,
    /// Whether gradients of `x` and the weights are wanted.
    wanted: [bool; 2],
    /// Pictures, their height and their width.
    size: [usize; 3],
    inputs: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
    places: Places,
}

impl Convolution {
    /// `None` for what is not f32 on `flex`, and for derivatives that are not here.
    fn of(x: &Tensor<4>, weight: &Tensor<4>, stride: usize) -> Option<Self> {
        let [batch, height, width, inputs] = x.dims();
        let [outputs, _, kernel, _] = weight.dims();
        let wanted = [x.is_tracked(), weight.is_tracked()];
        let apart = stride > 1 && (wanted[0] || kernel == 1);
        if kernel % 2 == 0 || apart || x.dims().contains(&0) {
            return None;
        }
        Some(Self {
            x: Values::of(x)?,
            weight: weight.clone().inner(),
            wanted,
            size: [batch, height, width],
            inputs,
            outputs,
            kernel,
            stride,
            places: Places::new([height, width], inputs, kernel, stride)?,
        })
    }

    /// Of the output.
    fn shape(&self) -> [usize; 4] {
        let [height, width] = self.places.out;
        [self.size[0], height, width, self.outputs]
    }

    /// Row after row of channels.
    fn forward(&self) -> Option<Vec<f32>> {
        if self.kernel > 1 {
            return convolve(self.x.get(), self.size, &self.weight, self.stride);
        }
        let weight = Values::of(&self.weight)?;
        let weight = Matrix::rows(weight.get(), self.inputs).transposed();
        let x = Matrix::rows(self.x.get(), self.inputs);
        Some(produced(x, Right::Plain(weight), None))
    }

    /// The gradients of `x` and of the weights from that of the output.
    fn backward(&self, slopes: &[f32], device: &Device) -> [Option<Value>; 2] {
        let [batch, height, width] = self.size;
        let of_x = || {
            let shape = [batch, height, width, self.inputs];
            Some(tensor(self.of_x(slopes, device)?, shape, device).into())
        };
        let of_weight = || {
            let shape = [self.outputs, self.inputs, self.kernel, self.kernel];
            tensor(self.of_weight(slopes), shape, device).into()
        };
        let [x, weight] = self.wanted;
        [x.then(of_x).flatten(), weight.then(of_weight)]
    }

    fn of_x(&self, slopes: &[f32], device: &Device) -> Option<Vec<f32>> {
        let weight = Values::of(&self.weight)?;
        let weight = weight.get();
        if self.kernel == 1 {
            let weight = Right::Plain(Matrix::rows(weight, self.inputs));
            return Some(produced(Matrix::rows(slopes, self.outputs), weight, None));
        }
        // The convolution with the kernels from behind, from outputs to inputs.
        let taps = self.kernel * self.kernel;
        let mut turned = vec![0.0; weight.len()];
        let kernels = turned.par_chunks_mut(self.outputs * taps).enumerate();
        kernels.for_each(|(input, kernels)| {
            for (output, kernel) in kernels.chunks_exact_mut(taps).enumerate() {
                kernel.copy_from_slice(&weight[(output * self.inputs + input) * taps..][..taps]);
                kernel.reverse();
            }
        });
        let shape = [self.inputs, self.outputs, self.kernel, self.kernel];
        let turned = tensor(turned, shape, device);
        convolve(slopes, self.size, &turned, 1)
    }

    fn of_weight(&self, slopes: &[f32]) -> Vec<f32> {
        let x = self.x.get();
        let turned = turned(slopes, self.outputs);
        let slopes = Matrix::rows(&turned, slopes.len() / self.outputs);
        if self.kernel == 1 {
            return produced(slopes, Right::Plain(Matrix::rows(x, self.inputs)), None);
        }
        let taps = self.kernel * self.kernel;
        let (line, [_, rows]) = (taps * self.inputs, slopes.shape);
        let part = (COLUMNS / line).clamp(1, rows);
        let mut columns = vec![0.0; part * line];
        // `[outputs, taps, inputs]`.
        let mut sums = vec![0.0; self.outputs * line];
        for first in (0..rows).step_by(part) {
            let count = part.min(rows - first);
            let columns = &mut columns[..count * line];
            let pieces = columns.par_chunks_mut(PIECE * line).enumerate();
            pieces.for_each(|(piece, out)| {
                let first = first + piece * PIECE;
                self.places.gather(x, first..first + out.len() / line, out);
            });
            let slopes = Matrix {
                values: &slopes.values[first..],
                shape: [self.outputs, count],
                ..slopes
            };
            let columns = Right::Plain(Matrix::rows(columns, line));
            product(slopes, columns, 1.0, None, &mut sums, Onto::Itself);
        }
        let mut out = vec![0.0; sums.len()];
        let kernels = out.par_chunks_mut(line).zip(sums.par_chunks(line));
        kernels.for_each(|(out, sums)| {
            for (input, kernel) in out.chunks_exact_mut(taps).enumerate() {
                let sums = sums.iter().skip(input).step_by(self.inputs);
                kernel
                    .iter_mut()
                    .zip(sums)
                    .for_each(|(out, sum)| *out = *sum);
            }
        });
        out
    }
}

/// With a kernel of several pixels.
fn convolve(x: &[f32], size: [usize; 3], weight: &Tensor<4>, stride: usize) -> Option<Vec<f32>> {
    let packed = Packed::once(weight, stride)?;
    let finish = Finish {
        bias: packed.bias(),
        add: None,
        curve: None,
    };
    packed.convolve(x, size, &finish)
}

/// As many numbers as one core takes of rows of `columns`, and adds up in f32.
fn part(columns: usize) -> usize {
    (PART / columns).clamp(1, PIECE) * columns
}

/// Mean and biased variance of each column.
fn statistics(x: &[f32], columns: usize) -> [Vec<f32>; 2] {
    let parts = x.par_chunks(part(columns)).map(|x| {
        vectorized(
            #[inline(always)]
            || {
                let count = (x.len() / columns) as f32;
                let mut mean = vec![0.0; columns];
                add_rows(x, &mut mean);
                mean.iter_mut().for_each(|mean| *mean /= count);
                let mut squares = vec![0.0; columns];
                for row in x.chunks_exact(columns) {
                    for ((sum, x), mean) in squares.iter_mut().zip(row).zip(&mean) {
                        *sum += (x - mean) * (x - mean);
                    }
                }
                (f64::from(count), mean, squares)
            },
        )
    });
    let parts: Vec<_> = parts.collect();
    let count = (x.len() / columns) as f64;
    let mut means = vec![0.0; columns];
    for (count, mean, _) in &parts {
        let sums = means.iter_mut().zip(mean);
        sums.for_each(|(sum, mean)| *sum += count * f64::from(*mean));
    }
    means.iter_mut().for_each(|mean| *mean /= count);
    let mut squares = vec![0.0; columns];
    for (count, mean, part) in &parts {
        let whole = squares.iter_mut().zip(&means);
        for ((sum, whole), (mean, part)) in whole.zip(mean.iter().zip(part)) {
            *sum += f64::from(*part) + count * (f64::from(*mean) - whole).powi(2);
        }
    }
    let narrow = |values: Vec<f64>, by: f64| values.iter().map(|x| (x / by) as f32).collect();
    [narrow(means, 1.0), narrow(squares, count)]
}

/// What is done to each column, `[channels]` all.
struct Columns {
    mean: Vec<f32>,
    /// Of the root of variance plus `eps`.
    inverse: Vec<f32>,
    /// The scale by `inverse`.
    factor: Vec<f32>,
    shift: Vec<f32>,
}

impl Columns {
    fn new(mean: &[f32], variance: &[f32], [scale, shift]: &[Values; 2], eps: f64) -> Self {
        let inverse = |variance: &f32| 1.0 / (variance + eps as f32).sqrt();
        let inverse: Vec<f32> = variance.iter().map(inverse).collect();
        let factor = inverse.iter().zip(scale.get());
        Self {
            mean: mean.to_vec(),
            factor: factor.map(|(inverse, scale)| inverse * scale).collect(),
            inverse,
            shift: shift.get().to_vec(),
        }
    }

    fn forward(&self, x: &[f32], add: Option<&[f32]>, rectified: bool) -> Option<Vec<f32>> {
        let positive = |x: f32| if x < 0.0 { 0.0 } else { x };
        match (add, rectified) {
            (None, false) => self.each(x, x, |x, _| x),
            (None, true) => self.each(x, x, |x, _| positive(x)),
            (Some(add), false) => self.each(x, add, |x, add| x + add),
            (Some(add), true) => self.each(x, add, |x, add| positive(x + add)),
        }
    }

    /// Of what the norm makes of each number, and of another one.
    fn each(
        &self,
        x: &[f32],
        other: &[f32],
        end: impl Fn(f32, f32) -> f32 + Sync,
    ) -> Option<Vec<f32>> {
        let columns = self.mean.len();
        if x.len() != other.len() || !x.len().is_multiple_of(columns) {
            return None;
        }
        let size = part(columns);
        filled(x.len(), |out| {
            let parts = out.par_chunks_mut(size);
            let parts = parts.zip(x.par_chunks(size).zip(other.par_chunks(size)));
            parts.for_each(|(out, (x, other))| {
                vectorized(
                    #[inline(always)]
                    || {
                        let rows = x.chunks_exact(columns).zip(other.chunks_exact(columns));
                        for (out, (x, other)) in out.chunks_exact_mut(columns).zip(rows) {
                            let affine = self.factor.iter().zip(&self.shift).zip(&self.mean);
                            let row = out.iter_mut().zip(x.iter().zip(other));
                            for ((out, (x, other)), ((factor, shift), mean)) in row.zip(affine) {
                                out.write(end((x - mean) * factor + shift, *other));
                            }
                        }
                    },
                );
            });
            Some(())
        })
    }

    /// Clears the gradient where the `output` of ReLU is zero; gives the gradients of shift and scale.
    fn sums(&self, x: &[f32], slopes: &mut [f32], output: Option<&[f32]>) -> [Vec<f32>; 2] {
        let columns = self.mean.len();
        let size = part(columns);
        let parts = slopes.par_chunks_mut(size).zip(x.par_chunks(size));
        let parts = parts.enumerate().map(|(index, (slopes, x))| {
            vectorized(
                #[inline(always)]
                || {
                    if let Some(output) = output {
                        let output = &output[index * size..][..slopes.len()];
                        for (slope, y) in slopes.iter_mut().zip(output) {
                            if *y <= 0.0 {
                                *slope = 0.0;
                            }
                        }
                    }
                    let [mut of_shift, mut of_scale] = [vec![0.0; columns], vec![0.0; columns]];
                    let rows = slopes.chunks_exact(columns).zip(x.chunks_exact(columns));
                    for (slopes, x) in rows {
                        let sums = of_shift.iter_mut().zip(&mut of_scale).zip(&self.mean);
                        for (((level, tilt), mean), (slope, x)) in sums.zip(slopes.iter().zip(x)) {
                            *level += slope;
                            *tilt += slope * (x - mean);
                        }
                    }
                    (of_shift, of_scale)
                },
            )
        });
        let (of_shift, of_scale): (Vec<_>, Vec<_>) = parts.unzip();
        let [of_shift, mut of_scale] = [of_shift, of_scale].map(|parts| total(&parts, columns));
        let scales = of_scale.iter_mut().zip(&self.inverse);
        scales.for_each(|(sum, inverse)| *sum *= inverse);
        [of_shift, of_scale]
    }

    /// Turns the norm's input into the gradient of it.
    fn backward(&self, x: &mut [f32], slopes: &[f32], [of_shift, of_scale]: [&[f32]; 2]) {
        let columns = self.mean.len();
        let (size, count) = (part(columns), (x.len() / columns) as f32);
        let level: Vec<f32> = of_shift.iter().map(|sum| sum / count).collect();
        let tilt = of_scale.iter().zip(&self.inverse);
        let tilt: Vec<f32> = tilt.map(|(sum, inverse)| sum / count * inverse).collect();
        let parts = x.par_chunks_mut(size).zip(slopes.par_chunks(size));
        parts.for_each(|(x, slopes)| {
            vectorized(
                #[inline(always)]
                || {
                    let rows = slopes.chunks_exact(columns);
                    for (x, slopes) in x.chunks_exact_mut(columns).zip(rows) {
                        let affine = level.iter().zip(&tilt).zip(&self.mean).zip(&self.factor);
                        let row = x.iter_mut().zip(slopes);
                        for ((x, slope), (((level, tilt), mean), factor)) in row.zip(affine) {
                            *x = (slope - level - (*x - mean) * tilt) * factor;
                        }
                    }
                },
            );
        });
    }
}
