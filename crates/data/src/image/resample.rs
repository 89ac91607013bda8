//! Pillow's resampling: a horizontal and a vertical pass, each with 22-bit fixed-point weights, and a result
//! rounded to `u8` in between (`libImaging/Resample.c`). Only the pixels of the wanted window are computed.

use openclip_model::config::Interpolation;

use super::passes::{COLUMNS, LANES, Rows, horizontal_pass, vertical_pass};

/// A rectangle in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rect {
    pub left: usize,
    pub top: usize,
    pub width: usize,
    pub height: usize,
}

/// What to compute: `region` of the source is scaled to `resized` pixels, of which `window` is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scaling {
    pub region: Rect,
    /// Width and height.
    pub resized: (usize, usize),
    pub window: Rect,
}

impl Scaling {
    /// Whether the scaled picture is the region itself; Pillow then copies instead of filtering.
    pub fn is_copy(&self) -> bool {
        self.resized == (self.region.width, self.region.height)
    }

    /// Whether the vertical pass comes first, which shows in the rounding: since Pillow 13 it does where it takes
    /// away many more rows than the horizontal pass takes columns. Earlier versions never began with it; on
    /// photographs that is a difference of 1/255 in single pixels.
    fn is_vertical_first(&self) -> bool {
        let saved = |before: usize, after: usize| before as i64 - after as i64;
        let rows = saved(self.region.height, self.resized.1);
        rows > 0 && rows > 2 * saved(self.region.width, self.resized.0)
    }
}

/// Interleaved samples of a source.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub samples: &'a [u8],
    /// Width of a whole row in pixels.
    pub width: usize,
    /// Samples per pixel.
    pub channels: usize,
}

