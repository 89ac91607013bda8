//! CIDEr-D: agreement of runs of words, each weighed by how rare it is in the right captions of all pictures.

use std::collections::{HashMap, HashSet};

use super::grams::{Grams, LONGEST, grams};
use super::pair::Pair;

/// Width of the penalty for another length, in words.
const SIGMA: f64 = 6.0;
/// Scores are this many times the mean agreement.
const SCALE: f64 = 10.0;

/// The runs of a caption with their weights.
struct Vector<'a> {
    weights: HashMap<&'a [String], f64>,
    norms: [f64; LONGEST],
    /// Pairs of neighbours, which stand for the length.
    length: f64,
}

/// The score of every caption, whose mean is that of all.
pub fn cider(pairs: &[Pair]) -> Vec<f64> {
    let mut pictures_with: HashMap<&[String], u32> = HashMap::new();
    for pair in pairs {
        let of_picture: HashSet<&[String]> = pair
            .right
            .iter()
            .flat_map(|right| grams(right).into_keys())
            .collect();
        for gram in of_picture {
            *pictures_with.entry(gram).or_default() += 1;
        }
    }
    let all = (pairs.len() as f64).ln();
    pairs
        .iter()
        .map(|pair| {
            let written = weigh(grams(&pair.written), all, &pictures_with);
            let sum: f64 = pair
                .right
                .iter()
                .map(|right| agreement(&written, &weigh(grams(right), all, &pictures_with)))
                .sum();
            SCALE * sum / pair.right.len() as f64
        })
        .collect()
}

fn weigh<'a>(counts: Grams<'a>, all: f64, pictures_with: &HashMap<&[String], u32>) -> Vector<'a> {
    let mut vector = Vector {
        weights: HashMap::with_capacity(counts.len()),
        norms: [0.0; LONGEST],
        length: 0.0,
    };
    for (gram, count) in counts {
        let known = pictures_with.get(gram).copied().unwrap_or_default();
        let weight = f64::from(count) * (all - f64::from(known.max(1)).ln());
        vector.norms[gram.len() - 1] += weight * weight;
        vector.length += if gram.len() == 2 {
            f64::from(count)
        } else {
            0.0
        };
        vector.weights.insert(gram, weight);
    }
    vector.norms = vector.norms.map(f64::sqrt);
    vector
}

/// The mean over the lengths of runs of the cosine, in which no run counts more than in the right caption.
fn agreement(written: &Vector<'_>, right: &Vector<'_>) -> f64 {
    let mut sums = [0.0; LONGEST];
    for (gram, weight) in &written.weights {
        let other = right.weights.get(gram).copied().unwrap_or_default();
        sums[gram.len() - 1] += weight.min(other) * other;
    }
    let difference = written.length - right.length;
    let penalty = (-difference * difference / (2.0 * SIGMA * SIGMA)).exp();
    let cosine = |at: usize| match written.norms[at] * right.norms[at] {
        0.0 => sums[at],
        norms => sums[at] / norms,
    };
    (0..LONGEST).map(cosine).sum::<f64>() * penalty / LONGEST as f64
}
