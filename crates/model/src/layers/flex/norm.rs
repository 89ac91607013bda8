//! LayerNorm, and BatchNorm by the statistics of the batch.
//!
//! With `n = (x − mean)/√(variance + eps)` and the gradient `g` of `n`, the gradient of `x` is
//! `(g − mean(g) − n·mean(g·n))/√(variance + eps)` in both; means are over what is normalised together.

use burn::tensor::{Device, Tensor};
use rayon::prelude::*;

use super::linear::total;
use super::{Values, sum, take, tensor, vectorized};
use crate::layers::derivative::{Value, differentiable};

/// Rows whose gradients of the parameters one core adds up.
const ROWS: usize = 32;

/// Mean of a row, and the inverse of the root of variance plus `eps`.
#[inline(always)]
fn statistics(x: &[f32], eps: f32) -> [f32; 2] {
    let count = x.len() as f64;
    let mean = (sum(x, x, |x, _| x) / count) as f32;
    let squares = sum(x, x, |x, _| (x - mean) * (x - mean));
    [mean, 1.0 / ((squares / count) as f32 + eps).sqrt()]
}

/// As [`super::super::norm::LayerNorm::forward`].
pub(in crate::layers) fn layer_norm<const D: usize>(
    x: &Tensor<D>,
    weight: &Tensor<1>,
    bias: &Tensor<1>,
    eps: f64,
) -> Option<Tensor<D>> {
    let (shape, device) = (x.dims(), x.device());
    let (values, norm) = (Values::of(x)?, Norm::of(weight, bias, eps)?);
    let inputs = vec![x.clone().into(), weight.clone().into(), bias.clone().into()];
    let output = tensor(norm.forward(values.get()), shape, &device);
    Some(differentiable(inputs, output, move |gradient| {
        let mut slopes = take(gradient);
        let of_parameters = norm.backward(values.get(), &mut slopes, None, &device);
        let mut gradients = vec![Some(tensor(slopes, shape, &device).into())];
        gradients.extend(of_parameters.map(Some));
        gradients
    }))
}

/// A LayerNorm's parameters where they lie.
#[derive(Debug)]
pub(crate) struct Norm {
    scale: Values,
    shift: Values,
    eps: f32,
}

impl Norm {
    /// `None` for what is not f32 on `flex`.
    pub(in crate::layers) fn of(weight: &Tensor<1>, bias: &Tensor<1>, eps: f64) -> Option<Self> {
        Some(Self {
            scale: Values::of(weight)?,
            shift: Values::of(bias)?,
            eps: eps as f32,
        })
    }

    pub(super) fn forward(&self, x: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        self.write(x, &mut out);
        out
    }

    pub(super) fn write(&self, x: &[f32], out: &mut [f32]) {
        let (scale, shift) = (self.scale.get(), self.shift.get());
        let width = scale.len();
        let parts = out.par_chunks_mut(ROWS * width);
        let parts = parts.zip(x.par_chunks(ROWS * width));
        parts.for_each(|(out, x)| {
            vectorized(
                #[inline(always)]
                || {
                    for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                        let [mean, inverse] = statistics(x, self.eps);
                        let affine = scale.iter().zip(shift);
                        for ((out, x), (scale, shift)) in out.iter_mut().zip(x).zip(affine) {
                            *out = (x - mean) * inverse * scale + shift;
                        }
                    }
                },
            );
        });
    }

    /// Turns the gradient of the output into that of `x`, plus `add`; gives those of the parameters.
    pub(super) fn backward(
        &self,
        x: &[f32],
        slopes: &mut [f32],
        add: Option<&[f32]>,
        device: &Device,
    ) -> [Value; 2] {
        let scale = self.scale.get();
        let width = scale.len();
        let parts = slopes.par_chunks_mut(ROWS * width);
        let parts = parts.zip(x.par_chunks(ROWS * width)).enumerate();
        let parts = parts.map(|(part, (slopes, x))| {
            let add = add.map(|add| &add[part * ROWS * width..][..x.len()]);
            vectorized(
                #[inline(always)]
                || {
                    let mut sums = [vec![0.0; width], vec![0.0; width]];
                    let rows = slopes.chunks_exact_mut(width).zip(x.chunks_exact(width));
                    for (slopes, x) in rows {
                        backward_row(x, scale, self.eps, slopes, &mut sums);
                    }
                    if let Some(add) = add {
                        let slopes = slopes.iter_mut().zip(add);
                        slopes.for_each(|(slope, add)| *slope += add);
                    }
                    sums
                },
            )
        });
        let (of_scale, of_shift): (Vec<_>, Vec<_>) = parts.map(<(_, _)>::from).unzip();
        [of_scale, of_shift].map(|parts| tensor(total(&parts, width), [width], device).into())
    }
}

