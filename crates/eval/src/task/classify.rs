//! Zero-shot classification, and that by a classifier of one's own.

use burn::tensor::Tensor;

use super::evaluator::{Evaluator, Extra};
use super::outcome::{Outcomes, average_precision};
use super::report::Report;
use crate::dataset::{Dataset, Labels};
use crate::eight_bits::Change;
use crate::error::EvalError;
use crate::retrieval::rank_of;
use crate::run;
use crate::zero_shot::highest;

/// Classes from which on top-5 accuracy says something.
const FIVE: usize = 5;

impl Evaluator {
    pub(super) fn classify(
        &self,
        name: &str,
        set: &Dataset,
        labels: &Labels,
        (weights, mut change): (Tensor<2>, Option<Change>),
        extra: Option<(&Extra, &[Vec<f64>])>,
    ) -> Result<Report, EvalError> {
        let [_, classes] = weights.dims();
        let (mut scores, mut numbers) = (Vec::new(), Vec::with_capacity(set.len));
        let mut outcomes = Outcomes {
            classes,
            ..Outcomes::default()
        };
        let mut not_finite = 0;
        self.each_batch(name, set, |mut batch| {
            let logits = run::scores(&self.encoder, &weights, change.as_mut(), &mut batch)?;
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
        if let Some(change) = change {
            change.tell(name);
        }
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
