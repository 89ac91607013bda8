//! CLIP's contrastive loss and the gradients of all features, a *panel* of rows of the logits at a time.
//!
//! A panel is made in blocks of columns, each small enough for the cache: cosines, exponentials of their rows and columns, and the
//! columns' gradients while the block is there; the rows' gradients follow when the panel is whole. What the columns add up to has to
//! be known before, for which their logits are computed once more.

use std::ops::Range;

use burn::tensor::{Device, Tensor};
use rayon::prelude::*;

use super::product::{Matrix, Onto, Packed, Right, product, turned};
use super::{LANES, Values, enabled, exp, tensor, vectorized};

/// Columns of a block, at most.
const COLUMNS: usize = 512;
/// Rows that are computed together where the panel is not kept.
const ROWS: usize = 256;
/// Rows of the panel whose gradients one core computes at a time.
const STRIP: usize = 66;

/// A loss of pairs and its gradients.
#[derive(Debug)]
pub struct Contrast {
    /// The loss.
    pub loss: f64,
    /// Gradients of rows and columns, `[pairs, width]`.
    pub features: [Tensor<2>; 2],
    /// Of the factor on the cosines.
    pub scale: f64,
    /// Of what is added to them.
    pub bias: f64,
}

/// `Σ −log softmax(scale·row·columnᵀ + bias)` at each row's own column, times `½ / pairs`, over the rows `own`; with `both`, which
/// wants all rows, plus the same over the columns. At most `most` logits exist at a time.
///
/// `None` unless all is f32 on `flex`.
pub fn contrast(
    [row, column]: [&Tensor<2>; 2],
    own: Range<usize>,
    both: bool,
    [scale, bias]: [f32; 2],
    most: usize,
) -> Option<Contrast> {
    let ([pairs, width], device) = (row.dims(), row.device());
    if !enabled() || pairs == 0 || width == 0 {
        return None;
    }
    let (row, column) = (Values::of(row)?, Values::of(column)?);
    let each = (pairs / 8).next_multiple_of(32).clamp(32, COLUMNS);
    let blocks = column.get().par_chunks(each * width);
    let blocks = blocks.map(|values| {
        let matrix = Matrix::rows(values, width);
        Some(Block {
            columns: values.len() / width,
            for_logits: Packed::new(matrix.transposed())?,
            for_rows: Packed::new(matrix)?,
        })
    });
    let panels = Panels {
        row: row.get(),
        pairs,
        width,
        each,
        scale,
        bias,
        blocks: blocks.collect::<Option<_>>()?,
    };
    panels.run(own, both, most, &device)
}

/// Some columns, packed for the products in which they take part.
struct Block {
    columns: usize,
    /// `[width, columns]`.
    for_logits: Packed,
    /// `[columns, width]`.
    for_rows: Packed,
}

/// The largest logit of a row or column, and the sum of `exp(logit − largest)`.
type Sums = (f32, f32);

struct Panels<'a> {
    row: &'a [f32],
    pairs: usize,
    width: usize,
    /// Columns of every block but the last.
    each: usize,
    scale: f32,
    bias: f32,
    blocks: Vec<Block>,
}

