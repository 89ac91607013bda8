//! What attends to what, and the exponentials of its scores.

use std::ops::Range;

use super::exp;
use super::product::Matrix;

/// Rows of features that may lie in wider rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tokens<'a> {
    /// From the first feature of the first row.
    pub values: &'a [f32],
    /// From a row to the next.
    pub stride: usize,
}

impl<'a> Tokens<'a> {
    /// Part 0, 1 or 2 of rows of three parts of `width`.
    pub(super) fn part(packed: &'a [f32], part: usize, width: usize) -> Self {
        Self {
            values: packed.get(part * width..).unwrap_or_default(),
            stride: 3 * width,
        }
    }

    pub(super) fn head(self, rows: &Range<usize>, head: usize, width: usize) -> Matrix<'a> {
        let from = rows.start * self.stride + head * width;
        let values = self.values.get(from..).unwrap_or_default();
        Matrix::strided(values, [rows.len(), width], self.stride)
    }

    pub(super) fn parts(packed: &'a [f32], width: usize) -> [Self; 3] {
        [0, 1, 2].map(|part| Self::part(packed, part, width))
    }
}

/// Tokens that see each other.
#[derive(Debug, Clone)]
pub(super) struct Sequence {
    /// Rows of the queries.
    pub queries: Range<usize>,
    /// Rows of keys and values.
    pub keys: Range<usize>,
    /// The first query's place among the keys, if a query sees no later place than its own.
    pub causal: Option<usize>,
}

/// Heads of one width, side by side in every row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    pub count: usize,
    pub width: usize,
}

impl Heads {
    pub(super) fn features(self) -> usize {
        self.count * self.width
    }

    pub(super) fn scale(self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }
}

/// `exp((x − max x)·scale)` of a row in its place; gives the sum. One that is not a number, or infinite, makes the whole row so.
#[inline(always)]
pub(super) fn exponentiate(row: &mut [f32], scale: f32) -> f32 {
    const LANES: usize = 16;
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut most = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = row.as_chunks::<LANES>();
    for chunk in whole {
        for (most, x) in most.iter_mut().zip(chunk) {
            *most = larger(*most, *x);
        }
    }
    let most = most
        .iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |a, b| larger(a, *b));
    for x in row.iter_mut() {
        *x = exp((*x - most) * scale);
    }
    let mut sums = [0.0; LANES];
    let (whole, rest) = row.as_chunks::<LANES>();
    for chunk in whole {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += x;
        }
    }
    sums.iter().chain(rest).sum()
}

pub(super) fn at(rows: &Range<usize>, within: &Range<usize>) -> Range<usize> {
    within.start + rows.start..within.start + rows.end
}
