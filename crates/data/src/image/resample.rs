//! Pillow's resampling: a horizontal and a vertical pass, each with 22-bit fixed-point weights, and a result
//! rounded to `u8` in between (`libImaging/Resample.c`). Only the pixels of the wanted window are computed.

use std::ops::Range;

use openclip_model::config::Interpolation;

use super::passes::{
    COLUMNS, PairTaps, Planes, Precision, ROWS, Room, Rows, Weights, horizontal_pass, vertical_pass,
};
use super::taps::{Axis, Taps};

/// A rectangle in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rect {
    pub left: usize,
    pub top: usize,
    pub width: usize,
    pub height: usize,
}

/// A rectangle whose edges lie anywhere between pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Part {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
}

impl Rect {
    /// All of it, seen from its own corner.
    pub fn whole(self) -> Part {
        Part {
            left: 0.0,
            top: 0.0,
            width: self.width as f64,
            height: self.height as f64,
        }
    }
}

/// What to compute: `part` of `region` of the source is scaled to `resized` pixels, of which `window` is wanted. No pixel
/// outside the region counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scaling {
    pub region: Rect,
    /// Seen from the region's corner.
    pub part: Part,
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
    pub fn is_vertical_first(&self) -> bool {
        let saved = |before: usize, after: usize| before as i64 - after as i64;
        let rows = saved(self.region.height, self.resized.1);
        rows > 0 && rows > 2 * saved(self.region.width, self.resized.0)
    }

    /// Across and down.
    fn axes(&self, filter: Interpolation) -> [Axis; 2] {
        let Self {
            region,
            part,
            resized,
            window,
        } = *self;
        let axis = |source, part, resized, window| Axis {
            source,
            part,
            resized,
            window,
            filter,
        };
        let Rect {
            left,
            top,
            width,
            height,
        } = window;
        [
            axis(
                region.width,
                (part.left, part.width),
                resized.0,
                (left, width),
            ),
            axis(
                region.height,
                (part.top, part.height),
                resized.1,
                (top, height),
            ),
        ]
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

/// A source whose rows are made when they are wanted.
pub(crate) trait Lines {
    /// Samples per pixel.
    fn channels(&self) -> usize;

    /// Columns of the source that its rows have, from the first to the one behind the last.
    fn columns(&self) -> Range<usize>;

    /// Writes the source's rows from `top` on, as many as `out` holds.
    fn write(&mut self, top: usize, out: &mut [u8]);
}

/// Buffers that one picture leaves to the next.
pub(crate) struct Resampler<W: Weights> {
    horizontal: PairTaps<W>,
    vertical: PairTaps<W>,
    room: Room<W>,
    /// Rows that were made last.
    strip: Vec<u8>,
    /// Result of the first pass.
    middle: Vec<u8>,
}

impl<W: Weights> Default for Resampler<W> {
    fn default() -> Self {
        Self {
            horizontal: PairTaps::default(),
            vertical: PairTaps::default(),
            room: Room::default(),
            strip: Vec::new(),
            middle: Vec::new(),
        }
    }
}

impl<W: Precision> Resampler<W> {
    /// Filters 8-bit samples into `out`, all channels alike, as Pillow does.
    pub fn resample(
        &mut self,
        source: Source<'_>,
        scaling: &Scaling,
        filter: Interpolation,
        out: &mut Planes<'_>,
    ) {
        self.resample_by(source, scaling, (filter, scaling.is_vertical_first()), out);
    }

    /// The same in the order that is wanted.
    pub fn resample_by(
        &mut self,
        source: Source<'_>,
        scaling: &Scaling,
        (filter, is_vertical_first): (Interpolation, bool),
        out: &mut Planes<'_>,
    ) {
        let Rect {
            left,
            top,
            width,
            height,
        } = self.prepare(scaling, filter);
        let channels = source.channels;
        let stride = source.width * channels;
        let input = Rows {
            data: &source.samples[top * stride + left * channels..],
            row: stride,
            plane: 0,
        };
        if !is_vertical_first {
            let mut between = between(&mut self.middle, scaling, height, channels);
            let size = (channels, height);
            horizontal_pass(&self.horizontal, input, size, &mut self.room, &mut between);
            return self.finish(scaling, channels, out);
        }
        let (samples, rows) = (width * channels, scaling.window.height);
        self.middle.resize(rows * samples, 0);
        let mut between = Planes {
            data: &mut self.middle,
            plane: 0,
            row: samples,
        };
        vertical_pass(
            &self.vertical,
            input,
            (1, samples),
            &mut self.room,
            &mut between,
        );
        let input = Rows {
            data: &self.middle,
            row: samples,
            plane: 0,
        };
        horizontal_pass(
            &self.horizontal,
            input,
            (channels, rows),
            &mut self.room,
            out,
        );
    }

    /// Computes the weights; the part of the source that counts.
    pub fn prepare(&mut self, scaling: &Scaling, filter: Interpolation) -> Rect {
        let [across, down] = scaling.axes(filter);
        self.horizontal.compute(across, true);
        self.vertical.compute(down, false);
        let (left, right) = self.horizontal.reach();
        let (top, bottom) = self.vertical.reach();
        Rect {
            left: scaling.region.left + left,
            top: scaling.region.top + top,
            width: right - left,
            height: bottom - top,
        }
    }

    /// Filters `lines`, of which `wanted` counts by [`Self::prepare`]. The horizontal pass comes first.
    pub fn resample_lines(
        &mut self,
        lines: &mut impl Lines,
        wanted: Rect,
        scaling: &Scaling,
        out: &mut Planes<'_>,
    ) {
        let channels = lines.channels();
        let columns = lines.columns();
        let row = columns.len() * channels;
        self.strip.resize(ROWS * row, 0);
        let between = between(&mut self.middle, scaling, wanted.height, channels);
        for y in (0..wanted.height).step_by(ROWS) {
            let count = ROWS.min(wanted.height - y);
            let strip = &mut self.strip[..count * row];
            lines.write(wanted.top + y, strip);
            let input = Rows {
                data: &strip[(wanted.left - columns.start) * channels..],
                row,
                plane: 0,
            };
            let mut target = Planes {
                data: &mut between.data[y * between.row..],
                ..between
            };
            let size = (channels, count);
            horizontal_pass(&self.horizontal, input, size, &mut self.room, &mut target);
        }
        self.finish(scaling, channels, out);
    }

    /// The vertical pass over what the horizontal one left.
    fn finish(&mut self, scaling: &Scaling, channels: usize, out: &mut Planes<'_>) {
        let row = scaling.window.width.next_multiple_of(COLUMNS);
        let input = Rows {
            data: &self.middle,
            row,
            plane: self.middle.len() / channels,
        };
        let size = (channels, scaling.window.width);
        vertical_pass(&self.vertical, input, size, &mut self.room, out);
    }
}

/// Where the horizontal pass puts its `height` rows. Whole vectors in each row let the vertical pass read without looking for the
/// row's end.
fn between<'m>(
    middle: &'m mut Vec<u8>,
    scaling: &Scaling,
    height: usize,
    channels: usize,
) -> Planes<'m> {
    let row = scaling.window.width.next_multiple_of(COLUMNS);
    let plane = height * row;
    middle.resize(channels * plane, 0);
    Planes {
        data: middle,
        plane,
        row,
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
    let Scaling { region, window, .. } = *scaling;
    let [across, down] = scaling.axes(filter);
    let (mut horizontal, mut vertical) = (Taps::<f64>::default(), Taps::<f64>::default());
    horizontal.compute(across, |weight| weight);
    vertical.compute(down, |weight| weight);
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
