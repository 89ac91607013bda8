//! BLEU-1 to BLEU-4 of all captions together, with the length of the right caption that is closest.

use super::grams::{Grams, LONGEST, grams};
use super::pair::Pair;

/// Added where nothing agrees, so that the product stays above zero.
const TINY: f64 = 1e-15;
/// Added to divisors.
const SMALL: f64 = 1e-9;

/// What a caption, or all of them, adds to the scores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bleu {
    written: u64,
    right: u64,
    guessed: [u64; LONGEST],
    correct: [u64; LONGEST],
}

impl Bleu {
    /// Counts one caption.
    pub fn of(pair: &Pair) -> Self {
        let length = pair.written.len();
        let mut most = Grams::new();
        for right in &pair.right {
            for (gram, count) in grams(right) {
                let known = most.entry(gram).or_default();
                *known = count.max(*known);
            }
        }
        let closest = pair.right.iter().map(Vec::len);
        let closest = closest.min_by_key(|right| (right.abs_diff(length), *right));
        let mut bleu = Self {
            written: length as u64,
            right: closest.unwrap_or_default() as u64,
            ..Self::default()
        };
        for (at, guessed) in bleu.guessed.iter_mut().enumerate() {
            *guessed = length.saturating_sub(at) as u64;
        }
        for (gram, count) in grams(&pair.written) {
            let known = most.get(gram).copied().unwrap_or_default();
            bleu.correct[gram.len() - 1] += u64::from(count.min(known));
        }
        bleu
    }

    /// Adds another caption's counts, so many times.
    pub fn add(&mut self, other: &Self, times: u64) {
        self.written += times * other.written;
        self.right += times * other.right;
        for at in 0..LONGEST {
            self.guessed[at] += times * other.guessed[at];
            self.correct[at] += times * other.correct[at];
        }
    }

    /// BLEU-1 to BLEU-4.
    pub fn scores(&self) -> [f64; LONGEST] {
        let ratio = (self.written as f64 + TINY) / (self.right as f64 + SMALL);
        let penalty = if ratio < 1.0 {
            (1.0 - 1.0 / ratio).exp()
        } else {
            1.0
        };
        let mut product = 1.0;
        std::array::from_fn(|at| {
            product *= (self.correct[at] as f64 + TINY) / (self.guessed[at] as f64 + SMALL);
            product.powf(1.0 / (at + 1) as f64) * penalty
        })
    }
}
