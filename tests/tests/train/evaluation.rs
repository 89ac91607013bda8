//! Zero-shot classification and retrieval against `open_clip`. `tests/parity/export_training.py` made the fixtures.

use std::collections::HashMap;

use burn::module::Module;
use burn::tensor::{FloatDType, Tensor, TensorData};
use openclip_data::error::DataError;
use openclip_data::loader::Batch;
use openclip_data::tokenizer::Tokenizer;
use openclip_eval::Encoder;
use openclip_eval::progress::Progress;
use openclip_eval::retrieval::{RetrievalMetrics, ranks_of_chunk};
use openclip_eval::run::{ZERO_SHOT_SCALE, pairs, ranks, zero_shot_classifier};
use openclip_eval::zero_shot::{Accuracy, Prompts, top_k};
use openclip_model::pixels;
use openclip_tests::{Tensors, device, family, json, max_difference, model, model_config, values};
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

    fn tokenize(&self, text: &str) -> Result<Vec<i32>, DataError> {
        let row = self.rows.get(text);
        Ok(row
            .unwrap_or_else(|| panic!("upstream has no prompt {text:?}"))
            .clone())
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

    let classifier =
        zero_shot_classifier(&encoder, &tokenizer, &prompts, &Progress::hidden()).unwrap();
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

/// The batches of `coca/validation`: as many pictures and captions as each has.
#[test]
fn a_model_that_writes_captions_reports_their_loss() {
    let expected = json("coca/validation.json");
    let tensors = Tensors::read("coca/validation.safetensors");
    let model = family::model("coca/pool");
    let encoder = Encoder::new(
        &model,
        Default::default(),
        [18, 18],
        &device(),
        FloatDType::F32,
    );
    let (mut pictures, mut ids) = (
        tensors.get("pictures").1.iter().map(|x| *x as u8),
        tensors.get("text").1.iter().map(|id| *id as i32),
    );
    let batches = expected["batches"].as_array().unwrap().iter().map(|count| {
        let size = count.as_u64().unwrap() as usize;
        Ok(Batch {
            images: pictures.by_ref().take(size * 3 * 18 * 18).collect(),
            tokens: ids.by_ref().take(size * 12).collect(),
            size,
            ..Batch::default()
        })
    });
    let found = pairs(&encoder, batches, false, &Progress::hidden()).unwrap();
    let found: HashMap<_, _> = found.named().into_iter().collect();
    assert_eq!(found["num_samples"], 5.0);
    for name in ["clip_val_loss", "val_generative_loss"] {
        let wanted = expected[name].as_f64().unwrap();
        // Sums of a few f32 logarithms.
        assert!((found[name] - wanted).abs() <= 1e-5, "{name}: {found:?}");
    }
}

/// A model in training is set again and again; each time its branches are joined, as those of the first one are.
#[test]
fn an_encoder_joins_the_branches_of_every_model_it_is_given() {
    let case = "mobileclip/mci0";
    let model = family::model(case);
    let (height, width) = family::config(case).vision_cfg.image_size.dims();
    let size = [height, width];
    let picture: Vec<u8> = (0..3 * height * width)
        .map(|i| (i * 37 % 251) as u8)
        .collect();
    let mut encoder = Encoder::new(&model, Default::default(), size, &device(), FloatDType::F32);
    let first = values(encoder.images(picture.clone(), 1));
    encoder.set_model(&model);
    assert_eq!(values(encoder.images(picture.clone(), 1)), first);
    let planes = pixels::planes(picture, [1, 3, height, width], &encoder.device);
    let plain = pixels::normalise(planes, &encoder.preprocess, encoder.dtype);
    let plain = values(model.valid().encode_image(plain, true));
    assert_ne!(plain, first, "joined branches round otherwise");
    assert!(max_difference(&plain, &first) <= 1e-5);
}
