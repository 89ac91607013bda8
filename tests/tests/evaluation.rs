//! Zero-shot classification and retrieval against `open_clip`. `tests/parity/export_training.py` made the fixtures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;

use burn::tensor::{FloatDType, Tensor, TensorData};
use openclip_data::tokenizer::Tokenizer;
use openclip_eval::Encoder;
use openclip_eval::progress::Progress;
use openclip_eval::retrieval::{RetrievalMetrics, ranks_of_chunk};
use openclip_eval::run::{ZERO_SHOT_SCALE, ranks, zero_shot_classifier};
use openclip_eval::zero_shot::{Accuracy, Prompts, top_k};
use openclip_tests::{Tensors, device, json, max_difference, model, model_config, values};
use serde_json::Value;

/// The rows that upstream's run of the same prompts saw.
struct Rows {
    rows: HashMap<String, Vec<i32>>,
    context: usize,
}

impl Tokenizer for Rows {
    fn context_length(&self) -> usize {
        self.context
    }

    fn tokenize(&self, text: &str) -> Vec<i32> {
        self.rows
            .get(text)
            .unwrap_or_else(|| panic!("upstream has no prompt {text:?}"))
            .clone()
    }
}

fn strings(value: &Value) -> Vec<String> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap().to_string())
        .collect()
}

#[test]
fn zero_shot_classification() {
    let expected = json("training/zeroshot.json");
    let tensors = Tensors::read("training/zeroshot.safetensors");
    let name = expected["model_case"].as_str().unwrap();
    let config = model_config(&json(&format!("models/{name}.json"))["model_cfg"]);
    let model = model(
        &config,
        &format!("models/{name}.safetensors"),
        "weights/",
        &device(),
    );
    let (height, width) = config.vision_cfg.image_size.dims();
    let encoder = Encoder::new(
        &model,
        Default::default(),
        [height, width],
        &device(),
        FloatDType::F32,
    );

    let prompts = Prompts {
        classes: strings(&expected["classes"]),
        templates: strings(&expected["templates"]),
        simple_templates: Vec::new(),
    };
    let texts = strings(&expected["texts"]);
    let made: Vec<_> = (0..prompts.classes.len())
        .flat_map(|class| prompts.of_class(class))
        .collect();
    assert_eq!(made, texts);
    let (shape, ids) = tensors.get("input/text");
    let rows = ids
        .chunks(shape[1])
        .map(|row| row.iter().map(|id| *id as i32).collect());
    let tokenizer = Rows {
        rows: texts.into_iter().zip(rows).collect(),
        context: shape[1],
    };

    let classifier = zero_shot_classifier(&encoder, &tokenizer, &prompts, &Progress::hidden());
    let (shape, wanted) = tensors.get("output/classifier");
    assert_eq!(classifier.dims(), [shape[0], shape[1]]);
    // Unit vectors in f32.
    let difference = max_difference(&values(classifier.clone()), wanted);
    assert!(difference <= 1e-5, "classifier: {difference:e}");

    let features = model.encode_image(tensors.tensor("input/image", &device()), true);
    let logits = values(features.matmul(classifier).mul_scalar(ZERO_SHOT_SCALE));
    let (shape, wanted) = tensors.get("output/logits");
    // A hundred times a cosine.
    let difference = max_difference(&logits, wanted);
    assert!(difference <= 1e-3, "logits: {difference:e}");

    let targets: Vec<usize> = tensors
        .get("input/target")
        .1
        .iter()
        .map(|target| *target as usize)
        .collect();
    let mut accuracy = Accuracy::default();
    // In batches of unequal size.
    for (logits, targets) in logits.chunks(shape[1] * 7).zip(targets.chunks(7)) {
        accuracy.add(logits, shape[1], targets).unwrap();
    }
    assert_eq!(accuracy.top1(), expected["top1"].as_f64().unwrap());
    assert_eq!(accuracy.top5(), expected["top5"].as_f64().unwrap());
    assert_eq!(accuracy.count(), 24);
    // The same by the places of the highest scores.
    for (k, share) in [(1, accuracy.top1()), (5, accuracy.top5())] {
        let hits = logits
            .chunks(shape[1])
            .zip(&targets)
            .filter(|(row, target)| top_k(row, k).contains(target));
        assert_eq!(hits.count() as f64 / 24.0, share);
    }
}

