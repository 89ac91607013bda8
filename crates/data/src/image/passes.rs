//! The horizontal and the vertical pass of the resampler.
//!
//! Both add up `weight * sample` in 32-bit integers, so their results do not depend on the order of the sums nor on the
//! [`Kernel`] that adds them.

pub(super) mod kernel;

use self::kernel::{Kernel, LANES, Portable};
use super::taps::Taps;

/// Columns that the vertical pass takes at once.
pub(super) const COLUMNS: usize = 2 * LANES;

/// Input of a pass. Its first sample is the first that the pass needs.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub data: &'a [u8],
    pub row: usize,
    pub plane: usize,
}

/// Planar destination: channel `c` of window pixel `(x, y)` is `data[c * plane + y * row + x]`.
pub(crate) struct Planes<'a> {
    pub data: &'a mut [u8],
    pub plane: usize,
    pub row: usize,
}

/// From `height` rows of interleaved `channels` to planes. `columns` is memory to work in.
pub(super) fn horizontal_pass(
    taps: &Taps<i32>,
    input: Rows<'_>,
    (channels, height): (usize, usize),
    columns: &mut Vec<[u8; LANES]>,
    out: &mut Planes<'_>,
) {
    #[cfg(target_arch = "x86_64")]
    if let Some(kernel) = pulp::x86::V3::try_new() {
        let pass = Horizontal {
            kernel,
            taps,
            input,
            channels,
            height,
            columns,
            out,
        };
        return pulp::Simd::vectorize(kernel, pass);
    }
    pulp::NullaryFnOnce::call(Horizontal {
        kernel: Portable,
        taps,
        input,
        channels,
        height,
        columns,
        out,
    });
}

/// From planes with rows of `width` samples to planes.
pub(super) fn vertical_pass(
    taps: &Taps<i32>,
    input: Rows<'_>,
    (planes, width): (usize, usize),
    out: &mut Planes<'_>,
) {
    #[cfg(target_arch = "x86_64")]
    if let Some(kernel) = pulp::x86::V3::try_new() {
        return pulp::Simd::vectorize(
            kernel,
            Vertical {
                kernel,
                taps,
                input,
                planes,
                width,
                out,
            },
        );
    }
    pulp::NullaryFnOnce::call(Vertical {
        kernel: Portable,
        taps,
        input,
        planes,
        width,
        out,
    });
}

/// A closure would do, but is not inlined into the function that has the wide vectors switched on.
struct Horizontal<'a, 'o, K> {
    kernel: K,
    taps: &'a Taps<i32>,
    input: Rows<'a>,
    channels: usize,
    height: usize,
    columns: &'a mut Vec<[u8; LANES]>,
    out: &'a mut Planes<'o>,
}

impl<K: Kernel> pulp::NullaryFnOnce for Horizontal<'_, '_, K> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        match self.channels {
            1 => self.channels::<1>(),
            2 => self.channels::<2>(),
            3 => self.channels::<3>(),
            _ => self.channels::<4>(),
        }
    }
}

impl<K: Kernel> Horizontal<'_, '_, K> {
    /// Sixteen rows at a time are transposed, filtered with one lane for each row, and transposed back.
    #[inline(always)]
    fn channels<const CHANNELS: usize>(self) {
        let Self {
            kernel,
            taps,
            input,
            height,
            columns,
            out,
            ..
        } = self;
        let (left, right) = taps.reach();
        columns.resize((right - left) * CHANNELS, [0; LANES]);
        for top in (0..height).step_by(LANES) {
            let count = LANES.min(height - top);
            gather(kernel, input, top, count, columns);
            let (pixels, _) = columns.as_chunks::<CHANNELS>();
            let mut block = [[[0; LANES]; LANES]; CHANNELS];
            for x in 0..taps.len() {
                let (first, weights) = taps.at(x);
                let mut sums = [kernel.start(); CHANNELS];
                for (pixel, &weight) in pixels[first - left..].iter().zip(weights) {
                    for (sums, values) in sums.iter_mut().zip(pixel) {
                        *sums = kernel.add(*sums, values, weight);
                    }
                }
                for (block, sums) in block.iter_mut().zip(sums) {
                    block[x % LANES] = kernel.clip(sums);
                }
                if x % LANES == LANES - 1 || x == taps.len() - 1 {
                    let first = x / LANES * LANES;
                    for (channel, block) in block.iter().enumerate() {
                        let start = channel * out.plane + top * out.row + first;
                        let square = kernel.transposed(block);
                        scatter(
                            &square,
                            (x + 1 - first, count),
                            &mut out.data[start..],
                            out.row,
                        );
                    }
                }
            }
        }
    }
}

