//! Runs of one to four neighbouring words, and how often each occurs.

use std::collections::HashMap;

/// Longest run.
pub(super) const LONGEST: usize = 4;

/// Runs with their counts.
pub(super) type Grams<'a> = HashMap<&'a [String], u32>;

/// All runs of a caption.
pub(super) fn grams(words: &[String]) -> Grams<'_> {
    let mut counts = Grams::new();
    for length in 1..=LONGEST {
        for gram in words.windows(length) {
            *counts.entry(gram).or_default() += 1;
        }
    }
    counts
}
