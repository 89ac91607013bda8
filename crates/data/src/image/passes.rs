//! The horizontal and the vertical pass of the resampler.
//!
//! Both add up `weight * sample` in 32-bit integers, so their results do not depend on the order of the sums nor on the
//! [`Kernel`] that adds them.

pub(super) mod kernel;

use self::kernel::{Kernel, LANES, Pairs, Portable, Weights};
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

/// What the passes leave to the next picture.
#[derive(Default)]
pub(super) struct Room {
    columns: Vec<[u8; LANES]>,
    pairs: Vec<Pairs>,
    weights: PairTaps,
}

/// Weights by pairs of source samples.
#[derive(Default)]
struct PairTaps {
    /// First source sample per output pixel, and where its weights begin; after the last one, where they end.
    spans: Vec<(usize, usize)>,
    weights: Vec<Weights>,
}

impl PairTaps {
    /// Pairs of every output pixel's first two samples and so on; where `even` those of the samples 0 and 1, 2 and 3 and so on, seen
    /// from the first one that any needs. A sample that is missing has no weight.
    fn compute(&mut self, taps: &Taps<i32>, even: bool) {
        let (start, _) = taps.reach();
        self.spans.clear();
        self.weights.clear();
        for x in 0..taps.len() {
            let (first, weights) = taps.at(x);
            let first = first - start;
            let before = if even { first % 2 } else { 0 };
            self.spans.push((first - before, self.weights.len()));
            let weight = |i: usize| i.checked_sub(before).and_then(|i| weights.get(i)).copied();
            let pairs = (before + weights.len()).div_ceil(2);
            self.weights.extend((0..pairs).map(|pair| {
                Weights::new([2 * pair, 2 * pair + 1].map(|i| weight(i).unwrap_or(0)))
            }));
        }
        self.spans.push((0, self.weights.len()));
    }

    /// First source sample of an output pixel, and the weights from there on.
    #[inline(always)]
    fn at(&self, x: usize) -> (usize, &[Weights]) {
        let (first, begin) = self.spans[x];
        (first, &self.weights[begin..self.spans[x + 1].1])
    }
}

/// From `height` rows of interleaved `channels` to planes. `room` is memory to work in.
pub(super) fn horizontal_pass(
    taps: &Taps<i32>,
    input: Rows<'_>,
    (channels, height): (usize, usize),
    room: &mut Room,
    out: &mut Planes<'_>,
) {
    room.weights.compute(taps, true);
    #[cfg(target_arch = "x86_64")]
    if let Some(kernel) = pulp::x86::V3::try_new() {
        let pass = Horizontal {
            kernel,
            taps,
            input,
            channels,
            height,
            room,
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
        room,
        out,
    });
}

/// From planes with rows of `width` samples to planes. `room` is memory to work in.
pub(super) fn vertical_pass(
    taps: &Taps<i32>,
    input: Rows<'_>,
    (planes, width): (usize, usize),
    room: &mut Room,
    out: &mut Planes<'_>,
) {
    room.weights.compute(taps, false);
    let weights = &room.weights;
    #[cfg(target_arch = "x86_64")]
    if let Some(kernel) = pulp::x86::V3::try_new() {
        return pulp::Simd::vectorize(
            kernel,
            Vertical {
                kernel,
                taps,
                weights,
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
        weights,
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
    room: &'a mut Room,
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
            room,
            out,
            ..
        } = self;
        let Room {
            columns,
            pairs,
            weights,
        } = room;
        let (left, right) = taps.reach();
        let count_of_pairs = (right - left).div_ceil(2);
        columns.resize(2 * count_of_pairs * CHANNELS, [0; LANES]);
        pairs.resize(count_of_pairs * CHANNELS, Pairs::default());
        let samples = (right - left) * CHANNELS;
        for top in (0..height).step_by(LANES) {
            let count = LANES.min(height - top);
            gather(kernel, input, top, count, &mut columns[..samples]);
            let (pixels, _) = columns.as_chunks::<CHANNELS>();
            let (pixels, _) = pixels.as_chunks::<2>();
            let (paired, _) = pairs.as_chunks_mut::<CHANNELS>();
            for ([first, second], pairs) in pixels.iter().zip(paired.iter_mut()) {
                for ((first, second), pairs) in first.iter().zip(second).zip(pairs) {
                    *pairs = kernel.pair(first, second);
                }
            }
            let mut block = [[[0; LANES]; LANES]; CHANNELS];
            for x in 0..taps.len() {
                let (first, weights) = weights.at(x);
                let mut sums = [kernel.start(); CHANNELS];
                for (pairs, &weights) in paired[first / 2..].iter().zip(weights) {
                    for (sums, pairs) in sums.iter_mut().zip(pairs) {
                        *sums = kernel.add(*sums, pairs, weights);
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
    weights: &'a PairTaps,
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
            weights,
            input,
            planes,
            width,
            out,
        } = self;
        let (top, bottom) = taps.reach();
        for plane in 0..planes {
            for y in 0..taps.len() {
                let (first, weights) = weights.at(y);
                let start = plane * input.plane + first * input.row;
                // A second row that the last one lacks has no weight.
                let last = plane * input.plane + (bottom - top - 1) * input.row;
                let target = &mut out.data[plane * out.plane + y * out.row..][..width];
                for (block, target) in target.chunks_mut(COLUMNS).enumerate() {
                    let mut sums = [kernel.start(); 2];
                    let mut row = start;
                    for &weights in weights {
                        let second = (row + input.row).min(last);
                        let mut padded = [[0; COLUMNS]; 2];
                        let [padding, other] = &mut padded;
                        let first = columns(input.data, row + block * COLUMNS, padding);
                        let second = columns(input.data, second + block * COLUMNS, other);
                        let halves = first.as_chunks::<LANES>().0.iter();
                        let halves = halves.zip(second.as_chunks::<LANES>().0);
                        for (sums, (first, second)) in sums.iter_mut().zip(halves) {
                            *sums = kernel.add(*sums, &kernel.pair(first, second), weights);
                        }
                        row += 2 * input.row;
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

/// The samples from `at` on. Those beyond a row belong to the next one, and their sums are not stored.
#[inline(always)]
fn columns<'s>(data: &'s [u8], at: usize, padded: &'s mut [u8; COLUMNS]) -> &'s [u8; COLUMNS] {
    match data[at..].first_chunk::<COLUMNS>() {
        Some(values) => values,
        None => {
            let rest = &data[at..];
            padded[..rest.len()].copy_from_slice(rest);
            padded
        }
    }
}
