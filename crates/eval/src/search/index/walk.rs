//! From the entry of a graph to the best rows.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rayon::prelude::*;

use super::super::collection::Collection;
use super::super::scan::{Best, Hit};
use super::graph::{Index, Layer};

impl Index {
    /// About the `count` best rows for each query, the best first, with their exact scores. `effort` rows are kept on the way: the
    /// more, the fewer of the best are missed, and the longer it takes.
    pub fn best(
        &self,
        vectors: &Collection,
        queries: &[Vec<f32>],
        count: usize,
        effort: usize,
    ) -> Vec<Vec<Hit>> {
        let layers = self.layers();
        let walk = |query: &Vec<f32>| {
            let mut found = self.walk(vectors, &layers, query, effort.max(count));
            found.truncate(count);
            found
        };
        queries.par_iter().map(walk).collect()
    }

    fn walk(
        &self,
        vectors: &Collection,
        layers: &[Layer<'_>],
        query: &[f32],
        effort: usize,
    ) -> Vec<Hit> {
        let hit = |row: u32| Hit {
            score: vectors.score(row as usize, query),
            row: row as usize,
        };
        let mut here = hit(self.entry());
        let Some((ground, above)) = layers.split_first() else {
            return Vec::new();
        };
        for layer in above.iter().rev() {
            while let Some(better) = layer
                .of(here.row as u32)
                .map(hit)
                .min()
                .filter(|next| *next < here)
            {
                here = better;
            }
        }
        let mut seen = vec![0_u64; vectors.rows().div_ceil(64)];
        let mut is_new = |row: usize| {
            let (word, bit) = (&mut seen[row / 64], 1 << (row % 64));
            let is_new = *word & bit == 0;
            *word |= bit;
            is_new
        };
        is_new(here.row);
        let mut best = Best::new(effort);
        best.offer(here);
        let mut open = BinaryHeap::from([Reverse(here)]);
        while let Some(Reverse(next)) = open.pop() {
            if !best.takes(next) && best.is_full() {
                break;
            }
            for row in ground.of(next.row as u32) {
                // A damaged file leads nowhere.
                if (row as usize) < vectors.rows() && is_new(row as usize) {
                    let hit = hit(row);
                    if best.takes(hit) {
                        best.offer(hit);
                        open.push(Reverse(hit));
                    }
                }
            }
        }
        best.into_hits()
    }
}