/// Planar destination: channel `c` of window pixel `(x, y)` is `data[c * plane + y * row + x]`.
pub(crate) struct Planes<'a> {
    pub data: &'a mut [u8],
    pub plane: usize,
    pub row: usize,
}

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

    /// `precompute_coeffs` for output pixels `start..start + len` of `resized`.
    fn compute(
        &mut self,
        source: usize,
        resized: usize,
        (start, len): (usize, usize),
        filter: Interpolation,
        convert: impl Fn(f64) -> W,
    ) {
        let scale = source as f64 / resized as f64;
        let filter_scale = scale.max(1.0);
        let (kernel, support): (fn(f64) -> f64, f64) = match filter {
            Interpolation::Bicubic => (bicubic, 2.0),
            Interpolation::Bilinear => (triangle, 1.0),
        };
        let support = support * filter_scale;
        self.stride = support.ceil() as usize * 2 + 1;
        self.spans.clear();
        self.weights.clear();
        let mut values = Vec::with_capacity(self.stride);
        for x in start..start + len {
            let center = (x as f64 + 0.5) * scale;
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

fn fixed_point(weight: f64) -> i32 {
    (weight * f64::from(1 << PRECISION) + 0.5_f64.copysign(weight)) as i32
}

/// Buffers that one picture leaves to the next.
#[derive(Default)]
pub(crate) struct Resampler {
    horizontal: Taps<i32>,
    vertical: Taps<i32>,
    columns: Vec<[u8; LANES]>,
    /// Result of the first pass.
    middle: Vec<u8>,
}

impl Resampler {
    /// Filters 8-bit samples into `out`, all channels alike.
    pub fn resample(
        &mut self,
        source: Source<'_>,
        scaling: &Scaling,
        filter: Interpolation,
        out: &mut Planes<'_>,
    ) {
        let Scaling {
            region,
            resized,
            window,
        } = *scaling;
        let Self {
            horizontal,
            vertical,
            columns,
            middle,
        } = self;
        horizontal.compute(
            region.width,
            resized.0,
            (window.left, window.width),
            filter,
            fixed_point,
        );
        vertical.compute(
            region.height,
            resized.1,
            (window.top, window.height),
            filter,
            fixed_point,
        );
        let channels = source.channels;
        let (left, right) = horizontal.reach();
        let (top, bottom) = vertical.reach();
        let (samples, height) = ((right - left) * channels, bottom - top);
        let stride = source.width * channels;
        let start = (region.top + top) * stride + (region.left + left) * channels;
        let input = Rows {
            data: &source.samples[start..],
            row: stride,
            plane: 0,
        };
        if scaling.is_vertical_first() {
            middle.resize(window.height * samples, 0);
            let mut between = Planes {
                data: middle,
                plane: 0,
                row: samples,
            };
            vertical_pass(vertical, input, (1, samples), &mut between);
            let input = Rows {
                data: middle,
                row: samples,
                plane: 0,
            };
            horizontal_pass(horizontal, input, (channels, window.height), columns, out);
        } else {
            // Whole vectors in each row let the vertical pass read without looking for the row's end.
            let row = window.width.next_multiple_of(COLUMNS);
            let plane = height * row;
            middle.resize(channels * plane, 0);
            let mut between = Planes {
                data: middle,
                plane,
                row,
            };
            horizontal_pass(horizontal, input, (channels, height), columns, &mut between);
            let input = Rows {
                data: middle,
                row,
                plane,
            };
            vertical_pass(vertical, input, (channels, window.width), out);
        }
    }
}

/// Filters deep grey samples, `BYTES` little-endian bytes per pixel. Pillow does this in `f64` and rounds each pass to
/// the samples' own type, which `depth` knows.
pub(crate) fn resample_deep<const BYTES: usize>(
    source: Source<'_>,
    scaling: &Scaling,
    filter: Interpolation,
    depth: Depth<BYTES>,
) -> Vec<[u8; BYTES]> {
    let Scaling {
        region,
        resized,
        window,
    } = *scaling;
    let (mut horizontal, mut vertical) = (Taps::<f64>::default(), Taps::<f64>::default());
    horizontal.compute(
        region.width,
        resized.0,
        (window.left, window.width),
        filter,
        |w| w,
    );
    vertical.compute(
        region.height,
        resized.1,
        (window.top, window.height),
        filter,
        |w| w,
    );
    let (pixels, _) = source.samples.as_chunks::<BYTES>();
    let mut rows = Vec::with_capacity(region.width * region.height);
    for row in pixels
        .chunks_exact(source.width)
        .skip(region.top)
        .take(region.height)
    {
        rows.extend_from_slice(&row[region.left..][..region.width]);
    }
    if scaling.is_vertical_first() {
        let columns = deep_pass(
            &vertical,
            &transposed(&rows, region.width),
            region.height,
            depth,
        );
        deep_pass(
            &horizontal,
            &transposed(&columns, window.height),
            region.width,
            depth,
        )
    } else {
        let middle = deep_pass(&horizontal, &rows, region.width, depth);
        let columns = deep_pass(
            &vertical,
            &transposed(&middle, window.width),
            region.height,
            depth,
        );
        transposed(&columns, window.height)
    }
}

/// How a deep sample becomes a number and back.
#[derive(Clone, Copy)]
pub(crate) struct Depth<const BYTES: usize> {
    value: fn([u8; BYTES]) -> f64,
    sample: fn(f64) -> [u8; BYTES],
}

/// `I;16`. Like Pillow this wraps the low byte of a sum that leaves the 16 bits.
pub(crate) const I16: Depth<2> = Depth {
    value: |bytes| f64::from(u16::from_le_bytes(bytes)),
    sample: |sum| {
        let sum = rounded(sum);
        [
            (sum % 256).clamp(0, 255) as u8,
            (sum >> 8).clamp(0, 255) as u8,
        ]
    },
};
/// `I`.
pub(crate) const I32: Depth<4> = Depth {
    value: |bytes| f64::from(i32::from_le_bytes(bytes)),
    sample: |sum| rounded(sum).to_le_bytes(),
};
/// `F`.
pub(crate) const F32: Depth<4> = Depth {
    value: |bytes| f64::from(f32::from_le_bytes(bytes)),
    sample: |sum| (sum as f32).to_le_bytes(),
};

fn rounded(sum: f64) -> i32 {
    (sum.abs() + 0.5).floor().copysign(sum) as i32
}

/// Filters along rows of `width` pixels.
fn deep_pass<const BYTES: usize>(
    taps: &Taps<f64>,
    pixels: &[[u8; BYTES]],
    width: usize,
    depth: Depth<BYTES>,
) -> Vec<[u8; BYTES]> {
    let mut out = Vec::with_capacity(pixels.len() / width * taps.len());
    for row in pixels.chunks_exact(width) {
        for x in 0..taps.len() {
            let (first, weights) = taps.at(x);
            let pairs = row[first..].iter().zip(weights);
            let sum = pairs.fold(0.0, |sum, (&pixel, weight)| {
                sum + (depth.value)(pixel) * weight
            });
            out.push((depth.sample)(sum));
        }
    }
    out
}

fn transposed<const BYTES: usize>(pixels: &[[u8; BYTES]], width: usize) -> Vec<[u8; BYTES]> {
    (0..width)
        .flat_map(|x| pixels[x..].iter().step_by(width).copied())
        .collect()
}

/// Source pixels that nearest neighbour takes for the output pixels `start..start + len` of one axis.
/// Pillow adds the step up pixel by pixel, and its rounding errors decide ties.
pub(crate) fn nearest(source: usize, resized: usize, (start, len): (usize, usize)) -> Vec<usize> {
    let step = source as f64 / resized as f64;
    let mut position = step * 0.5;
    let mut picked = Vec::with_capacity(len);
    for x in 0..start + len {
        if x >= start {
            picked.push((position as usize).min(source - 1));
        }
        position += step;
    }
    picked
}