/// Writes sample `x` of `count` rows from `top` on to `columns[x]`; the last row fills lanes that are left over.
#[inline(always)]
fn gather<K: Kernel>(
    kernel: K,
    input: Rows<'_>,
    top: usize,
    count: usize,
    columns: &mut [[u8; LANES]],
) {
    let samples = columns.len();
    let rows: [&[u8]; LANES] = std::array::from_fn(|lane| {
        &input.data[(top + lane.min(count - 1)) * input.row..][..samples]
    });
    let (blocks, rest) = columns.as_chunks_mut::<LANES>();
    for (at, block) in blocks.iter_mut().enumerate() {
        let mut square = [[0; LANES]; LANES];
        for (values, row) in square.iter_mut().zip(&rows) {
            values.copy_from_slice(&row[at * LANES..][..LANES]);
        }
        *block = kernel.transposed(&square);
    }
    let done = samples - rest.len();
    for (x, column) in rest.iter_mut().enumerate() {
        for (value, row) in column.iter_mut().zip(&rows) {
            *value = row[done + x];
        }
    }
}

/// Writes the first `width` × `height` pixels of a block.
#[inline(always)]
fn scatter(
    block: &[[u8; LANES]; LANES],
    (width, height): (usize, usize),
    out: &mut [u8],
    row: usize,
) {
    for (y, values) in block.iter().take(height).enumerate() {
        let target = &mut out[y * row..];
        match target.first_chunk_mut::<LANES>() {
            Some(target) if width == LANES => *target = *values,
            _ => target[..width].copy_from_slice(&values[..width]),
        }
    }
}

struct Vertical<'a, 'o, K> {
    kernel: K,
    taps: &'a Taps<i32>,
    input: Rows<'a>,
    planes: usize,
    width: usize,
    out: &'a mut Planes<'o>,
}

impl<K: Kernel> pulp::NullaryFnOnce for Vertical<'_, '_, K> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self {
            kernel,
            taps,
            input,
            planes,
            width,
            out,
        } = self;
        let (top, _) = taps.reach();
        for plane in 0..planes {
            for y in 0..taps.len() {
                let (first, weights) = taps.at(y);
                let start = plane * input.plane + (first - top) * input.row;
                let target = &mut out.data[plane * out.plane + y * out.row..][..width];
                for (block, target) in target.chunks_mut(COLUMNS).enumerate() {
                    let mut sums = [kernel.start(); 2];
                    let mut at = start + block * COLUMNS;
                    for &weight in weights {
                        // Samples beyond the row belong to the next one; their sums are not stored.
                        let mut padded = [0; COLUMNS];
                        let values = match input.data[at..].first_chunk::<COLUMNS>() {
                            Some(values) => values,
                            None => {
                                let rest = &input.data[at..];
                                padded[..rest.len()].copy_from_slice(rest);
                                &padded
                            }
                        };
                        let (halves, _) = values.as_chunks::<LANES>();
                        for (sums, values) in sums.iter_mut().zip(halves) {
                            *sums = kernel.add(*sums, values, weight);
                        }
                        at += input.row;
                    }
                    for (target, sums) in target.chunks_mut(LANES).zip(sums) {
                        let values = kernel.clip(sums);
                        match target.first_chunk_mut::<LANES>() {
                            Some(target) => *target = values,
                            None => target.copy_from_slice(&values[..target.len()]),
                        }
                    }
                }
            }
        }
    }
}
