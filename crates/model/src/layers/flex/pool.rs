//! Means of squares of pixels.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::{Values, enabled, tensor, vectorized};
use crate::layers::derivative::differentiable;

/// Means of squares of `side` pixels of `[batch, height, width, channels]`; what does not fill one is left out.
pub(in crate::layers) fn average_last(x: &Tensor<4>, side: usize) -> Option<Tensor<4>> {
    if !enabled() {
        return None;
    }
    let (shape, device) = (x.dims(), x.device());
    let [batch, height, width, channels] = shape;
    let (rows, columns) = (height / side, width / side);
    let values = Values::of(x)?;
    let factor = 1.0 / (side * side) as f32;
    // The first pixel of a line of means.
    let top = move |line: usize| line / rows * height + line % rows * side;
    let mut out = vec![0.0; batch * rows * columns * channels];
    let lines = out.par_chunks_mut((columns * channels).max(1)).enumerate();
    lines.for_each(|(line, out)| {
        vectorized(
            #[inline(always)]
            || {
                for (column, out) in out.chunks_exact_mut(channels).enumerate() {
                    for pixel in 0..side * side {
                        let (y, x) = (top(line) + pixel / side, column * side + pixel % side);
                        let pixel = &values.get()[(y * width + x) * channels..][..channels];
                        out.iter_mut().zip(pixel).for_each(|(out, x)| *out += x);
                    }
                    out.iter_mut().for_each(|out| *out *= factor);
                }
            },
        );
    });
    let out = tensor(out, [batch, rows, columns, channels], &device);
    let inputs = vec![x.clone().into()];
    Some(differentiable(inputs, out, move |gradient: Tensor<4>| {
        let Some(gradient) = Values::of(&gradient) else {
            return vec![None];
        };
        let mut out = vec![0.0; batch * height * width * channels];
        let lines = out.par_chunks_mut((width * channels).max(1)).enumerate();
        lines.for_each(|(line, out)| {
            let (picture, row) = (line / height, line % height / side);
            if row == rows {
                return;
            }
            let gradient = &gradient.get()[(picture * rows + row) * columns * channels..];
            let squares = out.chunks_exact_mut(side * channels);
            for (pixels, gradient) in squares.zip(gradient.chunks_exact(channels)) {
                for pixel in pixels.chunks_exact_mut(channels) {
                    let numbers = pixel.iter_mut().zip(gradient);
                    numbers.for_each(|(out, gradient)| *out = gradient * factor);
                }
            }
        });
        vec![Some(tensor(out, shape, &device).into())]
    }))
}

/// The same of `[batch, channels, height, width]`.
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
