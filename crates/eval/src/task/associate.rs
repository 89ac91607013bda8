//! Which pictures belong to a cue: WinoGAViL.

use super::bootstrap::estimate;
use super::evaluator::Evaluator;
use super::report::Report;
use crate::dataset::{Cue, Dataset};
use crate::error::EvalError;
use crate::host::host;

/// Whether a number of candidates is one of those.
type IsSize = fn(usize) -> bool;

/// Numbers of candidates that are scored by themselves, under the end of the metric's name.
const SIZES: [(&str, IsSize); 6] = [
    ("5", |size| size == 5),
    ("6", |size| size == 6),
    ("10", |size| size == 10),
    ("12", |size| size == 12),
    ("5-6", |size| size <= 6),
    ("10-12", |size| size >= 10),
];

impl Evaluator {
    pub(super) fn associate(
        &self,
        name: &str,
        set: &Dataset,
        cues: &[Cue],
    ) -> Result<Report, EvalError> {
        let images = self.features(name, set)?;
        let mut row_of = vec![None; set.len];
        for (row, &number) in images.numbers.iter().enumerate() {
            row_of[number] = Some(row);
        }
        let texts: Vec<String> = cues.iter().map(|cue| prompt(&cue.text)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let width = images.rows.dims()[1];
        let texts = host(self.captions(name, &texts)?)?;
        let images = host(images.rows)?;
        let is_finite = texts.iter().chain(&images).all(|value| value.is_finite());
        let mut scores = Vec::with_capacity(cues.len());
        for (cue, text) in cues.iter().zip(texts.chunks_exact(width)) {
            let rows: Option<Vec<usize>> = cue
                .candidates
                .iter()
                .map(|(picture, _)| row_of[*picture])
                .collect();
            let Some(rows) = rows else { continue };
            let cosine = |row: usize| {
                let image = &images[row * width..(row + 1) * width];
                image.iter().zip(text).map(|(a, b)| a * b).sum::<f32>()
            };
            let cosines: Vec<f32> = rows.into_iter().map(cosine).collect();
            let right: Vec<bool> = cue.candidates.iter().map(|(_, right)| *right).collect();
            scores.push((right.len(), jaccard(&cosines, &right)));
        }
        if scores.is_empty() {
            return Err(EvalError::list(
                name.as_ref(),
                "no picture of it can be used",
            ));
        }
        let mean = |times: &[u32], is_in: IsSize| {
            let (mut sum, mut count) = (0.0, 0.0);
            for ((size, score), &times) in scores.iter().zip(times) {
                if is_in(*size) {
                    sum += score * f64::from(times);
                    count += f64::from(times);
                }
            }
            sum / count
        };
        let mut report = Report::new(is_finite);
        report.add_all(estimate(scores.len(), |times| {
            let all = ("avg_jaccard_score".to_owned(), mean(times, |_| true));
            let of_size = SIZES
                .iter()
                .map(|(size, is_in)| (format!("jaccard_score_{size}"), mean(times, *is_in)));
            std::iter::once(all).chain(of_size).collect()
        }));
        Ok(report)
    }
}

/// `A cue`, or `An`.
fn prompt(cue: &str) -> String {
    let cue = cue.to_lowercase();
    match cue.starts_with(['a', 'e', 'i', 'o', 'u']) {
        true => format!("An {cue}"),
        false => format!("A {cue}"),
    }
}

/// The share that the right pictures and as many of the highest scores have in common of all in either.
fn jaccard(scores: &[f32], right: &[bool]) -> f64 {
    let count = right.iter().filter(|right| **right).count();
    let mut order: Vec<usize> = (0..scores.len()).collect();
    // Of equal scores the last comes first, as of a stable sort that is read from its end.
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(b.cmp(&a)));
    let common = order[..count].iter().filter(|place| right[**place]).count();
    common as f64 / (2 * count - common) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jaccard_of_sets() {
        let right = [true, true, false, false, false];
        assert_eq!(jaccard(&[0.9, 0.8, 0.1, 0.2, 0.3], &right), 1.0);
        assert_eq!(jaccard(&[0.9, 0.1, 0.8, 0.2, 0.3], &right), 1.0 / 3.0);
        assert_eq!(jaccard(&[0.1, 0.2, 0.8, 0.9, 0.3], &right), 0.0);
        assert_eq!(prompt("Igloo"), "An igloo");
        assert_eq!(prompt("Werewolf"), "A werewolf");
    }
}
