//! Depthwise convolution, a *block* of channels of one picture at a time: every place of it is a vector of the channels there.
//!
//! A convolution is known by its *meetings*: the taps that meet the picture at each row of the output, and at each column.
//! Turned round, they are those at each row of the input, and the same loop computes the gradient of the input.

use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor, module};
use rayon::prelude::*;

use super::{LANES, Values, takes, tensor, vectorized};
use crate::layers::derivative::{Value, differentiable};

/// Where the channels of a feature map are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    /// `[batch, channels, height, width]`.
    First,
    /// `[batch, height, width, channels]`.
    Last,
}

impl Channels {
    /// What the convolutions of evaluation are fastest in, where `x` is: channels last on the CPU in f32.
    pub fn fastest<const D: usize>(x: &Tensor<D>) -> Self {
        match takes(x) {
            true => Self::Last,
            false => Self::First,
        }
    }

    /// A picture with channels first, in this layout.
    pub fn of(self, picture: Tensor<4>) -> Tensor<4> {
        match self {
            Self::First => picture,
            Self::Last => picture.permute([0, 2, 3, 1]),
        }
    }

    /// What lies in this layout, with channels first.
    pub fn first(self, picture: Tensor<4>) -> Tensor<4> {
        match self {
            Self::First => picture,
            Self::Last => picture.permute([0, 3, 1, 2]),
        }
    }
}

type Lanes = super::Lanes<LANES>;

/// Of one row or column, the taps with the rows or columns that they read.
type Meetings = Vec<(usize, usize)>;

/// Of all rows, and of all columns.
type Grid = [Vec<Meetings>; 2];

/// Sizes of a convolution.
#[derive(Debug, Clone)]
struct Shape {
    layout: Channels,
    batch: usize,
    channels: usize,
    kernel: usize,
    /// Height and width.
    input: [usize; 2],
    output: [usize; 2],
    /// Of the output.
    grid: Grid,
    device: Device,
}

/// A convolution of `x` with `weight`, `[channels, 1, kernel, kernel]`, of an odd kernel; its padding keeps the size at stride 1.
///
/// `None` for few channels, too.
pub(in crate::layers) fn depthwise(
    layout: Channels,
    x: &Tensor<4>,
    weight: &Tensor<4>,
    bias: Option<&Tensor<1>>,
    stride: usize,
) -> Option<Tensor<4>> {
    let shape = Shape::new(layout, x, weight.dims(), stride)?;
    let values = Values::of(x)?;
    let taps = shape.taps(Values::of(weight)?.get());
    let output = match layout {
        // Burn's own, without a derivative, is as fast.
        Channels::First => {
            let padding = [shape.kernel / 2; 2];
            let options = ConvOptions::new([stride; 2], padding, [1, 1], shape.channels);
            let bias = bias.map(|bias| bias.clone().inner());
            module::conv2d(x.clone().inner(), weight.clone().inner(), bias, options)
        }
        Channels::Last => {
            let start = match bias {
                Some(bias) => Values::of(bias)?.get().to_vec(),
                None => vec![0.0; shape.channels],
            };
            shape.gather(
                values.get(),
                &taps,
                &start,
                [shape.input, shape.output],
                &shape.grid,
            )
        }
    };
    let mut inputs = vec![Value::from(x.clone()), Value::from(weight.clone())];
    inputs.extend(bias.map(|bias| Value::from(bias.clone())));
    let wanted: Vec<bool> = inputs.iter().map(Value::is_tracked).collect();
    let backward = move |gradient: Tensor<4>| {
        let mut found = vec![None, None, None];
        if let Some(gradient) = Values::of(&gradient) {
            if wanted[0] {
                let start = vec![0.0; shape.channels];
                let sizes = [shape.output, shape.input];
                let of_x = shape.gather(gradient.get(), &taps, &start, sizes, &shape.turned());
                found[0] = Some(of_x.into());
            }
            if wanted[1..].contains(&true) {
                let (of_weight, of_bias) = shape.parameters(values.get(), gradient.get());
                found[1] = Some(of_weight.into());
                found[2] = Some(of_bias.into());
            }
        }
        found.truncate(wanted.len());
        found
    };
    Some(differentiable(inputs, output, backward))
}

