//! How long a search takes beside reading the vectors from memory, and what an index finds and saves.
//!
//! ```text
//! benches/vectors.py DIR && cargo run --release -p openclip-eval --example bench_search -- DIR [BITS CANDIDATES]
//! ```
//!
//! Prints one line of JSON: seconds, the least of some rounds that take turns.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a program to be looked at, not a library"
)]

use std::collections::HashSet;
use std::path::Path;
use std::time::Instant;

use openclip_eval::search::{Collection, Hit, Index, Kind, Matrix, best};
use rayon::prelude::*;

const TOP: usize = 10;
const ROUNDS: usize = 9;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let dir = Path::new(args.get(1).expect("DIR"));
    let number = |at: usize, usual| args.get(at).map_or(usual, |text| text.parse().unwrap());
    let (bits, candidates) = (number(2, 4), number(3, 50));
    let vectors = Collection::open(dir, Kind::Image).unwrap();
    let matrix = Matrix::open(&dir.join("queries.npy")).unwrap();
    let queries: Vec<Vec<f32>> = (0..matrix.rows()).map(|row| matrix.row(row)).collect();

    let bytes: usize = vectors.arrays().map(|array| array.bytes().len()).sum();
    let mut least = [f64::INFINITY; 2];
    for round in 0..ROUNDS {
        let one = &queries[round % queries.len()..][..1];
        let works: [&dyn Fn(); 2] = [
            &|| {
                std::hint::black_box(read(&vectors));
            },
            &|| {
                std::hint::black_box(best(&vectors, one, TOP, None));
            },
        ];
        for (least, work) in least.iter_mut().zip(works) {
            *least = least.min(seconds(work));
        }
    }
    let few = &queries[..queries.len().min(64)];
    let mut single = f64::INFINITY;
    let mut together = f64::INFINITY;
    for _ in 0..3 {
        single = single.min(seconds(|| {
            few.iter().for_each(|query| {
                std::hint::black_box(best(&vectors, std::slice::from_ref(query), TOP, None));
            });
        }));
        together = together.min(seconds(|| {
            std::hint::black_box(best(&vectors, few, TOP, None));
        }));
    }

    let building = seconds(|| Index::build(dir, &vectors, bits, |_| ()).unwrap());
    let path = Index::place(dir, &vectors);
    let size = std::fs::metadata(&path).unwrap().len();
    let begun = Instant::now();
    let index = Index::open(dir, &vectors).unwrap().unwrap();
    let opening = begun.elapsed().as_secs_f64();
    let ask = |queries: &[Vec<f32>]| {
        index
            .best(&vectors, queries, TOP, candidates, None)
            .unwrap()
    };
    let truth = best(&vectors, &queries, TOP, None);
    let found = ask(&queries);
    let mut indexed = [f64::INFINITY; 2];
    for _ in 0..3 {
        indexed[0] = indexed[0].min(seconds(|| {
            few.iter().for_each(|query| {
                std::hint::black_box(ask(std::slice::from_ref(query)));
            });
        }));
        indexed[1] = indexed[1].min(seconds(|| {
            std::hint::black_box(ask(&queries));
        }));
    }
    let rate = |count: usize, seconds: f64| count as f64 / seconds;
    println!(
        "{}",
        serde_json::json!({
            "rows": vectors.rows(),
            "width": vectors.width(),
            "megabytes": bytes as f64 / 1e6,
            "reading_s": least[0],
            "one_query_s": least[1],
            "ratio": least[1] / least[0],
            "exact_one_by_one_per_s": rate(few.len(), single),
            "exact_together_per_s": rate(few.len(), together),
            "index": {
                "bits": bits,
                "candidates": candidates,
                "building_s": building,
                "opening_s": opening,
                "megabytes": size as f64 / 1e6,
                "recall_at_10": recall(&found, &truth),
                "one_by_one_per_s": rate(few.len(), indexed[0]),
                "together_per_s": rate(queries.len(), indexed[1]),
            },
        })
    );
}

fn seconds(work: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    work();
    begun.elapsed().as_secs_f64()
}

/// Every byte of the vectors once, on all cores.
fn read(vectors: &Collection) -> u64 {
    let arrays = vectors
        .arrays()
        .flat_map(|array| array.bytes().chunks(1 << 20));
    let tiles: Vec<&[u8]> = arrays.collect();
    let sum = |tile: &&[u8]| -> u64 {
        let words = tile.as_chunks::<8>().0.iter();
        words.fold(0, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)))
    };
    tiles.par_iter().map(sum).reduce(|| 0, u64::wrapping_add)
}

fn recall(found: &[Vec<Hit>], truth: &[Vec<Hit>]) -> f64 {
    let hits: usize = found
        .iter()
        .zip(truth)
        .map(|(found, truth)| {
            let truth: HashSet<usize> = truth.iter().map(|hit| hit.row).collect();
            found.iter().filter(|hit| truth.contains(&hit.row)).count()
        })
        .sum();
    hits as f64 / (TOP * truth.len()) as f64
}
