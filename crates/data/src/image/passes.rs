//! The horizontal and the vertical pass of the resampler.
//!
//! Both add up `weight * sample` in whole numbers, so their results do not depend on the order of the sums nor on the
//! [`Kernel`] that adds them.

mod kernel;
mod weights;

pub(super) use self::kernel::Precision;
use self::kernel::{Kernel, LANES, Lanes, Pairs, Portable};
pub(super) use self::weights::{Coarse, Exact, PairTaps, Weights};

/// Columns that the vertical pass takes at once.
pub(super) const COLUMNS: usize = 2 * LANES;
/// Rows that the horizontal pass takes at once.
pub(super) const ROWS: usize = LANES;

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
pub(super) struct Room<W: Weights> {
    columns: Vec<[u8; LANES]>,
    pairs: Vec<Pairs<W>>,
    rows: Vec<[usize; 2]>,
}

impl<W: Weights> Default for Room<W> {
    fn default() -> Self {
        Self {
            columns: Vec::new(),
            pairs: Vec::new(),
            rows: Vec::new(),
        }
    }
}

/// From `height` rows of interleaved `channels` to planes. `room` is memory to work in.
pub(super) fn horizontal_pass<W: Precision>(
    taps: &PairTaps<W>,
    input: Rows<'_>,
    (channels, height): (usize, usize),
    room: &mut Room<W>,
    out: &mut Planes<'_>,
) {
    run(Horizontal {
        taps,
        input,
        channels,
        height,
        room,
        out,
    });
}

/// From planes with rows of `width` samples to planes. `room` is memory to work in.
pub(super) fn vertical_pass<W: Precision>(
    taps: &PairTaps<W>,
    input: Rows<'_>,
    (planes, width): (usize, usize),
    room: &mut Room<W>,
    out: &mut Planes<'_>,
) {
    run(Vertical {
        taps,
        input,
        planes,
        width,
        rows: &mut room.rows,
        out,
    });
}

/// A pass under weights of `W`.
trait Pass<W> {
    fn run<K: Lanes>(self, kernel: K)
    where
        W: Kernel<K>;
}

/// Runs a pass with the best kernel that the processor has.
fn run<W: Precision>(pass: impl Pass<W>) {
    #[cfg(target_arch = "x86_64")]
    if let Some(kernel) = pulp::x86::V3::try_new() {
        let of = std::marker::PhantomData;
        return pulp::Simd::vectorize(kernel, With { kernel, pass, of });
    }
    pass.run(Portable);
}

/// A closure would do, but is not inlined into the function that has the wide vectors switched on.
#[cfg(target_arch = "x86_64")]
struct With<K, P, W> {
    kernel: K,
    pass: P,
    of: std::marker::PhantomData<W>,
}

#[cfg(target_arch = "x86_64")]
impl<K: Lanes, W: Kernel<K>, P: Pass<W>> pulp::NullaryFnOnce for With<K, P, W> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.pass.run(self.kernel);
    }
}

struct Horizontal<'a, 'o, W: Weights> {
    taps: &'a PairTaps<W>,
    input: Rows<'a>,
    channels: usize,
    height: usize,
    room: &'a mut Room<W>,
    out: &'a mut Planes<'o>,
}

impl<W: Weights> Pass<W> for Horizontal<'_, '_, W> {
    #[inline(always)]
    fn run<K: Lanes>(self, kernel: K)
    where
        W: Kernel<K>,
    {
        match self.channels {
            1 => self.channels::<1, K>(kernel),
            2 => self.channels::<2, K>(kernel),
            3 => self.channels::<3, K>(kernel),
            _ => self.channels::<4, K>(kernel),
        }
    }
}

impl<W: Weights> Horizontal<'_, '_, W> {
    /// Sixteen rows at a time are transposed, filtered with one lane for each row, and transposed back.
    #[inline(always)]
    fn channels<const CHANNELS: usize, K: Lanes>(self, kernel: K)
    where
        W: Kernel<K>,
    {
        let Self {
            taps,
            input,
            height,
            room,
            out,
            ..
        } = self;
        let Room { columns, pairs, .. } = room;
        let (left, right) = taps.reach();
        columns.resize(2 * taps.pairs() * CHANNELS, [0; LANES]);
        pairs.resize(taps.pairs() * CHANNELS, Pairs::<W>::default());
        let samples = (right - left) * CHANNELS;
        for top in (0..height).step_by(LANES) {
            let count = LANES.min(height - top);
            gather(kernel, input, top, count, &mut columns[..samples]);
            let (pixels, _) = columns.as_chunks::<CHANNELS>();
            let (pixels, _) = pixels.as_chunks::<2>();
            let (paired, _) = pairs.as_chunks_mut::<CHANNELS>();
            for ([first, second], pairs) in pixels.iter().zip(paired.iter_mut()) {
                for ((first, second), pairs) in first.iter().zip(second).zip(pairs) {
                    *pairs = W::pair(kernel, first, second);
                }
            }
            let mut block = [[[0; LANES]; LANES]; CHANNELS];
            for x in 0..taps.len() {
                let (first, weights) = taps.at(x);
                let mut sums = [W::start(kernel); CHANNELS];
                for (pairs, &weights) in paired[first / 2..].iter().zip(weights) {
                    for (sums, pairs) in sums.iter_mut().zip(pairs) {
                        *sums = weights.add(kernel, *sums, pairs);
                    }
                }
                for (block, sums) in block.iter_mut().zip(sums) {
                    block[x % LANES] = W::clip(kernel, sums);
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
fn gather(
    kernel: impl Lanes,
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

struct Vertical<'a, 'o, W> {
    taps: &'a PairTaps<W>,
    input: Rows<'a>,
    planes: usize,
    width: usize,
    /// The places of the rows under an output row's weights.
    rows: &'a mut Vec<[usize; 2]>,
    out: &'a mut Planes<'o>,
}

impl<W: Weights> Pass<W> for Vertical<'_, '_, W> {
    #[inline(always)]
    fn run<K: Lanes>(self, kernel: K)
    where
        W: Kernel<K>,
    {
        let Self {
            taps,
            input,
            planes,
            width,
            rows,
            out,
        } = self;
        let (top, bottom) = taps.reach();
        for plane in 0..planes {
            for y in 0..taps.len() {
                let (first, weights) = taps.at(y);
                // Rows behind the last one have no weight.
                let place =
                    |row: usize| plane * input.plane + row.min(bottom - top - 1) * input.row;
                rows.clear();
                rows.extend(
                    (0..weights.len())
                        .map(|pair| [first + 2 * pair, first + 2 * pair + 1].map(place)),
                );
                let target = &mut out.data[plane * out.plane + y * out.row..][..width];
                for (block, target) in target.chunks_mut(COLUMNS).enumerate() {
                    let mut sums = [W::start(kernel); 2];
                    for (&[first, second], &weights) in rows.iter().zip(weights) {
                        let mut padded = [[0; COLUMNS]; 2];
                        let [padding, other] = &mut padded;
                        let first = columns(input.data, first + block * COLUMNS, padding);
                        let second = columns(input.data, second + block * COLUMNS, other);
                        let halves = first.as_chunks::<LANES>().0.iter();
                        let halves = halves.zip(second.as_chunks::<LANES>().0);
                        for (sums, (first, second)) in sums.iter_mut().zip(halves) {
                            *sums = weights.add(kernel, *sums, &W::pair(kernel, first, second));
                        }
                    }
                    for (target, sums) in target.chunks_mut(LANES).zip(sums) {
                        let values = W::clip(kernel, sums);
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
