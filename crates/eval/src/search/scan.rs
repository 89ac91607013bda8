//! The best rows of all, by looking at each.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use rayon::prelude::*;

use super::collection::{Collection, Tile};
use super::dots::dots;

/// Bytes of rows that one thread takes at a time.
const TILE: usize = 1 << 20;
/// Bytes of rows that stay near while several queries look at them.
const NEAR: usize = 1 << 17;

/// A row and how well it fits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// The dot product with the query: the cosine, where both are of length 1.
    pub score: f32,
    /// Which row of the collection.
    pub row: usize,
}

impl Eq for Hit {}

impl Ord for Hit {
    /// The better one is less, so that the greatest of a heap is the one to go; of equals, the earlier row is better.
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = other.score.total_cmp(&self.score);
        by_score.then(self.row.cmp(&other.row))
    }
}

impl PartialOrd for Hit {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The best rows of one query so far.
#[derive(Clone, Debug)]
pub(super) struct Best {
    count: usize,
    heap: BinaryHeap<Hit>,
}

impl Best {
    pub(super) fn new(count: usize) -> Self {
        Self {
            count,
            heap: BinaryHeap::with_capacity(count.min(1 << 16) + 1),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.heap.len() == self.count
    }

    /// Whether a row is among the best; one whose score is no number never is.
    #[inline]
    pub(super) fn takes(&self, hit: Hit) -> bool {
        let is_better = || self.heap.peek().is_some_and(|worst| hit < *worst);
        !hit.score.is_nan() && (!self.is_full() || is_better())
    }

    /// Takes in a row, if it is among the best.
    #[inline]
    pub(super) fn offer(&mut self, hit: Hit) {
        if !self.takes(hit) {
            return;
        }
        if self.is_full() {
            self.heap.pop();
        }
        self.heap.push(hit);
    }

    fn join(mut self, other: Self) -> Self {
        for hit in other.heap {
            self.offer(hit);
        }
        self
    }

    /// The best first.
    pub(super) fn into_hits(self) -> Vec<Hit> {
        self.heap.into_sorted_vec()
    }
}

/// The `count` rows that fit each query best, the best first, among those that are `asked` for: exactly, by looking at all of them
/// on every core. Queries have the collection's width.
pub fn best(
    vectors: &Collection,
    queries: &[Vec<f32>],
    count: usize,
    asked: Option<&[bool]>,
) -> Vec<Vec<Hit>> {
    let queries: Vec<&[f32]> = queries.iter().map(Vec::as_slice).collect();
    let none = || vec![Best::new(count); queries.len()];
    let tiles = vectors.tiles(TILE);
    let found = tiles
        .into_par_iter()
        .fold(none, |mut found, tile| {
            let rows = tile.first..tile.first + tile.rows;
            let asked = asked.map(|asked| &asked[rows]);
            if asked.is_none_or(|asked| asked.contains(&true)) {
                look(&tile, &queries, asked, &mut found);
            }
            found
        })
        .reduce(none, |one, two| {
            one.into_iter()
                .zip(two)
                .map(|(one, two)| one.join(two))
                .collect()
        });
    found.into_iter().map(Best::into_hits).collect()
}

fn look(tile: &Tile<'_>, queries: &[&[f32]], asked: Option<&[bool]>, found: &mut [Best]) {
    let size = (tile.bytes.len() / tile.rows.max(1)).max(1);
    let near = (NEAR / size).max(1);
    let mut scores = vec![0.0; near.min(tile.rows) * queries.len()];
    for (part, bytes) in tile.bytes.chunks(near * size).enumerate() {
        let (first, rows) = (part * near, bytes.len() / size);
        let scores = &mut scores[..rows * queries.len()];
        dots(bytes, tile.numbers, queries, scores);
        for (scores, best) in scores.chunks_exact(rows).zip(found.iter_mut()) {
            for (at, score) in scores.iter().enumerate() {
                if asked.is_none_or(|asked| asked[first + at]) {
                    best.offer(Hit {
                        score: *score,
                        row: tile.first + first + at,
                    });
                }
            }
        }
    }
}