impl Shape {
    fn new(layout: Channels, x: &Tensor<4>, weight: [usize; 4], stride: usize) -> Option<Self> {
        let [channels, _, kernel, _] = weight;
        let (batch, input) = match (layout, x.dims()) {
            (Channels::First, [batch, _, height, width]) => (batch, [height, width]),
            (Channels::Last, [batch, height, width, _]) => (batch, [height, width]),
        };
        let padding = kernel / 2;
        let output = input.map(|side| (side + 2 * padding - kernel) / stride + 1);
        let meets = |axis: usize, at: usize, tap: usize| {
            let place = (at * stride + tap).checked_sub(padding)?;
            (place < input[axis]).then_some((tap, place))
        };
        let meetings = |axis, at| (0..kernel).filter_map(|tap| meets(axis, at, tap)).collect();
        let grid = [0, 1].map(|axis| (0..output[axis]).map(|at| meetings(axis, at)).collect());
        let device = x.device().inner();
        (channels >= LANES).then_some(Self {
            layout,
            batch,
            channels,
            kernel,
            input,
            output,
            grid,
            device,
        })
    }

    /// The grid of the input: which taps read a row, and for which rows of the output.
    fn turned(&self) -> Grid {
        [0, 1].map(|axis| {
            let mut found = vec![Meetings::new(); self.input[axis]];
            for (at, meetings) in self.grid[axis].iter().enumerate() {
                for (tap, place) in meetings {
                    found[*place].push((*tap, at));
                }
            }
            found
        })
    }

    /// First channel of each block; the last block may share channels with the one before.
    fn blocks(&self) -> Vec<usize> {
        let last = self.channels - LANES;
        (0..last).step_by(LANES).chain([last]).collect()
    }

    /// Pictures with blocks.
    fn units(&self) -> Vec<(usize, usize)> {
        let units = |image| self.blocks().into_iter().map(move |block| (image, block));
        (0..self.batch).flat_map(units).collect()
    }

    /// The taps of each block, from `[channels, kernel²]`.
    fn taps(&self, weight: &[f32]) -> Vec<Vec<Lanes>> {
        let taps = self.kernel * self.kernel;
        let at = |block: usize, tap: usize| {
            super::Lanes(std::array::from_fn(|lane| {
                weight[(block + lane) * taps + tap]
            }))
        };
        let of = |block| (0..taps).map(|tap| at(block, tap)).collect();
        self.blocks().into_iter().map(of).collect()
    }

    /// A block of a map with that many places.
    #[inline(always)]
    fn load(&self, values: &[f32], places: usize, (image, block): (usize, usize)) -> Vec<Lanes> {
        let map = &values[image * places * self.channels..][..places * self.channels];
        match self.layout {
            Channels::Last => {
                let pixels = map.chunks_exact(self.channels);
                pixels.map(|pixel| Lanes::of(&pixel[block..])).collect()
            }
            Channels::First => {
                let mut out = vec![Lanes::ZERO; places];
                for from in (0..places).step_by(LANES) {
                    let out = &mut out[from..places.min(from + LANES)];
                    for lane in 0..LANES {
                        let values = &map[(block + lane) * places + from..];
                        for (out, value) in out.iter_mut().zip(values) {
                            out.0[lane] = *value;
                        }
                    }
                }
                out
            }
        }
    }

