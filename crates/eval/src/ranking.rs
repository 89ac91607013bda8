//! Ranks of all pairs from their features, with a bounded part of the scores at a time.

use burn::tensor::Tensor;

use crate::error::EvalError;
use crate::host::host;
use crate::retrieval::{Recall, RetrievalMetrics, rank_of};

/// Scores that exist at a time.
const SCORES: usize = 1 << 24;
/// Queries that are compared together.
const QUERIES: usize = 1024;

/// Retrieval in both directions by both rules; see [`crate::retrieval`].
#[derive(Debug, Clone, PartialEq)]
pub struct PairRetrieval {
    /// OpenCLIP's rule, from pictures to captions.
    pub image_to_text: RetrievalMetrics,
    /// OpenCLIP's rule, from captions to pictures.
    pub text_to_image: RetrievalMetrics,
    /// CLIP_benchmark's rule, from captions to pictures.
    pub image_retrieval: Recall,
    /// CLIP_benchmark's rule, from pictures to captions.
    pub text_retrieval: Recall,
}

/// Ranks different pictures `[pictures, embed_dim]` against captions `[pairs, embed_dim]` and back; `of_pair` is the picture of
/// every caption.
///
/// # Errors
/// When the device fails.
pub fn retrieval(
    images: &Tensor<2>,
    texts: &Tensor<2>,
    of_pair: &[usize],
) -> Result<PairRetrieval, EvalError> {
    let mut captions_of = vec![Vec::new(); images.dims()[0]];
    for (pair, &picture) in of_pair.iter().enumerate() {
        captions_of[picture].push(pair);
    }
    let mut image_to_text = vec![0; of_pair.len()];
    let mut text_retrieval = vec![usize::MAX; captions_of.len()];
    each_row(images, texts, |picture, scores| {
        for &pair in &captions_of[picture] {
            let rank = rank_of(scores, pair);
            image_to_text[pair] = rank;
            text_retrieval[picture] = text_retrieval[picture].min(rank);
        }
    })?;
    let mut text_to_image = vec![0; of_pair.len()];
    let mut image_retrieval = vec![0; of_pair.len()];
    let mut of_pairs = vec![0.0; of_pair.len()];
    each_row(texts, images, |pair, scores| {
        image_retrieval[pair] = rank_of(scores, of_pair[pair]);
        // By OpenCLIP's rule a picture stands among the items as often as it has captions.
        for (score, &picture) in of_pairs.iter_mut().zip(of_pair) {
            *score = scores[picture];
        }
        text_to_image[pair] = rank_of(&of_pairs, pair);
    })?;
    Ok(PairRetrieval {
        image_to_text: RetrievalMetrics::from_ranks(&image_to_text),
        text_to_image: RetrievalMetrics::from_ranks(&text_to_image),
        image_retrieval: Recall::from_ranks(&image_retrieval),
        text_retrieval: Recall::from_ranks(&text_retrieval),
    })
}

/// The rank of every query's best right item, from zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BestRanks {
    /// Of a caption's picture among all pictures.
    pub of_captions: Vec<usize>,
    /// Of a picture's best caption among all captions; `usize::MAX` without any.
    pub of_pictures: Vec<usize>,
    /// Whether every score is a number.
    pub is_finite: bool,
}

