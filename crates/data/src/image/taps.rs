//! Pillow's weights: how much each source pixel of one axis counts in an output pixel (`precompute_coeffs`).

use openclip_model::config::Interpolation;

/// Bits after the point of a weight.
pub(super) const PRECISION: u32 = 32 - 8 - 2;

/// The weights of a window of one axis.
#[derive(Default)]
pub(super) struct Taps<W> {
    /// First source pixel and number of source pixels per output pixel.
    spans: Vec<(usize, usize)>,
    /// `stride` weights per output pixel.
    weights: Vec<W>,
    stride: usize,
    /// What these are the weights of.
    of: Option<Axis>,
}

/// One axis of a resize.
#[derive(Clone, Copy, PartialEq)]
struct Axis {
    source: usize,
    part: (f64, f64),
    resized: usize,
    window: (usize, usize),
    filter: Interpolation,
}

impl<W> Taps<W> {
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

    /// First and one past the last source pixel that the window needs.
    pub fn reach(&self) -> (usize, usize) {
        let start = self
            .spans
            .iter()
            .map(|&(first, _)| first)
            .min()
            .unwrap_or(0);
        let end = self
            .spans
            .iter()
            .map(|&(first, count)| first + count)
            .max()
            .unwrap_or(0);
        (start, end)
    }

    /// `precompute_coeffs` for output pixels `window.0..window.0 + window.1` of `resized`, which show `part` of `source` pixels: the
    /// place where they begin, and their length. `convert` is always the same.
    pub fn compute(
        &mut self,
        source: usize,
        part: (f64, f64),
        resized: usize,
        window: (usize, usize),
        filter: Interpolation,
        convert: impl Fn(f64) -> W,
    ) {
        let axis = Axis {
            source,
            part,
            resized,
            window,
            filter,
        };
        // The planes of a picture follow each other.
        if self.of.replace(axis) == Some(axis) {
            return;
        }
        match filter {
            Interpolation::Bicubic | Interpolation::Random => {
                self.fill(axis, bicubic, 2.0, convert)
            }
            Interpolation::Bilinear => self.fill(axis, triangle, 1.0, convert),
        }
    }

    #[inline(always)]
    fn fill(
        &mut self,
        axis: Axis,
        kernel: impl Fn(f64) -> f64,
        support: f64,
        convert: impl Fn(f64) -> W,
    ) {
        let scale = axis.part.1 / axis.resized as f64;
        let filter_scale = scale.max(1.0);
        let support = support * filter_scale;
        self.stride = support.ceil() as usize * 2 + 1;
        self.spans.clear();
        self.weights.clear();
        let mut values = vec![0.0; self.stride];
        for x in axis.window.0..axis.window.0 + axis.window.1 {
            let center = axis.part.0 + (x as f64 + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as usize;
            let last = ((center + support + 0.5) as usize).min(axis.source);
            let values = &mut values[..last.saturating_sub(first)];
            for (i, value) in values.iter_mut().enumerate() {
                *value = kernel(((first + i) as f64 - center + 0.5) * (1.0 / filter_scale));
            }
            let total: f64 = values.iter().sum();
            let norm = if total == 0.0 { 1.0 } else { total };
            self.spans.push((first, values.len()));
            self.weights
                .extend(values.iter().map(|v| convert(v / norm)));
            let missing = self.stride - values.len();
            self.weights
                .extend(std::iter::repeat_with(|| convert(0.0)).take(missing));
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
pub(super) fn fixed_point(weight: f64) -> i32 {
    (weight * f64::from(1 << PRECISION) + 0.5_f64.copysign(weight)) as i32
}
