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

    /// `precompute_coeffs` for output pixels `start..start + len` of `resized`, which show `part` of `source` pixels: the
    /// place where they begin, and their length.
    pub fn compute(
        &mut self,
        source: usize,
        part: (f64, f64),
        resized: usize,
        (start, len): (usize, usize),
        filter: Interpolation,
        convert: impl Fn(f64) -> W,
    ) {
        let scale = part.1 / resized as f64;
        let filter_scale = scale.max(1.0);
        let (kernel, support): (fn(f64) -> f64, f64) = match filter {
            Interpolation::Bicubic | Interpolation::Random => (bicubic, 2.0),
            Interpolation::Bilinear => (triangle, 1.0),
        };
        let support = support * filter_scale;
        self.stride = support.ceil() as usize * 2 + 1;
        self.spans.clear();
        self.weights.clear();
        let mut values = Vec::with_capacity(self.stride);
        for x in start..start + len {
            let center = part.0 + (x as f64 + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as usize;
            let last = ((center + support + 0.5) as usize).min(source);
            values.clear();
            values.extend(
                (first..last).map(|i| kernel((i as f64 - center + 0.5) * (1.0 / filter_scale))),
            );
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
fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

/// A weight for sums in 32-bit integers.
pub(super) fn fixed_point(weight: f64) -> i32 {
    (weight * f64::from(1 << PRECISION) + 0.5_f64.copysign(weight)) as i32
}
