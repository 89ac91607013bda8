//! Softmax attention in f32, head by head: the scores of a few queries lie in the cache of the core that has them, and nowhere else.

use std::cell::Cell;
use std::ops::Range;

use rayon::prelude::*;

use super::panel::{self, COLUMNS};
use super::product::Matrix;
use super::{exp, vectorized};

/// Queries that a core takes at a time, in the forward pass.
const QUERIES: usize = 32;

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

/// What each query of each sequence sees, row after row of `heads`.
pub(super) fn attend(
    [query, key, value]: [Tokens<'_>; 3],
    sequences: &[Sequence],
    heads: Heads,
    out: &mut [f32],
) {
    let features = heads.features();
    let mut rest = out;
    let mut parts = Vec::with_capacity(sequences.len());
    for sequence in sequences {
        let (own, later) = rest.split_at_mut(sequence.queries.len() * features);
        parts.push((sequence, own));
        rest = later;
    }
    parts.into_par_iter().for_each(|(sequence, out)| {
        let mut seen = SEEN.take();
        let size = Seen::size(sequence.keys.len(), heads.width);
        seen.resize(heads.count * size, 0.0);
        let each = seen.par_chunks_exact_mut(size).enumerate();
        each.for_each(|(head, seen)| {
            let [key, value] = [key, value].map(|x| x.head(&sequence.keys, head, heads.width));
            Seen::pack(key, value, seen);
        });
        let blocks = out.par_chunks_mut(QUERIES * features).enumerate();
        blocks.for_each(|(block, out)| {
            let rows = block * QUERIES..block * QUERIES + out.len() / features;
            let mut scores = SCORES_OF_CORE.take();
            for (head, seen) in seen.chunks_exact(size).enumerate() {
                let query = query.head(&at(&rows, &sequence.queries), head, heads.width);
                let seen = Seen::of(seen, sequence.keys.len(), heads.width);
                let out = &mut out[head * heads.width..];
                vectorized(
                    #[inline(always)]
                    || seen.look(query, sequence, &rows, heads, &mut scores, out),
                );
            }
            SCORES_OF_CORE.set(scores);
        });
        SEEN.set(seen);
    });
}

thread_local! {
    /// Keys and values of a sequence's heads.
    static SEEN: Cell<Vec<f32>> = Cell::default();
    /// Scores of some queries of a head.
    static SCORES_OF_CORE: Cell<Vec<f32>> = Cell::default();
}

/// Keys and values of a head in the order in which products read them, in panels with zeros at the end.
#[derive(Debug, Clone, Copy)]
struct Seen<'a> {
    /// `[keys / COLUMNS, features, COLUMNS]`.
    keys: &'a [f32],
    /// `[features / COLUMNS, keys, COLUMNS]`.
    values: &'a [f32],
    count: usize,
    width: usize,
}

impl<'a> Seen<'a> {
    /// Numbers of `count` keys and values.
    fn size(count: usize, width: usize) -> usize {
        count.next_multiple_of(COLUMNS) * width + width.next_multiple_of(COLUMNS) * count
    }

    fn of(packed: &'a [f32], count: usize, width: usize) -> Self {
        let (keys, values) = packed.split_at(count.next_multiple_of(COLUMNS) * width);
        Self {
            keys,
            values,
            count,
            width,
        }
    }

    fn pack(key: Matrix<'_>, value: Matrix<'_>, out: &mut [f32]) {
        let [count, width] = key.shape;
        let (keys, values) = out.split_at_mut(count.next_multiple_of(COLUMNS) * width);
        for (panel, out) in keys.chunks_exact_mut(width * COLUMNS).enumerate() {
            for place in 0..COLUMNS {
                let at = panel * COLUMNS + place;
                match at < count {
                    true => {
                        let lines = out.chunks_exact_mut(COLUMNS);
                        let lines = lines.zip(key.row(at));
                        lines.for_each(|(line, feature)| line[place] = *feature);
                    }
                    false => out
                        .iter_mut()
                        .skip(place)
                        .step_by(COLUMNS)
                        .for_each(|x| *x = 0.0),
                }
            }
        }
        for (panel, out) in values.chunks_exact_mut(count * COLUMNS).enumerate() {
            for (at, line) in out.chunks_exact_mut(COLUMNS).enumerate() {
                let features = &value.row(at)[panel * COLUMNS..];
                let features = &features[..features.len().min(COLUMNS)];
                line[..features.len()].copy_from_slice(features);
                line[features.len()..].fill(0.0);
            }
        }
    }

    /// What the queries `rows` of a sequence make of it, a row of `out` each.
    #[inline(always)]
    fn look(
        self,
        query: Matrix<'_>,
        sequence: &Sequence,
        rows: &Range<usize>,
        heads: Heads,
        scores: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        let visible = |i: usize| {
            let place = sequence.causal.map(|place| place + rows.start + i + 1);
            place.map_or(self.count, |visible| visible.min(self.count))
        };
        let seen = visible(rows.len() - 1);
        let stride = self.count.next_multiple_of(COLUMNS);
        scores.resize(rows.len() * stride, 0.0);
        let panels = self.keys.chunks_exact(self.width * COLUMNS).enumerate();
        for (panel, keys) in panels.take(seen.div_ceil(COLUMNS)) {
            let row = |i: usize| query.row(i);
            panel::each(rows.len(), row, keys, |i, sums| {
                let from = i * stride + panel * COLUMNS;
                scores[from..from + COLUMNS].copy_from_slice(&sums);
            });
        }
        let mut inverse = [0.0; QUERIES];
        let weights = scores.chunks_exact_mut(stride).zip(&mut inverse);
        for (i, (row, inverse)) in weights.enumerate() {
            let (row, hidden) = row[..seen].split_at_mut(visible(i));
            *inverse = 1.0 / exponentiate(row, heads.scale());
            hidden.fill(0.0);
        }
        let scores: &[f32] = scores;
        let panels = self.values.chunks_exact(self.count * COLUMNS).enumerate();
        for (panel, values) in panels {
            let row = |i: usize| &scores[i * stride..][..stride];
            let columns = (self.width - panel * COLUMNS).min(COLUMNS);
            panel::each(rows.len(), row, &values[..seen * COLUMNS], |i, sums| {
                let from = i * heads.features() + panel * COLUMNS;
                let out = out[from..from + columns].iter_mut();
                for (out, sum) in out.zip(sums) {
                    *out = sum * inverse[i];
                }
            });
        }
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