/// From the gradient of a normalised row to that of the row; adds to those of scale and shift.
#[inline(always)]
fn backward_row(
    x: &[f32],
    scale: &[f32],
    eps: f32,
    slopes: &mut [f32],
    [of_scale, of_shift]: &mut [Vec<f32>; 2],
) {
    let [mean, inverse] = statistics(x, eps);
    let parameters = of_scale.iter_mut().zip(of_shift).zip(scale);
    let row = slopes.iter_mut().zip(x);
    for ((slope, x), ((of_scale, of_shift), scale)) in row.zip(parameters) {
        *of_scale += *slope * ((x - mean) * inverse);
        *of_shift += *slope;
        *slope *= scale;
    }
    let width = x.len() as f64;
    let level = (sum(slopes, slopes, |slope, _| slope) / width) as f32;
    let tilt = (sum(slopes, x, |slope, x| slope * (x - mean)) / width) as f32 * inverse;
    for (slope, x) in slopes.iter_mut().zip(x) {
        *slope = (*slope - level - (x - mean) * inverse * tilt) * inverse;
    }
}

/// BatchNorm of `[batch, channels, height, width]`, with the mean and the biased variance of each channel, off the graph.
pub(in crate::layers) fn batch_norm(
    x: &Tensor<4>,
    weight: &Tensor<1>,
    bias: &Tensor<1>,
    eps: f64,
) -> Option<(Tensor<4>, [Tensor<1>; 2])> {
    let (shape, device, eps) = (x.dims(), x.device(), eps as f32);
    let [batch, channels, height, width] = shape;
    let map = height * width;
    let count = (batch * map) as f64;
    let [values, scale, shift] = [Values::of(x)?, Values::of(weight)?, Values::of(bias)?];
    let maps = Maps {
        batch,
        channels,
        map,
    };
    let found = maps.of_channels(|channel| {
        let x = values.get();
        let mean = (maps.sum(channel, x, x, |x, _| x) / count) as f32;
        let squares = maps.sum(channel, x, x, |x, _| (x - mean) * (x - mean));
        [mean, (squares / count) as f32]
    });
    let [mean, variance] = [0, 1].map(|which| {
        let numbers = found.iter().map(|found| found[which]).collect();
        tensor(numbers, [channels], &device)
    });
    let inverse = |[mean, variance]: [f32; 2]| [mean, 1.0 / (variance + eps).sqrt()];
    let statistics: Vec<[f32; 2]> = found.into_iter().map(inverse).collect();
    let affine = |channel: usize| {
        let [mean, inverse] = statistics[channel];
        [mean, inverse * scale.get()[channel], shift.get()[channel]]
    };
    let out = maps.affine(values.get(), affine);
    let inputs = vec![x.clone().into(), weight.clone().into(), bias.clone().into()];
    let output = tensor(out, shape, &device);
    let output = differentiable(inputs, output, move |gradient| {
        let Some(gradient) = Values::of(&gradient) else {
            return vec![None, None, None];
        };
        let (x, gradient) = (values.get(), gradient.get());
        let sums = maps.of_channels(|channel| {
            let [mean, inverse] = statistics[channel];
            let normal = maps.sum(channel, gradient, x, |gradient, x| gradient * (x - mean));
            let level = maps.sum(channel, gradient, gradient, |gradient, _| gradient);
            [normal as f32 * inverse, level as f32]
        });
        let mut out = vec![0.0; x.len()];
        let parts = out
            .par_chunks_mut(map)
            .zip(x.par_chunks(map).zip(gradient.par_chunks(map)));
        parts.enumerate().for_each(|(index, (out, (x, gradient)))| {
            let channel = index % channels;
            let [mean, inverse] = statistics[channel];
            let [tilt, level] = sums[channel].map(|sum| sum / count as f32);
            let (tilt, scale) = (tilt * inverse, inverse * scale.get()[channel]);
            for (out, (x, gradient)) in out.iter_mut().zip(x.iter().zip(gradient)) {
                *out = (gradient - level - (x - mean) * tilt) * scale;
            }
        });
        let of = |which: usize| {
            let sums = sums.iter().map(|sums| sums[which]).collect();
            Some(Value::from(tensor(sums, [channels], &device)))
        };
        vec![Some(tensor(out, shape, &device).into()), of(0), of(1)]
    });
    Some((output, [mean, variance]))
}

