//! Values over the steps of a run, in a memory that does not grow with it.

/// Stretches that are told apart at most.
const MOST: usize = 1800;

/// A series thinned to stretches of equal numbers of values, of each of which the extremes, the ends and the mean are kept. Up to 1,800
/// values are kept one by one; whenever there are twice as many as fit, two neighbours become one.
#[derive(Debug, Clone)]
pub struct Series {
    stretches: Vec<Stretch>,
    /// Values of a stretch.
    width: u64,
}

type Point = (f64, f64);

#[derive(Debug, Clone, Copy)]
struct Stretch {
    first: Point,
    last: Point,
    /// Of the finite values.
    low: Option<Point>,
    high: Option<Point>,
    sum: f64,
    finite: u64,
    count: u64,
}

impl Stretch {
    fn of((step, value): Point) -> Self {
        let finite = value.is_finite();
        let point = finite.then_some((step, value));
        Self {
            first: (step, value),
            last: (step, value),
            low: point,
            high: point,
            sum: if finite { value } else { 0.0 },
            finite: finite.into(),
            count: 1,
        }
    }

    fn join(&mut self, other: &Self) {
        let beyond = |a: Option<Point>, b: Option<Point>, wins: fn(f64, f64) -> bool| match (a, b) {
            (Some(a), Some(b)) if wins(b.1, a.1) => Some(b),
            (a, b) => a.or(b),
        };
        self.low = beyond(self.low, other.low, |b, a| b < a);
        self.high = beyond(self.high, other.high, |b, a| b > a);
        self.last = other.last;
        self.sum += other.sum;
        self.finite += other.finite;
        self.count += other.count;
    }

    /// Forgets where the values from `step` on were; their share in the mean stays.
    fn cut(&mut self, step: f64) {
        let first = self.first;
        let before = |point: &mut Point| {
            if point.0 >= step {
                *point = first;
            }
        };
        before(&mut self.last);
        self.low.as_mut().map(before);
        self.high.as_mut().map(before);
    }

    fn mean(&self) -> Point {
        let step = (self.first.0 + self.last.0) / 2.0;
        match self.finite {
            0 => (step, f64::NAN),
            finite => (step, self.sum / finite as f64),
        }
    }

    /// In the order of the steps, each once.
    fn points(&self) -> Vec<Point> {
        if self.finite == 0 {
            return vec![self.first];
        }
        let all = [Some(self.first), self.low, self.high, Some(self.last)];
        let all = all.into_iter().flatten();
        let mut points: Vec<Point> = all.filter(|point| point.1.is_finite()).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points.dedup_by_key(|point| point.0);
        points
    }
}

impl Default for Series {
    fn default() -> Self {
        Self {
            stretches: Vec::new(),
            width: 1,
        }
    }
}

impl Series {
    /// Takes the value of a step. What is known of this step and later ones is forgotten: a resumed run repeats them.
    pub fn push(&mut self, step: f64, value: f64) {
        while self.stretches.last().is_some_and(|s| s.first.0 >= step) {
            self.stretches.pop();
        }
        let stretch = Stretch::of((step, value));
        match self.stretches.last_mut() {
            Some(last) if last.last.0 >= step => {
                last.cut(step);
                last.join(&stretch);
            }
            Some(last) if last.count < self.width => last.join(&stretch),
            _ => self.stretches.push(stretch),
        }
        if self.stretches.len() > MOST {
            let pairs = self.stretches.chunks(2).map(|pair| {
                let mut joined = pair[0];
                pair[1..].iter().for_each(|other| joined.join(other));
                joined
            });
            self.stretches = pairs.collect();
            self.width *= 2;
        }
    }

    /// What there is to draw, peaks and gaps included: at most four points for a stretch.
    pub fn points(&self) -> Vec<Point> {
        self.stretches.iter().flat_map(Stretch::points).collect()
    }

    /// The mean of every stretch.
    pub fn means(&self) -> Vec<Point> {
        self.stretches.iter().map(Stretch::mean).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_values_are_kept_as_they_are() {
        let mut series = Series::default();
        let values: Vec<Point> = (1..=1800)
            .map(|i| (f64::from(i), f64::from(i % 7)))
            .collect();
        values
            .iter()
            .for_each(|point| series.push(point.0, point.1));
        assert_eq!(series.points(), values);
        assert_eq!(series.means(), values);
        series.push(1801.0, f64::NAN);
        assert_eq!(series.means().len(), 901);
    }

    /// A million steps, of which one is a peak and some have no number.
    #[test]
    fn a_long_run_takes_no_more_than_a_short_one() {
        let mut series = Series::default();
        let mut most = 0;
        for step in 1..=1_000_000_u32 {
            let value = match step {
                654_321 => 1e3,
                123_456 => f64::NAN,
                _ => 2.0 + f64::from(step % 2),
            };
            series.push(f64::from(step), value);
            most = most.max(series.stretches.len());
        }
        assert_eq!(most, MOST);
        assert!(series.stretches.capacity() <= 2 * MOST);
        let points = series.points();
        assert!(points.len() <= 4 * MOST && points.contains(&(654_321.0, 1e3)));
        assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!((points[0].0, points[points.len() - 1].0), (1.0, 1e6));
        let means = series.means();
        let level = means.iter().filter(|mean| (mean.1 - 2.5).abs() < 1e-9);
        assert!(level.count() >= means.len() - 2);
    }

    #[test]
    fn what_is_not_finite_is_a_gap_and_steps_that_come_again_replace_the_old_ones() {
        let mut series = Series::default();
        for (step, value) in [(1, 3.0), (2, f64::NAN), (3, 2.0), (4, 9.0), (3, 1.0)] {
            series.push(f64::from(step), value);
        }
        let points = series.points();
        assert_eq!(
            (points[0], points[2], points.len()),
            ((1.0, 3.0), (3.0, 1.0), 3)
        );
        assert!(points[1].1.is_nan());
        // In the middle of a stretch of a long run.
        let mut series = Series::default();
        (0..10_000).for_each(|step| series.push(f64::from(step), 1.0));
        (5_003..5_050).for_each(|step| series.push(f64::from(step), 2.0));
        let points = series.points();
        assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(points[points.len() - 1], (5_049.0, 2.0));
    }
}
