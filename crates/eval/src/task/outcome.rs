//! What became of each picture in classification, and the metrics made of it.

use std::collections::BTreeMap;

use super::bootstrap::{Estimates, estimate, estimate_in, share};

/// Draws for a metric that sorts.
const FEW_DRAWS: usize = 200;

/// Classified pictures, by their order in the set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// The right class of each picture.
    pub targets: Vec<usize>,
    /// The class with the highest score.
    pub predicted: Vec<usize>,
    /// The place of the right class among the scores, from 0.
    pub ranks: Vec<usize>,
    /// Number of classes.
    pub classes: usize,
}

impl Outcomes {
    /// `acc1`, `acc5` and `mean_per_class_recall`; `has_five` says whether there are classes enough for the second.
    pub(super) fn estimates(&self, has_five: bool) -> Estimates {
        let within = |k: usize| self.ranks.iter().map(|rank| *rank < k).collect::<Vec<_>>();
        let (first, five) = (within(1), within(5));
        estimate(self.ranks.len(), |times| {
            let of_five = match has_five {
                true => share(&five, times),
                false => f64::NAN,
            };
            vec![
                ("acc1".into(), share(&first, times)),
                ("acc5".into(), of_five),
                (
                    "mean_per_class_recall".into(),
                    self.mean_per_class_recall(times),
                ),
            ]
        })
    }

    /// F1, averaged over the classes that are there.
    pub(super) fn macro_f1(&self, name: &str) -> Estimates {
        estimate(self.ranks.len(), |times| {
            // Right, of the class, taken for it.
            let mut counts = vec![[0_u64; 3]; self.classes];
            let pairs = self.targets.iter().zip(&self.predicted).zip(times);
            for ((&target, &predicted), &times) in pairs {
                let times = u64::from(times);
                counts[target][0] += times * u64::from(target == predicted);
                counts[target][1] += times;
                counts[predicted][2] += times;
            }
            let scores = counts.iter().filter(|[_, of, _]| *of > 0);
            let scores = scores.map(|[right, of, taken]| 2.0 * *right as f64 / (of + taken) as f64);
            vec![(name.to_owned(), mean(scores))]
        })
    }

    /// The share of pictures whose class is among the first `top`, in the group of `groups` where it is lowest.
    pub(super) fn worst(&self, name: &str, groups: &[i64], top: usize) -> Estimates {
        estimate(self.ranks.len(), |times| {
            let mut counts: BTreeMap<i64, [u64; 2]> = BTreeMap::new();
            for ((group, rank), &times) in groups.iter().zip(&self.ranks).zip(times) {
                let [right, all] = counts.entry(*group).or_default();
                *right += u64::from(times) * u64::from(*rank < top);
                *all += u64::from(times);
            }
            let shares = counts.values().filter(|[_, all]| *all > 0);
            let shares = shares.map(|[right, all]| *right as f64 / *all as f64);
            vec![(name.to_owned(), shares.reduce(f64::min).unwrap_or(f64::NAN))]
        })
    }

    /// The mean over classes of the share that is right; classes without a picture do not count.
    fn mean_per_class_recall(&self, times: &[u32]) -> f64 {
        let mut counts = vec![(0_u64, 0_u64); self.classes];
        for ((&target, &rank), &times) in self.targets.iter().zip(&self.ranks).zip(times) {
            let (right, all) = &mut counts[target];
            *right += u64::from(times) * u64::from(rank == 0);
            *all += u64::from(times);
        }
        let recalls = counts.iter().filter(|(_, all)| *all > 0);
        mean(recalls.map(|(right, all)| *right as f64 / *all as f64))
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count)
}

/// `mean_average_precision` of scores `[pictures, classes]`, by rows, for pictures of any number of classes.
pub(super) fn average_precision(
    scores: &[f32],
    classes: usize,
    of_picture: &[&[usize]],
) -> Estimates {
    // Of each class the pictures from the highest score to the lowest, and which are of it.
    let order: Vec<Vec<(usize, bool)>> = (0..classes)
        .map(|class| {
            let score = |picture: usize| scores[picture * classes + class];
            let mut order: Vec<usize> = (0..of_picture.len()).collect();
            order.sort_by(|&a, &b| score(b).total_cmp(&score(a)));
            let is_of = |picture: usize| of_picture[picture].contains(&class);
            order
                .into_iter()
                .map(|picture| (picture, is_of(picture)))
                .collect()
        })
        .collect();
    estimate_in(of_picture.len(), FEW_DRAWS, |times| {
        let of_class = |order: &Vec<(usize, bool)>| {
            let (mut seen, mut right, mut sum) = (0_u64, 0_u64, 0.0);
            for &(picture, is_of) in order {
                for _ in 0..times[picture] {
                    seen += 1;
                    if is_of {
                        right += 1;
                        sum += right as f64 / seen as f64;
                    }
                }
            }
            sum / right.max(1) as f64
        };
        let sum: f64 = order.iter().map(of_class).sum();
        vec![("mean_average_precision".into(), sum / classes as f64)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `balanced_accuracy_score([0, 0, 1, 3], [0, 1, 1, 0])` of scikit-learn.
    #[test]
    fn recall_is_that_of_the_classes_that_are_there() {
        let outcomes = Outcomes {
            targets: vec![0, 0, 1, 3],
            predicted: vec![0, 1, 1, 0],
            ranks: vec![0, 1, 0, 4],
            classes: 5,
        };
        let found = outcomes.estimates(true);
        let values: Vec<f64> = found.iter().map(|(_, value, _)| *value).collect();
        assert_eq!(values, [0.5, 1.0, 0.5]);
        assert!(outcomes.estimates(false)[1].1.is_nan());
    }

    /// `f1_score(…, average="macro", labels=unique(y_true))` of scikit-learn.
    #[test]
    fn f1_is_that_of_the_classes_that_are_there() {
        let outcomes = Outcomes {
            targets: vec![0, 0, 1, 1, 3],
            predicted: vec![0, 1, 1, 2, 0],
            ranks: vec![0, 1, 0, 1, 1],
            classes: 4,
        };
        let found = outcomes.macro_f1("f1")[0].1;
        assert!((found - (0.5 + 0.5 + 0.0) / 3.0).abs() < 1e-12, "{found}");
        let worst = |top| outcomes.worst("acc", &[7, 7, 7, 2, 2], top)[0].1;
        assert_eq!((worst(1), worst(2)), (0.0, 1.0));
    }

    /// By hand: class 0 has pictures 0 and 2 at places 1 and 3, class 1 picture 1 at place 2, class 2 none.
    #[test]
    fn average_precision_of_three_classes() {
        let scores = [0.9, 0.1, 0.0, 0.5, 0.3, 0.0, 0.2, 0.8, 0.0];
        let found = average_precision(&scores, 3, &[&[0], &[1], &[0]]);
        let expected = ((1.0 + 2.0 / 3.0) / 2.0 + 0.5 + 0.0) / 3.0;
        assert!((found[0].1 - expected).abs() < 1e-12, "{found:?}");
    }
}
