//! Pillow's weights: how much each source pixel of one axis counts in an output pixel (`precompute_coeffs`).

use openclip_model::config::Interpolation;

use super::wide::wide;

/// Bits after the point of a weight.
pub(super) const PRECISION: u32 = 32 - 8 - 2;

/// The weights of a window of one axis.
#[derive(Default)]
pub(super) struct Taps<W> {
    /// First source pixel and number of source pixels per output pixel.
    spans: Vec<(usize, usize)>,
    /// `stride` weights per output pixel, with one zero at least behind those that count.
    weights: Vec<W>,
    /// A whole number of vectors.
    stride: usize,
    /// What these are the weights of.
    of: Option<Axis>,
}

/// One axis of a resize: output pixels `window.0..window.0 + window.1` of `resized`, which show `part` of `source` pixels: the
/// place where they begin, and their length.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Axis {
    pub source: usize,
    pub part: (f64, f64),
    pub resized: usize,
    pub window: (usize, usize),
    pub filter: Interpolation,
}

impl<W: Clone> Taps<W> {
    /// How many output pixels there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// First source pixel of an output pixel, and the weights from there on.
    #[inline(always)]
    pub fn at(&self, x: usize) -> (usize, &[W]) {
        let (first, count) = self.spans[x];
        (first, &self.weights[x * self.stride..][..count])
    }

    /// The weights of the `before` source pixels before the first one, 0 or 1 and none for the first output pixel, and of those from
    /// there on, with zeros behind them.
    pub fn padded(&self, x: usize, before: usize) -> &[W] {
        // The weights of the output pixel before end with a zero.
        &self.weights[x * self.stride - before..][..self.stride]
    }

    /// First and one past the last source pixel that the window needs.
    pub fn reach(&self) -> (usize, usize) {
        let ends = self.spans.iter().map(|&(first, count)| first + count);
        let start = self.spans.iter().map(|&(first, _)| first).min();
        (start.unwrap_or(0), ends.max().unwrap_or(0))
    }

    /// The weights of `axis`; whether they are others than before. `convert` is always the same.
    pub fn compute(&mut self, axis: Axis, convert: impl Fn(f64) -> W) -> bool {
        // The planes of a picture follow each other.
        if self.of.replace(axis) == Some(axis) {
            return false;
        }
        match axis.filter {
            Interpolation::Bicubic | Interpolation::Random => wide(Fill {
                taps: self,
                axis,
                kernel: bicubic,
                support: 2.0,
                convert,
            }),
            Interpolation::Bilinear => wide(Fill {
                taps: self,
                axis,
                kernel: triangle,
                support: 1.0,
                convert,
            }),
        }
        true
    }
}

struct Fill<'t, W, K, C> {
    taps: &'t mut Taps<W>,
    axis: Axis,
    kernel: K,
    support: f64,
    convert: C,
}

impl<W: Clone, K: Fn(f64) -> f64, C: Fn(f64) -> W> pulp::NullaryFnOnce for Fill<'_, W, K, C> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self {
            taps,
            axis,
            kernel,
            support,
            convert,
        } = self;
        let scale = axis.part.1 / axis.resized as f64;
        let filter_scale = scale.max(1.0);
        let support = support * filter_scale;
        taps.stride = (support.ceil() as usize * 2 + 2).next_multiple_of(4);
        taps.spans.clear();
        taps.weights.clear();
        taps.weights
            .resize(axis.window.1 * taps.stride, convert(0.0));
        let places: Vec<f64> = (0..taps.stride).map(|place| place as f64).collect();
        let mut values = vec![0.0; taps.stride];
        let outputs = taps.weights.chunks_exact_mut(taps.stride);
        for (x, weights) in (axis.window.0..).zip(outputs) {
            let center = axis.part.0 + (x as f64 + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as usize;
            let last = ((center + support + 0.5) as usize).min(axis.source);
            let count = last.saturating_sub(first);
            let (start, end) = (first as f64, count as f64);
            for (value, place) in values.iter_mut().zip(&places) {
                let weight = kernel((start + place - center + 0.5) * (1.0 / filter_scale));
                *value = if *place < end { weight } else { 0.0 };
            }
            let total: f64 = values.iter().sum();
            let norm = if total == 0.0 { 1.0 } else { total };
            taps.spans.push((first, count));
            for (weight, value) in weights.iter_mut().zip(&values) {
                *weight = convert(value / norm);
            }
        }
    }
}

/// Cubic convolution with a = −0.5.
#[inline(always)]
fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    // Both, so that there is nothing to be foreseen.
    let near = ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = (((x - 5.0) * x + 8.0) * x - 4.0) * A;
    match x {
        ..1.0 => near,
        ..2.0 => far,
        _ => 0.0,
    }
}

#[inline(always)]
fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

/// A weight for sums in 32-bit integers.
#[inline(always)]
pub(super) fn fixed_point(weight: f64) -> i32 {
    // A whole number is the lower half of what this one and it add up to; `as` itself is not done in vectors.
    const BASE: f64 = (3_u64 << 51) as f64;
    let whole = (weight * f64::from(1 << PRECISION) + 0.5_f64.copysign(weight)).trunc();
    (whole + BASE).to_bits() as i32
}
