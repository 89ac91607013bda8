//! ROUGE-L: the longest common subsequence.

use super::pair::Pair;

/// How much more the recall counts than the precision.
const BETA: f64 = 1.2;

/// The score of one caption, by the best precision and the best recall over the right ones.
pub fn rouge(pair: &Pair) -> f64 {
    // Of nothing, `"".split(" ")` makes one empty word in Python.
    let nothing = vec![String::new()];
    let or_nothing = |words| match Vec::is_empty(words) {
        true => &nothing,
        false => words,
    };
    let written = or_nothing(&pair.written);
    let (mut precision, mut recall) = (0.0_f64, 0.0_f64);
    for right in &pair.right {
        let right = or_nothing(right);
        let common = common(written, right) as f64;
        precision = precision.max(common / written.len() as f64);
        recall = recall.max(common / right.len() as f64);
    }
    match precision > 0.0 && recall > 0.0 {
        true => {
            let square = BETA * BETA;
            (1.0 + square) * precision * recall / (recall + square * precision)
        }
        false => 0.0,
    }
}

/// The length of the longest common subsequence.
fn common(a: &[String], b: &[String]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for word in a {
        let mut diagonal = 0;
        for (at, other) in b.iter().enumerate() {
            let above = row[at + 1];
            row[at + 1] = match word == other {
                true => diagonal + 1,
                false => above.max(row[at]),
            };
            diagonal = above;
        }
    }
    row[b.len()]
}