/// CLIP_benchmark's retrieval alone: pictures `[pictures, embed_dim]`, captions `[captions, embed_dim]`, and the picture of every
/// caption.
///
/// # Errors
/// When the device fails.
pub fn best_ranks(
    images: &Tensor<2>,
    texts: &Tensor<2>,
    of_caption: &[usize],
) -> Result<BestRanks, EvalError> {
    let mut captions_of = vec![Vec::new(); images.dims()[0]];
    for (caption, &picture) in of_caption.iter().enumerate() {
        captions_of[picture].push(caption);
    }
    let mut is_finite = true;
    let mut of_captions = vec![0; of_caption.len()];
    each_row(texts, images, |caption, scores| {
        let own = of_caption[caption];
        is_finite &= scores[own].is_finite();
        of_captions[caption] = rank_of(scores, own);
    })?;
    let mut of_pictures = vec![usize::MAX; captions_of.len()];
    each_row(images, texts, |picture, scores| {
        let own = captions_of[picture].iter().copied();
        let best = own.reduce(|best, at| if scores[at] > scores[best] { at } else { best });
        if let Some(best) = best {
            is_finite &= scores[best].is_finite();
            of_pictures[picture] = rank_of(scores, best);
        }
    })?;
    Ok(BestRanks {
        of_captions,
        of_pictures,
        is_finite,
    })
}

/// Rank of `keys[i]` among all keys for `queries[i]`, from zero; both `[items, embed_dim]`.
///
/// # Errors
/// When the device fails.
pub fn ranks(queries: &Tensor<2>, keys: &Tensor<2>) -> Result<Vec<usize>, EvalError> {
    let mut ranks = Vec::with_capacity(queries.dims()[0]);
    each_row(queries, keys, |query, scores| {
        ranks.push(rank_of(scores, query));
    })?;
    Ok(ranks)
}

/// Hands over the scores of every query with all keys, one query after the other.
fn each_row(
    queries: &Tensor<2>,
    keys: &Tensor<2>,
    mut row: impl FnMut(usize, &[f32]),
) -> Result<(), EvalError> {
    let ([count, _], [width, _]) = (queries.dims(), keys.dims());
    let columns = keys.clone().transpose();
    let step = (SCORES / width.max(1)).clamp(1, QUERIES);
    for first in (0..count).step_by(step) {
        let last = count.min(first + step);
        let scores = queries
            .clone()
            .slice_dim(0, first..last)
            .matmul(columns.clone());
        for (at, scores) in host(scores)?.chunks_exact(width.max(1)).enumerate() {
            row(first + at, scores);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use burn::tensor::{Device, TensorData};
    use serde_json::Value;

    use super::*;

    fn features(rows: &Value) -> Tensor<2> {
        let rows: Vec<Vec<f32>> = serde_json::from_value(rows.clone()).unwrap();
        let shape = [rows.len(), rows[0].len()];
        Tensor::from_data(TensorData::new(rows.concat(), shape), &Device::default())
    }

    /// Features and metrics by `open_clip_train` and CLIP_benchmark (see `tests/parity/export_shared_pictures.py`).
    #[test]
    fn several_captions_of_a_picture_by_either_rule() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/parity/data/training/shared_pictures.json"
        );
        let expected: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let (images, texts) = (features(&expected["images"]), features(&expected["texts"]));
        let of_pair: Vec<usize> = serde_json::from_value(expected["of_pair"].clone()).unwrap();
        let found = retrieval(&images, &texts, &of_pair).unwrap();

        let mut named = found.image_to_text.named("image_to_text").to_vec();
        named.extend(found.image_retrieval.named("image_retrieval"));
        named.extend(found.text_retrieval.named("text_retrieval"));
        for (name, value) in named {
            let rule = match name.contains("recall") {
                true => "clip_benchmark",
                false => "open_clip",
            };
            let expected = expected[rule][&name].as_f64().unwrap();
            assert!(
                (value - expected).abs() < 1e-6,
                "{name}: {value}, not {expected}"
            );
        }

        // The other direction of OpenCLIP's rule is that of one picture a row.
        let width = images.dims()[1];
        let rows = host(images).unwrap();
        let rows = of_pair
            .iter()
            .flat_map(|picture| rows[picture * width..(picture + 1) * width].to_vec());
        let rows = TensorData::new(rows.collect::<Vec<f32>>(), texts.dims());
        let rows = Tensor::from_data(rows, &Device::default());
        assert_eq!(
            found.text_to_image,
            RetrievalMetrics::from_ranks(&ranks(&texts, &rows).unwrap())
        );
    }
}
