//! Image–text retrieval: the rank of the matching item and the metrics made of ranks.
//!
//! Two rules say what matches. They differ where several pairs have one picture, as five captions each in COCO:
//!
//! | | OpenCLIP, `get_clip_metrics` | CLIP_benchmark, `zeroshot_retrieval` |
//! |---|---|---|
//! | names | `image_to_text_R@5`, `text_to_image_R@5`, … | `text_retrieval_recall@5`, `image_retrieval_recall@5`, … |
//! | items | every pair's picture and caption | every picture once, every caption |
//! | right | item i for pair i, every other is wrong | any caption of the picture; the caption's picture |

use serde::{Deserialize, Serialize};

/// The place of item `gt` when `row` is sorted from the highest score to the lowest, counted from 0.
///
/// Of equal scores the lower index ranks first:
/// `rank = #(score > s_gt) + #(score = s_gt and index < gt)`. A NaN ranks before everything else, and a NaN at `gt`
/// behind everything else, so that a broken model cannot score well. A `gt` outside the row ranks last.
pub fn rank_of(row: &[f32], gt: usize) -> usize {
    let Some(&own) = row.get(gt) else {
        return row.len();
    };
    let below = |other: f32| other < own;
    let before = row[..gt].iter().filter(|&&other| !below(other)).count();
    let after = row[gt + 1..]
        .iter()
        .filter(|&&other| !(below(other) || other == own))
        .count();
    before + after
}

/// The ranks of the matching items for a chunk of score rows.
///
/// `scores` is `[rows, columns]`, row-major; row r is query `first + r`, whose match is the column of that number.
pub fn ranks_of_chunk(scores: &[f32], columns: usize, first: usize) -> Vec<usize> {
    let rows = scores.chunks_exact(columns.max(1));
    rows.enumerate()
        .map(|(row, scores)| rank_of(scores, first + row))
        .collect()
}

/// Retrieval in one direction, from the rank of every query's match.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetrievalMetrics {
    /// Share of queries whose match ranks first.
    #[serde(rename = "R@1")]
    pub r1: f64,
    /// Share of queries whose match is among the first five.
    #[serde(rename = "R@5")]
    pub r5: f64,
    /// Share of queries whose match is among the first ten.
    #[serde(rename = "R@10")]
    pub r10: f64,
    /// Mean rank, counted from 1.
    pub mean_rank: f64,
    /// Median rank, rounded down, counted from 1.
    pub median_rank: f64,
}

impl RetrievalMetrics {
    /// The metrics of `ranks`, which count from 0. Without any rank every value is NaN.
    pub fn from_ranks(ranks: &[usize]) -> Self {
        let count = ranks.len() as f64;
        let sum: f64 = ranks.iter().map(|&rank| rank as f64).sum();
        Self {
            r1: within(ranks, 1),
            r5: within(ranks, 5),
            r10: within(ranks, 10),
            mean_rank: sum / count + 1.0,
            median_rank: median(ranks).floor() + 1.0,
        }
    }

    /// Name and value of every metric as OpenCLIP's `results.jsonl` has them, for `direction` `image_to_text` or
    /// `text_to_image`.
    pub fn named(&self, direction: &str) -> [(String, f64); 5] {
        [
            (format!("{direction}_mean_rank"), self.mean_rank),
            (format!("{direction}_median_rank"), self.median_rank),
            (format!("{direction}_R@1"), self.r1),
            (format!("{direction}_R@5"), self.r5),
            (format!("{direction}_R@10"), self.r10),
        ]
    }
}

/// Recall in one direction by CLIP_benchmark's rule: the share of queries with a right item among the first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recall {
    /// With one that ranks first.
    pub at1: f64,
    /// With one among the first five.
    pub at5: f64,
    /// With one among the first ten.
    pub at10: f64,
}

impl Recall {
    /// Of the ranks of every query's best right item, which count from 0. Without any rank every value is NaN.
    pub fn from_ranks(ranks: &[usize]) -> Self {
        Self {
            at1: within(ranks, 1),
            at5: within(ranks, 5),
            at10: within(ranks, 10),
        }
    }

