//! Convolution of `[batch, height, width, channels]` over all channels for inference: its weights are packed once, and what
//! follows it is computed while its output is in the cache.

use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;

use burn::tensor::{DType, Tensor};
use rayon::prelude::*;

use super::activation::Curve;
use super::finish::Finish;
use super::product::{self, Matrix, Right, biased, filled};
use super::{Values, enabled, part_of, tensor, vectorized, winograd};

/// Rows of a product that one core computes at a time; a multiple of the kernel's.
const ROWS: usize = 132;
/// Rows of the weights that are put in order together.
const TOGETHER: usize = 16;
/// Tiles below which their kernels cost more to read than they save.
const TILES: usize = 32;
/// The same where their kernels are read once.
const TILES_ONCE: usize = 96;
/// Channels in times channels out from which tiles are worth their transforms.
const WIDE: usize = 2048;

/// Weights as the products want them, made when they are first used.
pub(in crate::layers) struct Packed {
    /// `[outputs, inputs, kernel, kernel]`.
    weight: Values,
    bias: Vec<f32>,
    inputs: usize,
    kernel: usize,
    stride: usize,
    least_tiles: usize,
    /// `[kernel²·inputs, outputs]`.
    whole: OnceLock<Option<product::Packed>>,
    /// For 3×3 at stride 1.
    tiles: OnceLock<Option<Vec<product::Packed>>>,
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Packed({}×{})", self.inputs, self.bias.len())
    }
}

impl Packed {
    /// `None` unless the weights are f32 on `flex`.
    pub(in crate::layers) fn new(
        weight: &Tensor<4>,
        bias: &Tensor<1>,
        stride: usize,
    ) -> Option<Self> {
        let [_, inputs, kernel, _] = weight.dims();
        Some(Self {
            weight: Values::of(weight)?,
            bias: Values::of(bias)?.get().to_vec(),
            inputs,
            kernel,
            stride,
            least_tiles: TILES,
            whole: OnceLock::new(),
            tiles: OnceLock::new(),
        })
    }

    /// The same for weights that change behind every pass, without a bias.
    pub(super) fn once(weight: &Tensor<4>, stride: usize) -> Option<Self> {
        let [outputs, _, _, _] = weight.dims();
        let bias = Tensor::zeros([outputs], (&weight.device(), DType::F32));
        Some(Self {
            least_tiles: TILES_ONCE,
            ..Self::new(weight, &bias, stride)?
        })
    }

    /// `curve` of the convolution plus `add`, which has its shape. `None` for what is not f32 on `flex`, or wants a derivative.
    pub(in crate::layers) fn forward(
        &self,
        x: &Tensor<4>,
        add: Option<&Tensor<4>>,
        curve: Option<Curve>,
    ) -> Option<Tensor<4>> {
        if x.is_autodiff() || !enabled() {
            return None;
        }
        let [batch, height, width, _] = x.dims();
        let (device, x) = (x.device(), Values::of(x)?);
        let add = match add {
            Some(add) => Some(Values::of(add)?),
            None => None,
        };
        let finish = Finish {
            bias: &self.bias,
            add: add.as_ref().map(Values::get),
            curve,
        };
        let values = self.convolve(x.get(), [batch, height, width], &finish)?;
        let [rows, columns] = self.places([height, width])?.out;
        let shape = [batch, rows, columns, self.bias.len()];
        Some(tensor(values, shape, &device))
    }

    /// `[outputs]`.
    pub(super) fn bias(&self) -> &[f32] {
        &self.bias
    }

    fn places(&self, size: [usize; 2]) -> Option<Places> {
        Places::new(size, self.inputs, self.kernel, self.stride)
    }

    /// The same of numbers of a batch, its height and its width.
    pub(super) fn convolve(
        &self,
        x: &[f32],
        size: [usize; 3],
        finish: &Finish<'_>,
    ) -> Option<Vec<f32>> {
        let outputs = self.bias.len();
        let lanes = [self.inputs, outputs].map(|channels| channels % winograd::LANES);
        match (self.kernel, self.stride) {
            (3, 1)
                if lanes == [0; 2]
                    && self.inputs * outputs >= WIDE
                    && winograd::tiles(size) >= self.least_tiles =>
            {
                let tiles = self
                    .tiles
                    .get_or_init(|| winograd::transform(self.weight.get(), self.inputs, outputs));
                winograd::convolve(x, size, tiles.as_ref()?, finish)
            }
            _ => {
                let [batch, height, width] = size;
                self.columns(x, batch, &self.places([height, width])?, finish)
            }
        }
    }