/// The sum of each channel of `[batch, channels, height, width]`, without a derivative.
pub(in crate::layers) fn sums(x: &Tensor<4>) -> Option<Tensor<1>> {
    let [batch, channels, height, width] = x.dims();
    let (values, device) = (Values::of(x)?, x.device());
    let maps = Maps {
        batch,
        channels,
        map: height * width,
    };
    let x = values.get();
    let sums = maps.of_channels(|channel| maps.sum(channel, x, x, |x, _| x) as f32);
    Some(tensor(sums, [channels], &device))
}

/// `x·scale + shift` of each channel of `[batch, channels, height, width]`, without a derivative.
pub(in crate::layers) fn affine(
    x: &Tensor<4>,
    scale: &Tensor<1>,
    shift: &Tensor<1>,
) -> Option<Tensor<4>> {
    let shape = x.dims();
    let [batch, channels, height, width] = shape;
    if x.is_autodiff() {
        return None;
    }
    let [values, scale, shift] = [Values::of(x)?, Values::of(scale)?, Values::of(shift)?];
    let map = height * width;
    let maps = Maps {
        batch,
        channels,
        map,
    };
    let affine = |channel: usize| [0.0, scale.get()[channel], shift.get()[channel]];
    Some(tensor(
        maps.affine(values.get(), affine),
        shape,
        &x.device(),
    ))
}

/// Feature maps of a batch, one behind the other.
#[derive(Debug, Clone, Copy)]
struct Maps {
    batch: usize,
    channels: usize,
    /// Places of one.
    map: usize,
}

impl Maps {
    fn of_channels<T: Send>(self, numbers: impl Fn(usize) -> T + Sync + Send) -> Vec<T> {
        (0..self.channels).into_par_iter().map(numbers).collect()
    }

    /// `(x − centre)·scale + shift` by the numbers of each channel.
    fn affine(self, x: &[f32], of: impl Fn(usize) -> [f32; 3] + Sync) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        let parts = out.par_chunks_mut(self.map).zip(x.par_chunks(self.map));
        parts.enumerate().for_each(|(index, (out, x))| {
            let [centre, scale, shift] = of(index % self.channels);
            for (out, x) in out.iter_mut().zip(x) {
                *out = (x - centre) * scale + shift;
            }
        });
        out
    }

    /// The sum of a term over the maps of a channel.
    fn sum(self, channel: usize, x: &[f32], y: &[f32], term: impl Fn(f32, f32) -> f32) -> f64 {
        let maps = (0..self.batch).map(|picture| (picture * self.channels + channel) * self.map);
        let sums = maps.map(|from| {
            let [x, y] = [x, y].map(|values| &values[from..][..self.map]);
            vectorized(
                #[inline(always)]
                || sum(x, y, &term),
            )
        });
        sums.sum()
    }
}
