//! Zero-shot classification.

use super::evaluator::{Evaluator, Extra};
use super::outcome::{Outcomes, average_precision};
use super::report::Report;
use crate::dataset::{Dataset, Labels, Names};
use crate::error::EvalError;
use crate::host::host;
use crate::retrieval::rank_of;
use crate::run::ZERO_SHOT_SCALE;

/// Classes from which on top-5 accuracy says something.
const FIVE: usize = 5;

impl Evaluator {
    pub(super) fn classify(
        &self,
        name: &str,
        set: &Dataset,
        labels: &Labels,
        names: &Names,
        extra: Option<(&Extra, &[Vec<f64>])>,
    ) -> Result<Report, EvalError> {
        check(name, labels, names)?;
        let (weights, classes) = self.classifier(name, names)?;
        let (mut scores, mut numbers) = (Vec::new(), Vec::with_capacity(set.len));
        let mut outcomes = Outcomes {
            classes,
            ..Outcomes::default()
        };
        let mut not_finite = 0;
        self.each_batch(name, set, |batch| {
            let features = self.encoder.images(batch.images, batch.size);
            let logits = features.matmul(weights.clone()).mul_scalar(ZERO_SHOT_SCALE);
            let logits = host(logits)?;
            for (row, &number) in logits.chunks_exact(classes).zip(&batch.labels) {
                not_finite += usize::from(!row.iter().all(|score| score.is_finite()));
                if let Labels::One(labels) = labels {
                    let target = labels[number];
                    outcomes.targets.push(target);
                    outcomes.predicted.push(highest(row));
                    outcomes.ranks.push(rank_of(row, target));
                }
            }
            if let Labels::Many { .. } = labels {
                scores.extend(logits);
            }
            numbers.extend(batch.labels);
            Ok(())
        })?;
        if not_finite > 0 {
            log::warn!(
                "{name}: the scores of {not_finite} of {} pictures are not finite; the metrics say nothing",
                numbers.len()
            );
        }
        let mut report = Report::new(not_finite == 0);
        report.add_all(match labels {
            Labels::One(_) => outcomes.estimates(classes >= FIVE),
            Labels::Many { of_picture, .. } => {
                let of_picture: Vec<&[usize]> = numbers
                    .iter()
                    .map(|number| &of_picture[*number][..])
                    .collect();
                average_precision(&scores, classes, &of_picture)
            }
        });
        if let Some((extra, beside)) = extra {
            let group = |column: usize| {
                let of =
                    |number: &usize| beside.get(*number)?.get(column).map(|value| *value as i64);
                let groups: Option<Vec<i64>> = numbers.iter().map(of).collect();
                groups.ok_or_else(|| {
                    let problem = format!("no number {column} beside every picture, an .npy in its sample, which says its group");
                    EvalError::list(name.as_ref(), problem)
                })
            };
            report.add_all(match extra {
                Extra::MacroF1 { name } => outcomes.macro_f1(name),
                Extra::Worst { name, column, top } => outcomes.worst(name, &group(*column)?, *top),
            });
        }
        Ok(report)
    }
}

/// The place of the highest score, the first among equals.
pub(super) fn highest(row: &[f32]) -> usize {
    let above = |best: usize, at: usize| if row[at] > row[best] { at } else { best };
    (0..row.len()).reduce(above).unwrap_or_default()
}

/// Whether every label is that of a class.
fn check(name: &str, labels: &Labels, names: &Names) -> Result<(), EvalError> {
    let Some(classes) = names.classes.as_ref().map(Vec::len) else {
        return Ok(());
    };
    let problem = match labels {
        Labels::One(labels) => {
            let beyond = labels
                .iter()
                .enumerate()
                .find(|(_, label)| **label >= classes);
            beyond.map(|(number, label)| {
                format!(
                    "picture {} has the label {label}, and there are {classes} class names, of labels 0 to {}",
                    number + 1,
                    classes - 1
                )
            })
        }
        Labels::Many { classes: found, .. } => (*found != classes)
            .then(|| format!("labels of {found} classes, and there are {classes} class names")),
    };
    match problem {
        Some(problem) => Err(EvalError::list(name.as_ref(), problem)),
        None => Ok(()),
    }
}
