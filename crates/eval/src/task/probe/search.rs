//! The search for the weight decay: among 97 values from 1e-6 to 1e2, first at 7 of them, then about the best in halved distances.

use super::trainer::{Labelled, Linear, Training};
use crate::error::EvalError;
use crate::progress::Progress;
use crate::retrieval::rank_of;

/// Values, in even steps of their logarithm.
const VALUES: usize = 97;
/// Exponents of the first and of the last.
const EXPONENTS: [f64; 2] = [-6.0, 2.0];
/// Distance of the values that are tried first.
const COARSE: usize = 16;
/// Distance of the neighbours that are tried next, which is halved down to one.
const SPAN: usize = 8;
/// Trainings that the search makes: 7, and three for each of four distances.
pub(super) const TRAININGS: u64 = 7 + 3 * 4;

/// The weight decay whose classifier of `train` is right most often on `val`.
pub(super) fn search(
    train: &Labelled,
    val: &Labelled,
    training: &Training,
    progress: &Progress,
) -> Result<f64, EvalError> {
    find(|place| {
        let training = Training {
            weight_decay: value(place),
            ..*training
        };
        let scores = Linear::train(train, &training).scores(&val.features)?;
        let rows = scores.chunks_exact(training.classes).zip(&val.labels);
        progress.inc(1);
        Ok(rows
            .filter(|(row, label)| rank_of(row, **label) == 0)
            .count())
    })
    .map(value)
}

fn value(place: usize) -> f64 {
    let [low, high] = EXPONENTS;
    10_f64.powf(low + (high - low) * place as f64 / (VALUES - 1) as f64)
}

/// The place of the best value by `right`, the number of rows that are right.
fn find<E>(mut right: impl FnMut(usize) -> Result<usize, E>) -> Result<usize, E> {
    let coarse: Vec<usize> = (0..VALUES).step_by(COARSE).collect();
    let mut peak = best(&coarse, &mut right)?;
    let mut span = SPAN;
    while span > 0 {
        let around = [
            peak.saturating_sub(span),
            peak,
            (peak + span).min(VALUES - 1),
        ];
        peak = best(&around, &mut right)?;
        span /= 2;
    }
    Ok(peak)
}

/// The first of the best places; the first of all where nothing is right.
fn best<E>(
    places: &[usize],
    right: &mut impl FnMut(usize) -> Result<usize, E>,
) -> Result<usize, E> {
    let (mut best, mut most) = (0, 0);
    for &place in places {
        let found = right(place)?;
        if found > most {
            (best, most) = (place, found);
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_of_one_hill_is_found() {
        for peak in [0, 1, 47, 50, 96] {
            let mut tried = 0;
            let found = find(|place| {
                tried += 1;
                Ok::<_, ()>(1000 - place.abs_diff(peak))
            });
            assert_eq!(found, Ok(peak));
            assert_eq!(tried as u64, TRAININGS);
        }
        assert_eq!(find(|_| Ok::<_, ()>(0)), Ok(0));
    }

    /// `numpy.logspace(-6, 2, num=97)`.
    #[test]
    fn values_are_those_of_numpy() {
        for (place, expected) in [(0, 1e-6), (16, 2.154_434_690_031_88e-5), (96, 100.0)] {
            assert!((value(place) / expected - 1.0).abs() < 1e-12);
        }
    }
}
