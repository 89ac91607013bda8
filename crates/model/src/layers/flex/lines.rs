//! Depthwise convolution with channels last for inference, whatever lies around it: lines of pixels go in at one end and come out at the
//! other while they are in the cache of one core.

use burn::tensor::Tensor;

use super::{Values, vectorized};

/// Channels side by side; their number is a multiple of it.
const LANES: usize = 16;
/// Columns that are computed together.
const COLUMNS: usize = 7;

type Lanes = super::Lanes<LANES>;

/// A kernel of odd side for every channel; its padding keeps the size at stride 1.
#[derive(Debug)]
pub(crate) struct Depthwise {
    /// `[channels / LANES, kernel²]`.
    taps: Vec<Lanes>,
    /// `[channels / LANES]`.
    bias: Vec<Lanes>,
    kernel: usize,
    stride: usize,
}

/// Lines of a map as kernels read them, with zeros around: `[channels / LANES, lines, columns]`.
#[derive(Debug, Default)]
pub(super) struct Lines {
    values: Vec<Lanes>,
    lines: usize,
    columns: usize,
    padding: usize,
}

impl Lines {
    /// Room for so many lines of `width` pixels, zeros all of them.
    pub(super) fn reset(&mut self, depthwise: &Depthwise, lines: usize, width: usize) {
        self.padding = depthwise.kernel / 2;
        self.lines = lines;
        self.columns = width + 2 * self.padding;
        self.values.clear();
        let blocks = depthwise.bias.len();
        self.values
            .resize(blocks * lines * self.columns, Lanes::ZERO);
    }

    /// Puts pixels, channels last, into a line.
    pub(super) fn put(&mut self, line: usize, pixels: &[f32]) {
        let map = self.lines * self.columns;
        let channels = self.values.len() / map.max(1) * LANES;
        let start = line * self.columns + self.padding;
        vectorized(
            #[inline(always)]
            || {
                for (place, pixel) in pixels.chunks_exact(channels).enumerate() {
                    let blocks = self.values.chunks_exact_mut(map);
                    for (block, pixel) in blocks.zip(pixel.chunks_exact(LANES)) {
                        block[start + place] = Lanes::of(pixel);
                    }
                }
            },
        );
    }
}

impl Depthwise {
    /// `weight` is `[channels, 1, kernel, kernel]`. `None` for sizes that no network has.
    pub(crate) fn of(weight: &Tensor<4>, bias: &Tensor<1>, stride: usize) -> Option<Self> {
        let [channels, _, kernel, _] = weight.dims();
        if !channels.is_multiple_of(LANES) || !matches!((kernel, stride), (7, 1) | (3, 1 | 2)) {
            return None;
        }
        let (weight, bias) = (Values::of(weight)?, Values::of(bias)?);
        let taps = kernel * kernel;
        let at = |index: usize| {
            let (block, tap) = (index / taps, index % taps);
            let channel = |lane| (block * LANES + lane) * taps + tap;
            super::Lanes(std::array::from_fn(|lane| weight.get()[channel(lane)]))
        };
        Some(Self {
            taps: (0..channels / LANES * taps).map(at).collect(),
            bias: bias.get().chunks_exact(LANES).map(Lanes::of).collect(),
            kernel,
            stride,
        })
    }

    /// What a kernel makes of a side.
    pub(super) fn shrunk(&self, side: usize) -> usize {
        (side - 1) / self.stride + 1
    }

    /// Lines that the kernel reads above and below its own.
    pub(super) fn reach(&self) -> usize {
        self.kernel / 2
    }

    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// As many lines as the kernel meets wholly in `lines`, `width` pixels each.
    pub(super) fn forward(&self, lines: &Lines, width: usize, out: &mut [f32]) {
        match (self.kernel, self.stride) {
            (7, _) => self.convolve::<7, 1>(lines, width, out),
            (_, 1) => self.convolve::<3, 1>(lines, width, out),
            _ => self.convolve::<3, 2>(lines, width, out),
        }
    }

    fn convolve<const K: usize, const S: usize>(
        &self,
        lines: &Lines,
        width: usize,
        out: &mut [f32],
    ) {
        let channels = self.bias.len() * LANES;
        let map = lines.lines * lines.columns;
        vectorized(
            #[inline(always)]
            || {
                for (block, values) in lines.values.chunks_exact(map).enumerate() {
                    let taps = &self.taps[block * K * K..][..K * K];
                    for (line, out) in out.chunks_exact_mut(width * channels).enumerate() {
                        let values = &values[line * S * lines.columns..];
                        let out = &mut out[block * LANES..];
                        let mut store = |column: usize, sums: &[Lanes]| {
                            for (i, sum) in sums.iter().enumerate() {
                                let to = (column + i) * channels;
                                out[to..to + LANES].copy_from_slice(&sum.0);
                            }
                        };
                        let mut column = 0;
                        while column + COLUMNS <= width {
                            let from = &values[column * S..];
                            let start = [self.bias[block]; COLUMNS];
                            store(
                                column,
                                &sums::<K, S, COLUMNS>(from, lines.columns, taps, start),
                            );
                            column += COLUMNS;
                        }
                        while column < width {
                            let from = &values[column * S..];
                            let start = [self.bias[block]];
                            store(column, &sums::<K, S, 1>(from, lines.columns, taps, start));
                            column += 1;
                        }
                    }
                }
            },
        );
    }
}

/// `sums` and what the kernels make of neighbours in a line; `columns` lie from a line of `values` to the next.
#[inline(always)]
fn sums<const K: usize, const S: usize, const N: usize>(
    values: &[Lanes],
    columns: usize,
    taps: &[Lanes],
    mut sums: [Lanes; N],
) -> [Lanes; N] {
    for (line, taps) in taps.chunks_exact(K).enumerate() {
        let values = &values[line * columns..][..(N - 1) * S + K];
        let taps: [Lanes; K] = std::array::from_fn(|tap| taps[tap]);
        for (tap, weight) in taps.into_iter().enumerate() {
            for (n, sum) in sums.iter_mut().enumerate() {
                *sum = values[n * S + tap].mul_add(weight, *sum);
            }
        }
    }
    sums
}
