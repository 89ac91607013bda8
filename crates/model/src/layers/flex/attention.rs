//! Softmax attention in f32, head by head: the scores of a head lie in the cache of the core that has it, and nowhere else. The
//! backward pass computes them again.

use std::ops::Range;

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::product::{Matrix, Onto, Right, product};
use super::{Values, exp, tensor, vectorized};
use crate::layers::derivative::differentiable;

/// Scores that a core has at a time.
const SCORES: usize = 1 << 16;

/// Queries that a core takes at a time where a query sees the keys up to its own place.
const CAUSAL_ROWS: usize = 32;

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
    fn part(packed: &'a [f32], part: usize, width: usize) -> Self {
        Self {
            values: packed.get(part * width..).unwrap_or_default(),
            stride: 3 * width,
        }
    }

    fn head(self, rows: &Range<usize>, head: usize, width: usize) -> Matrix<'a> {
        let from = rows.start * self.stride + head * width;
        let values = self.values.get(from..).unwrap_or_default();
        Matrix::strided(values, [rows.len(), width], self.stride)
    }

    fn parts(packed: &'a [f32], width: usize) -> [Self; 3] {
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
    fn features(self) -> usize {
        self.count * self.width
    }

    fn scale(self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }
}

/// What each query of each sequence sees, row after row of `heads`. `scratch` is as long as `out`.
pub(super) fn attend(
    [query, key, value]: [Tokens<'_>; 3],
    sequences: &[Sequence],
    heads: Heads,
    scratch: &mut [f32],
    out: &mut [f32],
) {
    let features = heads.features();
    let mut rest = &mut *scratch;
    let mut parts = Vec::with_capacity(sequences.len() * heads.count);
    for sequence in sequences {
        let (own, later) = rest.split_at_mut(sequence.queries.len() * features);
        rest = later;
        let own = own.chunks_exact_mut(sequence.queries.len() * heads.width);
        parts.extend(own.enumerate().map(|(head, out)| (sequence, head, out)));
    }
    parts
        .into_par_iter()
        .for_each_init(Scratch::default, |scratch, (sequence, head, out)| {
            let width = heads.width;
            let [key, value] = [key, value].map(|x| x.head(&sequence.keys, head, width));
            for rows in blocks(sequence) {
                let query = query.head(&at(&rows, &sequence.queries), head, width);
                let seen = scratch.weigh(query, key, sequence, &rows, heads.scale());
                let out = &mut out[rows.start * heads.width..rows.end * heads.width];
                let scores = Matrix::rows(&scratch.scores, seen);
                let value = Right::Plain(first(value, seen));
                product(scores, value, 1.0, None, out, Onto::Nothing);
                let rows = out.chunks_exact_mut(heads.width).zip(&scratch.inverse);
                rows.for_each(|(row, inverse)| row.iter_mut().for_each(|x| *x *= inverse));
            }
        });
    interleave(scratch, sequences, heads, 1, out);
}

/// Gradients of query, key and value, side by side in rows of `out`, each sequence being its own keys.
fn attend_backward(
    [query, key, value]: [Tokens<'_>; 3],
    gradient: Tokens<'_>,
    sequences: &[Sequence],
    heads: Heads,
    out: &mut [f32],
) {
    let mut scratch = vec![0.0; out.len()];
    let mut rest = scratch.as_mut_slice();
    let mut parts = Vec::with_capacity(sequences.len() * heads.count);
    for sequence in sequences {
        let length = sequence.queries.len();
        let (own, later) = rest.split_at_mut(length * 3 * heads.features());
        rest = later;
        let own = own.chunks_exact_mut(length * 3 * heads.width);
        parts.extend(own.enumerate().map(|(head, out)| (sequence, head, out)));
    }
    parts
        .into_par_iter()
        .for_each_init(Scratch::default, |scratch, (sequence, head, out)| {
            let width = heads.width;
            let (of_query, out) = out.split_at_mut(sequence.queries.len() * width);
            let (of_key, of_value) = out.split_at_mut(sequence.keys.len() * width);
            let [key, value] = [key, value].map(|x| x.head(&sequence.keys, head, width));
            for rows in blocks(sequence) {
                let here = at(&rows, &sequence.queries);
                let [query, gradient] = [query, gradient].map(|x| x.head(&here, head, width));
                let seen = scratch.weigh(query, key, sequence, &rows, heads.scale());
                let [key, value] = [key, value].map(|matrix| first(matrix, seen));
                scratch.slopes.resize(rows.len() * seen, 0.0);
                let right = Right::Plain(value.transposed());
                product(
                    gradient,
                    right,
                    1.0,
                    None,
                    &mut scratch.slopes,
                    Onto::Nothing,
                );
                scratch.differentiate(seen, heads.scale());
                let [scores, slopes] =
                    [&scratch.scores, &scratch.slopes].map(|values| Matrix::rows(values, seen));
                let of_query = &mut of_query[rows.start * width..rows.end * width];
                product(
                    slopes,
                    Right::Plain(key),
                    1.0,
                    None,
                    of_query,
                    Onto::Nothing,
                );
                let (left, right) = (slopes.transposed(), Right::Plain(query));
                product(
                    left,
                    right,
                    1.0,
                    None,
                    &mut of_key[..seen * width],
                    Onto::Itself,
                );
                let (left, right) = (scores.transposed(), Right::Plain(gradient));
                product(
                    left,
                    right,
                    1.0,
                    None,
                    &mut of_value[..seen * width],
                    Onto::Itself,
                );
            }
        });
    interleave(&scratch, sequences, heads, 3, out);
}

/// Numbers of one core.
#[derive(Debug, Default)]
struct Scratch {
    /// Exponential values of the scores, `[queries, keys]`.
    scores: Vec<f32>,
    /// One over the sum of each row.
    inverse: Vec<f32>,
    /// Gradients of the scores.
    slopes: Vec<f32>,
}

impl Scratch {
    /// Fills in what the queries `rows` of a sequence make of its keys; gives the number of keys that they see.
    fn weigh(
        &mut self,
        query: Matrix<'_>,
        key: Matrix<'_>,
        sequence: &Sequence,
        rows: &Range<usize>,
        scale: f32,
    ) -> usize {
        let visible = sequence.causal.map(|place| place + rows.start + 1);
        let keys = sequence.keys.len();
        let seen = visible.map_or(keys, |visible| (visible + rows.len() - 1).min(keys));
        self.scores.resize(rows.len() * seen, 0.0);
        self.inverse.resize(rows.len(), 0.0);
        let right = Right::Plain(first(key, seen).transposed());
        product(query, right, scale, None, &mut self.scores, Onto::Nothing);
        vectorized(
            #[inline(always)]
            || {
                let rows = self.scores.chunks_exact_mut(seen).zip(&mut self.inverse);
                for (i, (row, inverse)) in rows.enumerate() {
                    let visible = visible.map_or(seen, |visible| (visible + i).min(seen));
                    let (row, hidden) = row.split_at_mut(visible);
                    *inverse = 1.0 / exponentiate(row);
                    hidden.fill(0.0);
                }
            },
        );
        seen
    }

    /// Turns the gradients of the weights into those of the scores before their scale, and the exponential values into weights.
    fn differentiate(&mut self, seen: usize, scale: f32) {
        vectorized(
            #[inline(always)]
            || {
                let rows = self.scores.chunks_exact_mut(seen).zip(&self.inverse);
                for ((weights, inverse), slopes) in rows.zip(self.slopes.chunks_exact_mut(seen)) {
                    weights.iter_mut().for_each(|weight| *weight *= inverse);
                    let level = super::sum(weights, slopes, |weight, slope| weight * slope) as f32;
                    for (weight, slope) in weights.iter().zip(slopes) {
                        *slope = weight * (*slope - level) * scale;
                    }
                }
            },
        );
    }
}

/// `exp(x − max x)` of a row in its place; gives the sum. One that is not a number, or infinite, makes the whole row so.
#[inline(always)]
fn exponentiate(row: &mut [f32]) -> f32 {
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
        *x = exp(*x - most);
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

/// Queries that are taken together.
fn blocks(sequence: &Sequence) -> impl Iterator<Item = Range<usize>> {
    let count = sequence.queries.len();
    let most = (SCORES / sequence.keys.len().max(1)).max(1);
    let most = match sequence.causal {
        Some(_) => most.min(CAUSAL_ROWS),
        None => most,
    };
    // Of about one size.
    let size = count.div_ceil(count.div_ceil(most).max(1)).max(1);
    (0..count)
        .step_by(size)
        .map(move |from| from..(from + size).min(count))
}

fn at(rows: &Range<usize>, within: &Range<usize>) -> Range<usize> {
    within.start + rows.start..within.start + rows.end
}

fn first(matrix: Matrix<'_>, rows: usize) -> Matrix<'_> {
    let [_, columns] = matrix.shape;
    Matrix {
        shape: [rows, columns],
        ..matrix
    }
}

/// Puts the heads of each row side by side, in `parts`: from `[head, part, row, feature]` of each sequence.
fn interleave(
    by_head: &[f32],
    sequences: &[Sequence],
    heads: Heads,
    parts: usize,
    out: &mut [f32],
) {
    let features = parts * heads.features();
    let mut rest = &mut *out;
    let mut start = 0;
    let mut pieces = Vec::with_capacity(sequences.len());
    for sequence in sequences {
        let length = sequence.queries.len();
        let (own, later) = rest.split_at_mut(length * features);
        pieces.push((&by_head[start..start + own.len()], length, own));
        start += length * features;
        rest = later;
    }
    pieces.into_par_iter().for_each(|(from, length, out)| {
        for (row, out) in out.chunks_exact_mut(features).enumerate() {
            for (place, out) in out.chunks_exact_mut(heads.width).enumerate() {
                let (part, head) = (place / heads.count, place % heads.count);
                let from = &from[((head * parts + part) * length + row) * heads.width..];
                out.copy_from_slice(&from[..heads.width]);
            }
        }
    });
}

/// Attention of `[batch, tokens, 3·width]`, query, key and value side by side, in `heads` heads: `[batch, tokens, width]`. With
/// `causal`, a token sees itself and what comes before it.
pub(in crate::layers) fn attention(
    packed: &Tensor<3>,
    heads: usize,
    causal: bool,
) -> Option<Tensor<3>> {
    let (shape, device) = (packed.dims(), packed.device());
    let values = Values::of(packed)?;
    let attention = SelfAttention::new(shape, heads, causal);
    let [batch, tokens, features] = shape;
    let output = tensor(
        attention.forward(values.get()),
        [batch, tokens, features / 3],
        &device,
    );
    let inputs = vec![packed.clone().into()];
    Some(differentiable(inputs, output, move |gradient| {
        let of_packed = Values::of(&gradient).map(|gradient| {
            let of_packed = attention.backward(values.get(), gradient.get());
            tensor(of_packed, shape, &device).into()
        });
        vec![of_packed]
    }))
}

/// Attention of the tokens of each sequence to each other.
#[derive(Debug)]
pub(super) struct SelfAttention {
    sequences: Vec<Sequence>,
    heads: Heads,
}

impl SelfAttention {
    /// For queries, keys and values that are packed as `[batch, tokens, 3·width]`.
    pub(super) fn new([batch, tokens, features]: [usize; 3], heads: usize, causal: bool) -> Self {
        let rows = (0..batch).map(|i| i * tokens..(i + 1) * tokens);
        let causal = causal.then_some(0);
        let sequence = |rows: Range<usize>| Sequence {
            queries: rows.clone(),
            keys: rows,
            causal,
        };
        Self {
            sequences: rows.map(sequence).collect(),
            heads: Heads {
                count: heads,
                width: features / 3 / heads,
            },
        }
    }

    pub(super) fn forward(&self, packed: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; packed.len() / 3];
        let mut scratch = vec![0.0; out.len()];
        let tokens = Tokens::parts(packed, self.heads.features());
        attend(tokens, &self.sequences, self.heads, &mut scratch, &mut out);
        out
    }

    /// The gradient of what is packed from that of the output.
    pub(super) fn backward(&self, packed: &[f32], gradient: &[f32]) -> Vec<f32> {
        let width = self.heads.features();
        let mut out = vec![0.0; packed.len()];
        let gradient = Tokens {
            values: gradient,
            stride: width,
        };
        let tokens = Tokens::parts(packed, width);
        attend_backward(tokens, gradient, &self.sequences, self.heads, &mut out);
        out
    }
}
