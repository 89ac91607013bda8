//! Zero-shot retrieval.

use super::bootstrap::{estimate, share};
use super::evaluator::Evaluator;
use super::report::Report;
use crate::dataset::Dataset;
use crate::error::EvalError;
use crate::ranking::best_ranks;

impl Evaluator {
    pub(super) fn retrieve(
        &self,
        name: &str,
        set: &Dataset,
        captions: &[Vec<String>],
        recall_k: &[usize],
    ) -> Result<Report, EvalError> {
        let images = self.features(name, set)?;
        let (mut texts, mut of_caption) = (Vec::new(), Vec::new());
        let mut without = 0;
        for (row, &number) in images.numbers.iter().enumerate() {
            without += usize::from(captions[number].is_empty());
            for caption in &captions[number] {
                texts.push(caption.as_str());
                of_caption.push(row);
            }
        }
        if without > 0 {
            log::warn!("{name}: {without} pictures have no caption, and are never found");
        }
        let texts = self.captions(name, &texts)?;
        let found = best_ranks(&images.rows, &texts, &of_caption)?;
        if !found.is_finite {
            log::warn!("{name}: features are not finite; the metrics say nothing");
        }
        let mut report = Report::new(found.is_finite);
        for &k in recall_k {
            for (direction, ranks) in [
                ("image_retrieval", &found.of_captions),
                ("text_retrieval", &found.of_pictures),
            ] {
                let right: Vec<bool> = ranks.iter().map(|rank| *rank < k).collect();
                report.add_all(estimate(right.len(), |times| {
                    vec![(format!("{direction}_recall@{k}"), share(&right, times))]
                }));
            }
        }
        Ok(report)
    }
}
