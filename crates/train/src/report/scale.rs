//! Axes of a plot: ranges, labels, and curves thinned to what a screen can show.

use std::ops::Range;

/// Columns that a curve is thinned to.
const COLUMNS: usize = 900;

/// The smallest range that holds every step.
pub(super) fn steps(steps: impl Iterator<Item = f64>) -> Range<f64> {
    let range = extent(steps);
    if range.end > range.start {
        range
    } else {
        range.start - 1.0..range.end + 1.0
    }
}

/// A range that holds every value with a margin.
pub(super) fn values(values: impl Iterator<Item = f64>) -> Range<f64> {
    let range = extent(values);
    let size = range.start.abs().max(range.end.abs());
    // Values that agree to six digits are one line in the middle: labels between them would all read alike.
    let margin = match range.end - range.start {
        height if height > 1e-6 * size => 0.06 * height,
        _ if size > 0.0 => 0.1 * size,
        _ => 0.5,
    };
    range.start - margin..range.end + margin
}

fn extent(values: impl Iterator<Item = f64>) -> Range<f64> {
    let range = values.fold(f64::INFINITY..f64::NEG_INFINITY, |range, value| {
        range.start.min(value)..range.end.max(value)
    });
    if range.start <= range.end {
        range
    } else {
        0.0..0.0
    }
}

/// At most four points for each column of the screen: first, lowest, highest and last, so that peaks stay visible.
pub(super) fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= 4 * COLUMNS {
        return points.to_vec();
    }
    let mut thinned = Vec::with_capacity(4 * COLUMNS);
    for column in points.chunks(points.len().div_ceil(COLUMNS)) {
        let by_value = |&a: &usize, &b: &usize| column[a].1.total_cmp(&column[b].1);
        let places = 0..column.len();
        let lowest = places.clone().min_by(by_value).unwrap_or(0);
        let highest = places.max_by(by_value).unwrap_or(0);
        let mut kept = [0, lowest, highest, column.len() - 1];
        kept.sort_unstable();
        for (at, &place) in kept.iter().enumerate() {
            if at == 0 || kept[at - 1] != place {
                thinned.push(column[place]);
            }
        }
    }
    thinned
}

/// A value, with as many decimals as labels `spacing` apart need.
pub(super) fn label(value: f64, spacing: f64) -> String {
    let value = if value.abs() < 1e-9 * spacing {
        0.0
    } else {
        value
    };
    let decimals = (1.0 - spacing.log10().floor()).max(0.0);
    if decimals > 6.0 || value.abs() >= 1e6 {
        return format!("{value:.2e}");
    }
    plain(value, decimals as usize)
}

/// `10^exponent`.
pub(super) fn power_label(exponent: f64) -> String {
    let value = 10f64.powf(exponent);
    if (1e-4..1e6).contains(&value) {
        plain(value, (1.0 - exponent.floor()).max(0.0) as usize)
    } else {
        format!("{value:.1e}")
    }
}

/// `500`, `1.5k`, `20k`, `3M`.
pub(super) fn step_label(step: f64) -> String {
    match step.abs() {
        size if size >= 1e9 => format!("{}G", plain(step / 1e9, 2)),
        size if size >= 1e6 => format!("{}M", plain(step / 1e6, 2)),
        size if size >= 1e4 => format!("{}k", plain(step / 1e3, 2)),
        _ => plain(step, 2),
    }
}

/// Fixed decimals without zeros at the end.
fn plain(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        assert_eq!(
            [0.0, 500.0, 2.5, 20_000.0, 1.25e6, 3e9].map(step_label),
            ["0", "500", "2.5", "20k", "1.25M", "3G"]
        );
        assert_eq!(
            [2.0, 0.5, -1e-20].map(|value| label(value, 0.25)),
            ["2", "0.5", "0"]
        );
        assert_eq!(label(0.0625, 0.002), "0.0625");
        assert_eq!(label(3e-9, 1e-9), "3.00e-9");
        assert_eq!(
            [-3.0, -1.0, 0.0, 2.0, 8.0].map(power_label),
            ["0.001", "0.1", "1", "100", "1.0e8"]
        );
    }

    #[test]
    fn ranges_have_room() {
        assert_eq!(steps([3.0].into_iter()), 2.0..4.0);
        assert_eq!(steps([0.0, 9.0].into_iter()), 0.0..9.0);
        for constant in [0.0, 5.0, -1e9, 1e-12] {
            let range = values([constant, constant].into_iter());
            assert!(range.start < constant && constant < range.end, "{constant}");
        }
        assert!(values([].into_iter()).end > 0.0);
    }

    #[test]
    fn thinning_keeps_peaks_and_ends() {
        let mut points: Vec<(f64, f64)> = (0..100_000)
            .map(|i| (f64::from(i), f64::from(i % 7)))
            .collect();
        points[54_321].1 = 1e3;
        let thinned = thin(&points);
        assert!(thinned.len() <= 4 * COLUMNS && thinned.contains(&(54_321.0, 1e3)));
        assert_eq!(
            (thinned[0].0, thinned[thinned.len() - 1].0),
            (0.0, 99_999.0)
        );
        assert!(thinned.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