    /// Name and value of every metric as CLIP_benchmark has them, for `direction` `image_retrieval` or `text_retrieval`.
    pub fn named(&self, direction: &str) -> [(String, f64); 3] {
        [
            (format!("{direction}_recall@1"), self.at1),
            (format!("{direction}_recall@5"), self.at5),
            (format!("{direction}_recall@10"), self.at10),
        ]
    }
}

/// The share of ranks below `k`.
fn within(ranks: &[usize], k: usize) -> f64 {
    ranks.iter().filter(|&&rank| rank < k).count() as f64 / ranks.len() as f64
}

/// The mean of the two middle values where their number is even, as `numpy.median`.
fn median(ranks: &[usize]) -> f64 {
    if ranks.is_empty() {
        return f64::NAN;
    }
    let mut sorted = ranks.to_vec();
    sorted.sort_unstable();
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle] as f64
    } else {
        (sorted[middle - 1] + sorted[middle]) as f64 / 2.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn ties_go_to_the_lower_index() {
        let row = [0.5, 0.9, 0.5, 0.1, 0.5];
        assert_eq!([0, 1, 2, 3, 4].map(|gt| rank_of(&row, gt)), [1, 0, 2, 4, 3]);
        assert_eq!(
            [0, 1, 2].map(|gt| rank_of(&[-0.0, 0.0, 0.0], gt)),
            [0, 1, 2]
        );
    }

    #[test]
    fn a_nan_never_helps() {
        let row = [f32::NAN, 0.2, f32::NAN, 0.1];
        assert_eq!([0, 1, 2, 3].map(|gt| rank_of(&row, gt)), [3, 2, 3, 3]);
        assert_eq!(rank_of(&row, 4), 4);
        assert_eq!(rank_of(&[], 0), 0);
    }

    #[test]
    fn chunks_give_the_ranks_of_the_whole() {
        let scores: Vec<f32> = (0..7 * 7).map(|i| ((i * 37) % 11) as f32).collect();
        let whole = ranks_of_chunk(&scores, 7, 0);
        let mut parts = ranks_of_chunk(&scores[..3 * 7], 7, 0);
        parts.extend(ranks_of_chunk(&scores[3 * 7..], 7, 3));
        assert_eq!(whole, parts);
        assert_eq!(whole.len(), 7);
    }

    /// Features, ranks and metrics by `open_clip_train` (see `tests/parity/export_training.py`).
    #[test]
    fn ranks_and_metrics_as_open_clip() {
        let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/parity/data/training");
        let expected: serde_json::Value =
            serde_json::from_slice(&std::fs::read(data.join("retrieval.json")).unwrap()).unwrap();
        let bytes = std::fs::read(data.join("retrieval.safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        for (name, case) in expected["cases"].as_object().unwrap() {
            let features = |kind: &str| -> Vec<Vec<f32>> {
                let tensor = tensors.tensor(&format!("{name}/{kind}_features")).unwrap();
                let values = tensor
                    .data()
                    .chunks(4)
                    .map(|b| f32::from_le_bytes(b.try_into().unwrap()));
                values
                    .collect::<Vec<_>>()
                    .chunks(tensor.shape()[1])
                    .map(<[f32]>::to_vec)
                    .collect()
            };
            let (images, texts) = (features("image"), features("text"));
            for (direction, queries, items) in [
                ("image_to_text", &images, &texts),
                ("text_to_image", &texts, &images),
            ] {
                let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
                let scores: Vec<f32> = queries
                    .iter()
                    .flat_map(|q| items.iter().map(move |i| 8.0 * dot(q, i)))
                    .collect();
                let ranks = ranks_of_chunk(&scores, items.len(), 0);
                assert_eq!(
                    serde_json::json!(ranks),
                    case["ranks"][direction],
                    "{name} {direction}"
                );
                for (metric, value) in RetrievalMetrics::from_ranks(&ranks).named(direction) {
                    let expected = case["metrics"][&metric].as_f64().unwrap();
                    assert!(
                        (value - expected).abs() < 1e-9,
                        "{name} {metric}: {value} != {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn even_and_odd_medians() {
        assert_eq!(RetrievalMetrics::from_ranks(&[0, 3]).median_rank, 2.0);
        assert_eq!(RetrievalMetrics::from_ranks(&[9, 0, 3]).median_rank, 4.0);
        assert!(RetrievalMetrics::from_ranks(&[]).mean_rank.is_nan());
    }
}
