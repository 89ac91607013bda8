//! Intervals by resampling: the metric of as many pictures, drawn from the same with replacement, again and again.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Resampled sets.
const DRAWS: usize = 1000;
/// Share of them on either side of the interval.
const TAIL: f64 = 0.025;

/// Name, value and the middle 95 % of each metric.
pub(super) type Estimates = Vec<(String, f64, Option<[f64; 2]>)>;

/// Metrics of `count` items. `metrics` says what they are where item i counts `times[i]` times, under the same names in the same
/// order.
pub(super) fn estimate(count: usize, metrics: impl Fn(&[u32]) -> Vec<(String, f64)>) -> Estimates {
    estimate_in(count, DRAWS, metrics)
}

/// The same with another number of draws, for metrics that take long.
pub(super) fn estimate_in(
    count: usize,
    draws: usize,
    metrics: impl Fn(&[u32]) -> Vec<(String, f64)>,
) -> Estimates {
    let whole = metrics(&vec![1; count]);
    let mut samples = vec![Vec::with_capacity(draws); whole.len()];
    let mut rng = StdRng::seed_from_u64(0);
    let mut times = vec![0_u32; count];
    for _ in 0..draws {
        times.fill(0);
        for _ in 0..count {
            times[rng.random_range(0..count)] += 1;
        }
        for (values, (_, value)) in samples.iter_mut().zip(metrics(&times)) {
            values.push(value);
        }
    }
    let interval = |mut values: Vec<f64>| {
        if values.is_empty() || !values.iter().all(|value| value.is_finite()) {
            return None;
        }
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values[(share * (values.len() - 1) as f64).round() as usize];
        Some([at(TAIL), at(1.0 - TAIL)])
    };
    whole
        .into_iter()
        .zip(samples)
        .map(|((name, value), values)| (name, value, interval(values)))
        .collect()
}

/// The share of items that are `right`, each counted `times`.
pub(super) fn share(right: &[bool], times: &[u32]) -> f64 {
    let hits = right.iter().zip(times).filter(|(right, _)| **right);
    let all: u64 = times.iter().map(|times| u64::from(*times)).sum();
    hits.map(|(_, times)| u64::from(*times)).sum::<u64>() as f64 / all as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The normal approximation of a binomial share: 0.3 ± 1.96 · sqrt(0.3 · 0.7 / 1000).
    #[test]
    fn the_interval_of_a_share() {
        let right: Vec<bool> = (0..1000).map(|item| item % 10 < 3).collect();
        let found = estimate(1000, |times| vec![("acc".into(), share(&right, times))]);
        let [(name, value, Some([low, high]))] = &found[..] else {
            unreachable!("{found:?}")
        };
        assert_eq!((name.as_str(), *value), ("acc", 0.3));
        assert!(
            (low - 0.2716).abs() < 0.005 && (high - 0.3284).abs() < 0.005,
            "{found:?}"
        );
    }

    #[test]
    fn what_is_no_number_has_no_interval() {
        let found = estimate(2, |_| vec![("x".into(), f64::NAN)]);
        assert!(found[0].1.is_nan() && found[0].2.is_none());
    }
}