    fn columns(
        &self,
        x: &[f32],
        batch: usize,
        places: &Places,
        finish: &Finish<'_>,
    ) -> Option<Vec<f32>> {
        let outputs = self.bias.len();
        let matrix = self.whole.get_or_init(|| self.whole()).as_ref()?;
        let rows = batch * places.out[0] * places.out[1];
        let part = part_of(rows, ROWS);
        filled(rows * outputs, |out| {
            let parts = out.par_chunks_mut(part * outputs).enumerate();
            let work = parts.map_init(Vec::new, |buffer, (index, out)| {
                let (first, count) = (index * part, out.len() / outputs);
                let x = match places.is_pointwise() {
                    true => &x[first * self.inputs..][..count * self.inputs],
                    false => {
                        buffer.resize(count * matrix.inner(), 0.0);
                        places.gather(x, first..first + count, buffer);
                        buffer.as_slice()
                    }
                };
                let x = Matrix::rows(x, matrix.inner());
                let out = biased(x, Right::Packed(matrix), Some(finish.bias), out)?;
                vectorized(
                    #[inline(always)]
                    || finish.rest(out, first * outputs),
                );
                Some(())
            });
            work.collect()
        })
    }

    /// `[outputs, inputs, kernel²]` → `[kernel²·inputs, outputs]`.
    fn whole(&self) -> Option<product::Packed> {
        let (outputs, taps) = (self.bias.len(), self.kernel * self.kernel);
        let weight = self.weight.get();
        let mut matrix = vec![0.0; weight.len()];
        // Some rows at a time, whose numbers are neighbours in the weights.
        let parts = matrix.par_chunks_mut(TOGETHER * outputs).enumerate();
        parts.for_each(|(part, out)| {
            let rows = part * TOGETHER..part * TOGETHER + out.len() / outputs;
            let rows: Vec<_> = rows
                .map(|row| row % self.inputs * taps + row / self.inputs)
                .collect();
            let kernels = weight.chunks_exact(self.inputs * taps);
            for (output, kernel) in kernels.enumerate() {
                for (row, from) in rows.iter().enumerate() {
                    out[row * outputs + output] = kernel[*from];
                }
            }
        });
        product::Packed::new(Matrix::rows(&matrix, outputs))
    }
}

/// What a convolution reads at each place of its output.
pub(super) struct Places {
    /// Height and width.
    size: [usize; 2],
    pub(super) out: [usize; 2],
    padding: usize,
    inputs: usize,
    kernel: usize,
    stride: usize,
}

impl Places {
    /// With a padding of half the kernel, but none where kernels lie side by side. `None` where no kernel fits.
    pub(super) fn new(
        size: [usize; 2],
        inputs: usize,
        kernel: usize,
        stride: usize,
    ) -> Option<Self> {
        let padding = if kernel == stride { 0 } else { kernel / 2 };
        let out = |side: usize| Some((side + 2 * padding).checked_sub(kernel)? / stride + 1);
        Some(Self {
            size,
            out: [out(size[0])?, out(size[1])?],
            padding,
            inputs,
            kernel,
            stride,
        })
    }

    fn is_pointwise(&self) -> bool {
        self.kernel == 1 && self.stride == 1
    }

    /// A row for each place of the batch: pixel by pixel under the kernel, zeros beyond the border.
    pub(super) fn gather(&self, x: &[f32], places: Range<usize>, out: &mut [f32]) {
        let ([height, width], [rows, columns]) = (self.size, self.out);
        let (padding, line) = (self.padding, self.kernel * self.inputs);
        for (place, out) in places.zip(out.chunks_exact_mut(self.kernel * line)) {
            let (picture, place) = (place / (rows * columns), place % (rows * columns));
            let (top, left) = (place / columns * self.stride, place % columns * self.stride);
            // Taps of a line that meet the picture.
            let from = padding.saturating_sub(left);
            let to = (width + padding - left).min(self.kernel);
            for (tap, out) in out.chunks_exact_mut(line).enumerate() {
                let y = (top + tap).checked_sub(padding).filter(|y| *y < height);
                let Some(y) = y else {
                    out.fill(0.0);
                    continue;
                };
                let pixel = (picture * height + y) * width + left + from - padding;
                let met = from * self.inputs..to * self.inputs;
                out[..met.start].fill(0.0);
                out[met.end..].fill(0.0);
                let pixels = &x[pixel * self.inputs..][..met.len()];
                out[met].copy_from_slice(pixels);
            }
        }
    }
}