#[test]
fn retrieval_with_and_without_ties() {
    let expected = json("training/retrieval.json");
    let tensors = Tensors::read("training/retrieval.safetensors");
    let cases = expected["cases"].as_object().unwrap();
    assert_eq!(cases.len(), 5);
    for (name, case) in cases {
        let features =
            |kind: &str| tensors.tensor::<2>(&format!("{name}/{kind}_features"), &device());
        let (images, texts) = (features("image"), features("text"));
        for (direction, queries, keys) in [
            ("image_to_text", &images, &texts),
            ("text_to_image", &texts, &images),
        ] {
            let found = ranks(queries, keys).unwrap();
            assert_eq!(
                serde_json::json!(found),
                case["ranks"][direction],
                "{name}, {direction}"
            );
            for (metric, value) in RetrievalMetrics::from_ranks(&found).named(direction) {
                let wanted = case["metrics"][&metric].as_f64().unwrap();
                // Upstream's means are f64 as well.
                assert!(
                    (value - wanted).abs() < 1e-9,
                    "{name}, {metric}: {value} instead of {wanted}"
                );
            }
        }
    }
}

#[test]
fn ranks_in_chunks_are_those_of_the_whole() {
    let tensors = Tensors::read("training/retrieval.safetensors");
    for name in ["random", "ties"] {
        let [images, texts] = ["image", "text"]
            .map(|kind| tensors.tensor::<2>(&format!("{name}/{kind}_features"), &device()));
        let [count, _] = images.dims();
        let scores = values(images.clone().matmul(texts.clone().transpose()));
        let whole = ranks_of_chunk(&scores, count, 0);
        for size in [1, 2, 7, 59, count, count + 1] {
            let mut parts = Vec::new();
            for (chunk, scores) in scores.chunks(size * count).enumerate() {
                parts.extend(ranks_of_chunk(scores, count, chunk * size));
            }
            assert_eq!(parts, whole, "{name} in chunks of {size}");
        }
        assert_eq!(ranks(&images, &texts).unwrap(), whole, "{name}");
    }
}

/// More queries than a chunk holds: every row of the score matrix is used once, with its own match.
#[test]
fn more_queries_than_a_chunk() {
    let count = 2500_usize;
    // Twelve signs that spell the index, some of them turned over in the match: scores are exact, and full of ties.
    let signs = |code: usize| -> [i32; 12] {
        std::array::from_fn(|bit| if (code >> bit) & 1 == 1 { 1 } else { -1 })
    };
    let queries: Vec<_> = (0..count).map(signs).collect();
    let keys: Vec<_> = (0..count)
        .map(|i| signs(i ^ (((i * 2_654_435_761) >> 7) & ((i * 40_503) >> 3) & 0xfff)))
        .collect();
    let score =
        |i: usize, k: usize| -> i32 { queries[i].iter().zip(&keys[k]).map(|(a, b)| a * b).sum() };
    let expected: Vec<usize> = (0..count)
        .map(|i| {
            let own = score(i, i);
            (0..count)
                .filter(|&k| score(i, k) > own || (score(i, k) == own && k < i))
                .count()
        })
        .collect();
    let tensor = |rows: &[[i32; 12]]| {
        let values: Vec<f32> = rows.concat().into_iter().map(|sign| sign as f32).collect();
        Tensor::<2>::from_data(TensorData::new(values, [count, 12]), &device())
    };
    assert_eq!(ranks(&tensor(&queries), &tensor(&keys)).unwrap(), expected);
    assert!(expected.contains(&0) && expected.iter().any(|&rank| rank > 100));
}