    /// A tensor of the blocks of all pictures.
    fn store(&self, parts: &[Vec<Lanes>], [height, width]: [usize; 2]) -> Tensor<4> {
        let (places, channels) = (height * width, self.channels);
        let blocks = self.blocks();
        let mut out = vec![0.0; self.batch * places * channels];
        let maps = out.par_chunks_mut(places * channels);
        let maps = maps.zip(parts.par_chunks(blocks.len()));
        let shape = match self.layout {
            Channels::Last => {
                maps.for_each(|(map, parts)| {
                    let lines = map.par_chunks_mut(width * channels).enumerate();
                    lines.for_each(|(line, out)| {
                        for (at, pixel) in out.chunks_exact_mut(channels).enumerate() {
                            for (block, part) in blocks.iter().zip(parts) {
                                let lanes = &part[line * width + at].0;
                                pixel[*block..][..LANES].copy_from_slice(lanes);
                            }
                        }
                    });
                });
                [self.batch, height, width, channels]
            }
            Channels::First => {
                maps.for_each(|(map, parts)| {
                    let planes = map.par_chunks_mut(LANES * places).zip(parts);
                    planes.for_each(|(out, part)| {
                        let skip = LANES - out.len() / places;
                        for from in (0..places).step_by(LANES) {
                            for (lane, plane) in out.chunks_exact_mut(places).enumerate() {
                                let plane = plane[from..].iter_mut().take(LANES);
                                for (out, value) in plane.zip(&part[from..]) {
                                    *out = value.0[skip + lane];
                                }
                            }
                        }
                    });
                });
                [self.batch, channels, height, width]
            }
        };
        tensor(out, shape, &self.device)
    }

    /// At every row and column of the grid, `start` and the sum of `taps` times what they meet.
    ///
    /// `sizes` are those of the maps in `source` and of the grid.
    fn gather(
        &self,
        source: &[f32],
        taps: &[Vec<Lanes>],
        start: &[f32],
        [[height, width], size]: [[usize; 2]; 2],
        [rows, columns]: &Grid,
    ) -> Tensor<4> {
        let units = self.units();
        let parts = units.par_iter().enumerate().map(|(index, unit)| {
            let taps = &taps[index % taps.len()];
            vectorized(
                #[inline(always)]
                || {
                    let source = self.load(source, height * width, *unit);
                    let start = Lanes::of(&start[unit.1..]);
                    let mut out = Vec::with_capacity(size[0] * size[1]);
                    for row in rows {
                        for column in columns {
                            let mut sums = start;
                            for (down, y) in row {
                                let line = &source[y * width..][..width];
                                let taps = &taps[down * self.kernel..][..self.kernel];
                                for (right, x) in column {
                                    sums = sums + line[*x] * taps[*right];
                                }
                            }
                            out.push(sums);
                        }
                    }
                    out
                },
            )
        });
        self.store(&parts.collect::<Vec<_>>(), size)
    }

    /// Gradients of weights and bias.
    fn parameters(&self, x: &[f32], gradient: &[f32]) -> (Tensor<4>, Tensor<1>) {
        let (kernel, channels) = (self.kernel, self.channels);
        let taps = kernel * kernel;
        let [places, places_out] = [self.input, self.output].map(|[height, width]| height * width);
        let [rows, columns] = &self.grid;
        let width = self.input[1];
        let units = self.units();
        let parts = units.par_iter().map(|unit| {
            vectorized(
                #[inline(always)]
                || {
                    let x = self.load(x, places, *unit);
                    let gradient = self.load(gradient, places_out, *unit);
                    // The sums of each tap, and behind them those of the gradient.
                    let mut sums = vec![Lanes::ZERO; taps + 1];
                    for (row, slopes) in rows.iter().zip(gradient.chunks_exact(columns.len())) {
                        for (column, slope) in columns.iter().zip(slopes) {
                            sums[taps] = sums[taps] + *slope;
                            for (down, y) in row {
                                let line = &x[y * width..][..width];
                                let sums = &mut sums[down * kernel..][..kernel];
                                for (right, x) in column {
                                    sums[*right] = sums[*right] + line[*x] * *slope;
                                }
                            }
                        }
                    }
                    sums
                },
            )
        });
        let parts: Vec<_> = parts.collect();
        let [mut weight, mut bias] = [vec![0.0; channels * taps], vec![0.0; channels]];
        // Channels that the last block shares are summed in the one before.
        for ((_, block), sums) in units.iter().zip(parts) {
            for lane in block.next_multiple_of(LANES) - block..LANES {
                let channel = block + lane;
                bias[channel] += sums[taps].0[lane];
                for (weight, sums) in weight[channel * taps..].iter_mut().zip(&sums[..taps]) {
                    *weight += sums.0[lane];
                }
            }
        }
        let weight = tensor(weight, [channels, 1, kernel, kernel], &self.device);
        (weight, tensor(bias, [channels], &self.device))
    }
}
