//! How often a figure lies in each of a few ranges.

use serde::{Serialize, Serializer};

/// Counts by range. The edges `e₀ < e₁ < …` make the ranges `..e₀`, `e₀..e₁`, …, `eₙ..`; an edge belongs to the range above it.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    edges: &'static [f64],
    counts: Vec<u64>,
    total: u64,
    sum: f64,
    least: f64,
    most: f64,
}

/// One range of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bin {
    /// Its least figure; `None` for the first range.
    pub from: Option<f64>,
    /// The figure that it ends before; `None` for the last range.
    pub below: Option<f64>,
    /// Figures in it.
    pub count: u64,
}

impl Histogram {
    /// Without a figure in it. `edges` rise.
    pub fn new(edges: &'static [f64]) -> Self {
        Self {
            edges,
            counts: vec![0; edges.len() + 1],
            total: 0,
            sum: 0.0,
            least: f64::INFINITY,
            most: f64::NEG_INFINITY,
        }
    }

    /// Counts a figure.
    pub fn add(&mut self, figure: f64) {
        self.counts[self.edges.partition_point(|edge| *edge <= figure)] += 1;
        self.total += 1;
        self.sum += figure;
        self.least = self.least.min(figure);
        self.most = self.most.max(figure);
    }

    /// How many figures there are.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Their sum.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// Their mean, least and greatest; `None` without any.
    pub fn range(&self) -> Option<[f64; 3]> {
        (self.total > 0).then(|| [self.sum / self.total as f64, self.least, self.most])
    }

    /// The ranges from the first to the last that has a figure in it.
    pub fn bins(&self) -> Vec<Bin> {
        let edge = |at: usize| self.edges.get(at).copied();
        let bins = self.counts.iter().enumerate().map(|(at, &count)| Bin {
            from: at.checked_sub(1).and_then(edge),
            below: edge(at),
            count,
        });
        let is_empty = |bin: &Bin| bin.count == 0;
        let mut bins: Vec<Bin> = bins.skip_while(is_empty).collect();
        while bins.last().is_some_and(is_empty) {
            bins.pop();
        }
        bins
    }
}

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let range = self.range();
        let at = |at: usize| range.map(|range| range[at]);
        let whole = serde_json::json!({
            "mean": at(0),
            "least": at(1),
            "most": at(2),
            "bins": self.bins(),
        });
        whole.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_belongs_to_the_range_above_it() {
        let mut histogram = Histogram::new(&[1.0, 2.0, 4.0, 8.0]);
        assert!(histogram.bins().is_empty() && histogram.range().is_none());
        for figure in [1.0, 1.5, 2.0, 4.0, 7.5] {
            histogram.add(figure);
        }
        let bin = |from, below, count| Bin {
            from: Some(from),
            below: Some(below),
            count,
        };
        let bins = [bin(1.0, 2.0, 2), bin(2.0, 4.0, 1), bin(4.0, 8.0, 2)];
        assert_eq!(histogram.bins(), bins);
        assert_eq!(histogram.range(), Some([3.2, 1.0, 7.5]));
        assert_eq!((histogram.total(), histogram.sum()), (5, 16.0));
        histogram.add(0.5);
        histogram.add(100.0);
        let bins = histogram.bins();
        assert_eq!((bins.len(), bins[0].from, bins[4].below), (5, None, None));
        // A range in the middle stays, though nothing is in it.
        let mut gap = Histogram::new(&[1.0, 2.0]);
        gap.add(0.0);
        gap.add(3.0);
        let counts: Vec<u64> = gap.bins().iter().map(|bin| bin.count).collect();
        assert_eq!(counts, [1, 0, 1]);
    }
}
