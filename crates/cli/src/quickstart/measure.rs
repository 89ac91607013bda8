//! Zero-shot classification and retrieval of combinations that training never saw.

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;
use openclip_data::image::{Limits, decode};
use openclip_data::tokenizer::Tokenizer;
use openclip_eval::Encoder;
use openclip_eval::progress::Progress;
use openclip_eval::retrieval::RetrievalMetrics;
use openclip_eval::run::{ZERO_SHOT_SCALE, host, ranks};
use openclip_eval::zero_shot::{Accuracy, top_k};

use super::contact_sheet::{Card, Guess};
use super::scene::{Combination, Split};
use super::shards::Example;
use crate::error::Result;

/// Pictures that go through the tower together.
const BATCH: usize = 64;

/// What the held-out pictures gave.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measured {
    /// Combinations there are.
    pub(super) classes: usize,
    /// Combinations that training never saw.
    pub(super) held_out: usize,
    /// Pictures of these.
    pub(super) pictures: usize,
    /// Pictures whose own caption is the likeliest of all `classes`.
    pub(super) right: usize,
    /// Accuracy where the captions of held-out combinations are the only choice.
    pub(super) accuracy_among_held_out: f64,
    /// Pairs in a gallery: every held-out scene once, each with its full caption.
    pub(super) gallery: usize,
    /// Galleries over which retrieval is averaged.
    pub(super) galleries: usize,
    pub(super) image_to_text: RetrievalMetrics,
    pub(super) text_to_image: RetrievalMetrics,
}

impl Measured {
    /// Share of pictures whose own caption is the likeliest of all.
    pub(super) fn accuracy(&self) -> f64 {
        self.right as f64 / self.pictures as f64
    }
}

/// Classifies every held-out picture and ranks each gallery in both directions.
pub(super) fn measure(
    encoder: &Encoder,
    tokenizer: &dyn Tokenizer,
    rounds: &[Vec<Example>],
    split: &Split,
) -> Result<Measured> {
    let all = Combination::all();
    let captions = |combinations: &[Combination]| -> Result<_> {
        let captions: Vec<String> = combinations.iter().map(ToString::to_string).collect();
        Ok(encoder.texts(tokenizer, &captions)?.transpose())
    };
    let (among_all, among_held_out) = (captions(&all)?, captions(&split.held_out)?);
    let pictures = rounds.iter().map(Vec::len).sum();
    let progress = Progress::new("measure", Some(pictures as u64), "pictures");

    let (mut accuracy, mut accuracy_held_out) = (Accuracy::default(), Accuracy::default());
    let (mut image_ranks, mut text_ranks) = (Vec::new(), Vec::new());
    for round in rounds {
        let images = images(encoder, round.iter(), &progress)?;
        for (accuracy, classes, classifier) in [
            (&mut accuracy, &all, &among_all),
            (&mut accuracy_held_out, &split.held_out, &among_held_out),
        ] {
            let place =
                |example: &Example| classes.iter().position(|&what| what == example.scene.what);
            let targets: Vec<usize> = round.iter().filter_map(place).collect();
            let scores = host(images.clone().matmul(classifier.clone()))?;
            accuracy.add(&scores, classes.len(), &targets)?;
        }
        let captions: Vec<&str> = round
            .iter()
            .map(|example| example.caption.as_str())
            .collect();
        let texts = encoder.texts(tokenizer, &captions)?;
        image_ranks.extend(ranks(&images, &texts)?);
        text_ranks.extend(ranks(&texts, &images)?);
    }
    progress.finish();
    Ok(Measured {
        classes: all.len(),
        held_out: split.held_out.len(),
        pictures,
        right: (accuracy.top1() * pictures as f64).round() as usize,
        accuracy_among_held_out: accuracy_held_out.top1(),
        gallery: rounds.first().map_or(0, Vec::len),
        galleries: rounds.len(),
        image_to_text: RetrievalMetrics::from_ranks(&image_ranks),
        text_to_image: RetrievalMetrics::from_ranks(&text_ranks),
    })
}

/// The likeliest captions of each picture, as `openclip classify` weighs them.
pub(super) fn read(
    encoder: &Encoder,
    tokenizer: &dyn Tokenizer,
    examples: &[&Example],
) -> Result<Vec<Card>> {
    let all = Combination::all();
    let captions: Vec<String> = all.iter().map(ToString::to_string).collect();
    let classifier = encoder.texts(tokenizer, &captions)?.transpose();
    let features = images(encoder, examples.iter().copied(), &Progress::hidden())?;
    let rows = host(softmax(
        features.matmul(classifier).mul_scalar(ZERO_SHOT_SCALE),
        1,
    ))?;
    let card = |(row, example): (&[f32], &&Example)| -> Result<Card> {
        let guess = |k: usize| Guess {
            caption: captions[k].clone(),
            probability: row[k],
            is_true: all[k] == example.scene.what,
        };
        let samples = decode(&example.jpeg, Limits::default())?
            .into_rgb()
            .samples()
            .to_vec();
        Ok(Card {
            samples,
            guesses: top_k(row, all.len()).into_iter().map(guess).collect(),
        })
    };
    rows.chunks_exact(all.len())
        .zip(examples)
        .map(card)
        .collect()
}

/// Features of the pictures, `[pictures, embed_dim]`.
fn images<'a>(
    encoder: &Encoder,
    examples: impl Iterator<Item = &'a Example>,
    progress: &Progress,
) -> Result<Tensor<2>> {
    let examples: Vec<&Example> = examples.collect();
    let mut features = Vec::new();
    for batch in examples.chunks(BATCH) {
        let mut planes = Vec::new();
        for example in batch {
            let picture = decode(&example.jpeg, Limits::default())?.into_rgb();
            planes.extend(encoder.planes(&picture)?);
        }
        features.push(encoder.images(planes, batch.len()));
        progress.inc(batch.len() as u64);
    }
    Ok(Tensor::cat(features, 0))
}