impl Panels<'_> {
    fn run(&self, own: Range<usize>, both: bool, most: usize, device: &Device) -> Option<Contrast> {
        let Self { pairs, width, .. } = *self;
        let columns = match both {
            true => self.columns(),
            false => Vec::new(),
        };
        let height = (most / pairs).clamp(1, own.len().max(1));
        let mut of_rows = vec![0.0; pairs * width];
        let mut of_columns = vec![0.0; pairs * width];
        let mut panel = vec![0.0; height * pairs];
        let (mut loss, mut of_scale, mut of_bias) = (0.0, 0.0, 0.0);
        for first in own.clone().step_by(height) {
            let numbers = first..own.end.min(first + height);
            let count = numbers.len();
            let features = &self.row[first * width..numbers.end * width];
            let panel = &mut panel[..count * pairs];
            let sums = self.cosines(features, panel);
            let packed = Packed::new(Matrix::rows(features, width))?;
            let blocks = panel.par_chunks_mut(count * self.each).enumerate();
            let blocks = blocks.zip(of_columns.par_chunks_mut(self.each * width));
            let found = blocks.map(|((index, block), of_columns)| {
                let columns = columns.get(index).map_or(&[][..], Vec::as_slice);
                let found = vectorized(
                    #[inline(always)]
                    || self.slopes(index, block, first, &sums, columns),
                );
                let slopes = turned(block, self.blocks[index].columns);
                let slopes = Matrix::rows(&slopes, count);
                product(
                    slopes,
                    Right::Packed(&packed),
                    1.0,
                    None,
                    of_columns,
                    Onto::Itself,
                );
                found
            });
            for [a, b, c] in found.collect::<Vec<_>>() {
                (loss, of_scale, of_bias) = (loss + a, of_scale + b, of_bias + c);
            }
            self.rows(panel, &mut of_rows[first * width..numbers.end * width]);
        }
        let features = [of_rows, of_columns].map(|values| tensor(values, [pairs, width], device));
        Some(Contrast {
            loss,
            features,
            scale: of_scale,
            bias: of_bias,
        })
    }

    /// Fills a panel with cosines, and gives the sums of its rows' logits.
    fn cosines(&self, features: &[f32], panel: &mut [f32]) -> Vec<Sums> {
        let count = features.len() / self.width;
        let blocks = panel.par_chunks_mut(count * self.each).zip(&self.blocks);
        let found = blocks.map(|(out, block)| {
            self.multiply(features, block, out);
            vectorized(
                #[inline(always)]
                || {
                    // A loop: what an iterator calls is compiled apart, without the instructions of this place.
                    let mut sums = Vec::with_capacity(count);
                    for row in out.chunks_exact(block.columns) {
                        sums.push(self.row_sums(row));
                    }
                    sums
                },
            )
        });
        let found = found.collect::<Vec<_>>();
        let of_row = |row: usize| {
            let parts = || found.iter().map(|block| block[row]);
            let largest = parts().fold(f32::NEG_INFINITY, |max, (largest, _)| max.max(largest));
            let parts = parts().map(|(from, sum)| f64::from(sum) * f64::from(from - largest).exp());
            (largest, parts.sum::<f64>() as f32)
        };
        (0..count).map(of_row).collect()
    }

    /// Cosines of some rows with a block's columns.
    fn multiply(&self, features: &[f32], block: &Block, out: &mut [f32]) {
        let features = Matrix::rows(features, self.width);
        let columns = Right::Packed(&block.for_logits);
        product(features, columns, 1.0, None, out, Onto::Nothing);
    }

    #[inline(always)]
    fn logit(&self, cosine: f32) -> f32 {
        cosine * self.scale + self.bias
    }

    #[inline(always)]
    fn row_sums(&self, row: &[f32]) -> Sums {
        let mut largest = [f32::NEG_INFINITY; LANES];
        in_lanes(row, |lane, cosine| {
            largest[lane] = largest[lane].max(self.logit(cosine));
        });
        let largest = largest.into_iter().fold(f32::NEG_INFINITY, f32::max);
        let mut sums = [0.0; LANES];
        in_lanes(row, |lane, cosine| {
            sums[lane] += exp(self.logit(cosine) - largest);
        });
        (largest, sums.iter().sum())
    }

    /// The sums of all logits of each column, block by block.
    fn columns(&self) -> Vec<Vec<Sums>> {
        let of_block = |tile: &mut Vec<f32>, block: &Block| {
            let mut largest = vec![f32::NEG_INFINITY; block.columns];
            let mut sums = vec![0.0; block.columns];
            for features in self.row.chunks(ROWS * self.width) {
                let count = features.len() / self.width;
                tile.resize(count * block.columns, 0.0);
                self.multiply(features, block, tile);
                vectorized(
                    #[inline(always)]
                    || {
                        let before = largest.clone();
                        for row in tile.chunks_exact(block.columns) {
                            for (largest, cosine) in largest.iter_mut().zip(row) {
                                *largest = largest.max(self.logit(*cosine));
                            }
                        }
                        for (sum, (before, now)) in sums.iter_mut().zip(before.iter().zip(&largest))
                        {
                            *sum *= exp(before - now);
                        }
                        for row in tile.chunks_exact(block.columns) {
                            for (sum, (largest, cosine)) in
                                sums.iter_mut().zip(largest.iter().zip(row))
                            {
                                *sum += exp(self.logit(*cosine) - largest);
                            }
                        }
                    },
                );
            }
            largest.into_iter().zip(sums).collect()
        };
        let blocks = self.blocks.par_iter().map_init(Vec::new, of_block);
        blocks.collect()
    }

    /// Turns cosines into their slopes, and gives what the block adds to the loss and to the gradients of scale and bias.
    #[inline(always)]
    fn slopes(
        &self,
        index: usize,
        block: &mut [f32],
        first: usize,
        rows: &[Sums],
        columns: &[Sums],
    ) -> [f64; 3] {
        let (start, count) = (index * self.each, self.blocks[index].columns);
        let weight = 0.5 / self.pairs as f32;
        let (tops, shares): (Vec<f32>, Vec<f32>) =
            columns.iter().map(|(top, sum)| (top, weight / sum)).unzip();
        let [mut loss, mut of_scale, mut of_bias] = [0.0; 3];
        let mut slopes = vec![0.0; count];
        for (row, (cosines, (top, sum))) in block.chunks_exact_mut(count).zip(rows).enumerate() {
            let share = weight / sum;
            for (slope, cosine) in slopes.iter_mut().zip(&*cosines) {
                *slope = exp(self.logit(*cosine) - top) * share;
            }
            let both = slopes
                .iter_mut()
                .zip(&*cosines)
                .zip(tops.iter().zip(&shares));
            for ((slope, cosine), (top, share)) in both {
                *slope += exp(self.logit(*cosine) - top) * share;
            }
            if let Some(own) = (first + row).checked_sub(start).filter(|own| *own < count) {
                let logit = f64::from(self.logit(cosines[own]));
                let of = |(top, sum): &Sums| f64::from(*sum).ln() - (logit - f64::from(*top));
                let column = columns.get(own);
                slopes[own] -= weight * if column.is_some() { 2.0 } else { 1.0 };
                loss += f64::from(weight) * (of(&(*top, *sum)) + column.map_or(0.0, of));
            }
            of_scale += super::sum(&slopes, cosines, |slope, cosine| slope * cosine);
            of_bias += super::sum(&slopes, &slopes, |slope, _| slope);
            for (cosine, slope) in cosines.iter_mut().zip(&slopes) {
                *cosine = slope * self.scale;
            }
        }
        [loss, of_scale, of_bias]
    }

    /// The gradients of a panel's rows.
    fn rows(&self, panel: &[f32], out: &mut [f32]) {
        let count = out.len() / self.width;
        let strips = out.par_chunks_mut(STRIP * self.width).enumerate();
        strips.for_each(|(strip, out)| {
            let (first, height) = (strip * STRIP, out.len() / self.width);
            for (index, block) in self.blocks.iter().enumerate() {
                let start = count * index * self.each + first * block.columns;
                let slopes = &panel[start..start + height * block.columns];
                let onto = if index == 0 {
                    Onto::Nothing
                } else {
                    Onto::Itself
                };
                let slopes = Matrix::rows(slopes, block.columns);
                product(slopes, Right::Packed(&block.for_rows), 1.0, None, out, onto);
            }
        });
    }
}

#[inline(always)]
fn in_lanes(values: &[f32], mut each: impl FnMut(usize, f32)) {
    let parts = values.chunks_exact(LANES);
    let rest = parts.remainder();
    for part in parts {
        for (lane, value) in part.iter().enumerate() {
            each(lane, *value);
        }
    }
    for (lane, value) in rest.iter().enumerate() {
        each(lane, *value);
    }
}
