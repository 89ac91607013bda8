//! Means of squares of pixels.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::{Values, enabled, tensor, vectorized};
use crate::layers::derivative::differentiable;

/// Means of squares of `side` pixels of `[batch, height, width, channels]`; what does not fill one is left out. Without a derivative.
pub(in crate::layers) fn average_last(x: &Tensor<4>, side: usize) -> Option<Tensor<4>> {
    if x.is_autodiff() || !enabled() {
        return None;
    }
    let [batch, height, width, channels] = x.dims();
    let (rows, columns) = (height / side, width / side);
    let values = Values::of(x)?;
    let factor = 1.0 / (side * side) as f32;
    let mut out = vec![0.0; batch * rows * columns * channels];
    let lines = out.par_chunks_mut((columns * channels).max(1)).enumerate();
    lines.for_each(|(line, out)| {
        let top = line / rows * height + line % rows * side;
        vectorized(
            #[inline(always)]
            || {
                for (column, out) in out.chunks_exact_mut(channels).enumerate() {
                    for pixel in 0..side * side {
                        let (y, x) = (top + pixel / side, column * side + pixel % side);
                        let pixel = &values.get()[(y * width + x) * channels..][..channels];
                        out.iter_mut().zip(pixel).for_each(|(out, x)| *out += x);
                    }
                    out.iter_mut().for_each(|out| *out *= factor);
                }
            },
        );
    });
    Some(tensor(out, [batch, rows, columns, channels], &x.device()))
}

/// The same of `[batch, channels, height, width]`, with a derivative.
pub(in crate::layers) fn average_first(x: &Tensor<4>, side: usize) -> Option<Tensor<4>> {
    if !enabled() {
        return None;
    }
    let [batch, channels, height, width] = x.dims();
    let (rows, columns) = (height / side, width / side);
    let device = x.device();
    let values = Values::of(x)?;
    let factor = 1.0 / (side * side) as f32;
    let (map, small) = ((height * width).max(1), (rows * columns).max(1));
    let mut out = vec![0.0; batch * channels * rows * columns];
    let maps = out.par_chunks_mut(small).zip(values.get().par_chunks(map));
    maps.for_each(|(out, x)| {
        let lines = x.chunks_exact(width).take(rows * side);
        for (y, line) in lines.enumerate() {
            let out = &mut out[y / side * columns..][..columns];
            for (out, x) in out.iter_mut().zip(line.chunks_exact(side)) {
                *out += x.iter().sum::<f32>() * factor;
            }
        }
    });
    let out = tensor(out, [batch, channels, rows, columns], &device);
    let inputs = vec![x.clone().into()];
    Some(differentiable(inputs, out, move |gradient: Tensor<4>| {
        let Some(gradient) = Values::of(&gradient) else {
            return vec![None];
        };
        let mut out = vec![0.0; batch * channels * height * width];
        let maps = out
            .par_chunks_mut(map)
            .zip(gradient.get().par_chunks(small));
        maps.for_each(|(out, gradient)| {
            for (y, line) in out.chunks_exact_mut(width).take(rows * side).enumerate() {
                let gradient = &gradient[y / side * columns..][..columns];
                for (out, gradient) in line.chunks_exact_mut(side).zip(gradient) {
                    out.fill(gradient * factor);
                }
            }
        });
        vec![Some(
            tensor(out, [batch, channels, height, width], &device).into(),
        )]
    }))
}
