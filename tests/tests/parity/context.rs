//! `--force-context-length`, shorter and longer than the model's own, from configuration to features and checkpoint.
//! `tests/parity/export_context.py` made the fixtures.

use std::path::{Path, PathBuf};

use burn::tensor::FloatDType;
use openclip_data::tokenizer::for_model;
use openclip_eval::Encoder;
use openclip_model::factory::{self, CreateOptions};
use openclip_model::weights::{TensorOut, write_safetensors};
use openclip_tests::runs::{run_config, write_squares};
use openclip_tests::{Tensors, device, fixture, json, max_difference, parameters_of, values};
use openclip_train::{TrainConfig, train};
use serde_json::{Value, json as object};

const CASES: [&str; 3] = ["native", "siglip", "roberta"];

fn description(case: &str) -> Value {
    json(&format!("context/{case}.json"))
}

fn lengths(case: &str) -> Vec<usize> {
    let lengths = description(case)["lengths"].as_array().unwrap().clone();
    lengths
        .iter()
        .map(|n| n.as_u64().unwrap() as usize)
        .collect()
}

/// The folder that upstream was given: configuration, weights, tokenizer.
fn write_folder(case: &str, folder: &Path) {
    let description = description(case);
    let expected = Tensors::read(&format!("context/{case}.safetensors"));
    let hub = object!({ "model_cfg": description["model_cfg"], "preprocess_cfg": {} });
    std::fs::write(folder.join("open_clip_config.json"), hub.to_string()).unwrap();
    let mut weights: Vec<(String, Vec<usize>, Vec<f32>)> = expected
        .with_prefix("weights/")
        .map(|(key, values)| {
            let (shape, _) = expected.get(&format!("weights/{key}"));
            (key.to_string(), shape.to_vec(), values.to_vec())
        })
        .collect();
    if case == "native" {
        let vocabulary = description["model_cfg"]["text_cfg"]["vocab_size"]
            .as_u64()
            .unwrap() as usize;
        let (_, shape, table) = weights
            .iter_mut()
            .find(|(key, ..)| key == "token_embedding.weight")
            .unwrap();
        let width = shape[1];
        let mut all = vec![0.0; vocabulary * width];
        for (id, vector) in expected.get("used").1.iter().zip(table.chunks(width)) {
            all[*id as usize * width..][..width].copy_from_slice(vector);
        }
        (*shape, *table) = (vec![vocabulary, width], all);
    }
    let tensors = weights
        .iter()
        .map(|(key, shape, values)| TensorOut::f32(key, shape, values));
    let file = folder.join("open_clip_model.safetensors");
    write_safetensors(&file, tensors, &Default::default()).unwrap();
    let Some(tokenizer) = description["tokenizer"].as_str() else {
        return;
    };
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        let from: PathBuf = fixture(tokenizer).join(name);
        std::fs::copy(from, folder.join(name)).unwrap();
    }
}

#[test]
fn rows_positions_and_features_are_those_of_open_clip() {
    for case in CASES {
        let dir = tempfile::tempdir().unwrap();
        write_folder(case, dir.path());
        let expected = Tensors::read(&format!("context/{case}.safetensors"));
        let captions: Vec<String> =
            serde_json::from_value(description(case)["captions"].clone()).unwrap();
        for length in lengths(case) {
            let place = format!("{case}, {length} tokens");
            let options = CreateOptions {
                force_context_length: Some(length),
                ..CreateOptions::default()
            };
            let name = format!("local-dir:{}", dir.path().display());
            let loaded = factory::create(&name, None, &device(), &options).unwrap();
            let tokenizer = for_model(&loaded.config, Some(dir.path())).unwrap();
            assert_eq!(tokenizer.context_length(), length, "{place}");
            let rows: Vec<f32> = captions
                .iter()
                .flat_map(|caption| tokenizer.tokenize(caption).unwrap())
                .map(|id| id as f32)
                .collect();
            assert_eq!(rows, expected.get(&format!("{length}/tokens")).1, "{place}");
            let same = |found: &[f32], name: &str, tolerance| {
                let apart = max_difference(found, expected.get(&format!("{length}/{name}")).1);
                assert!(apart <= tolerance, "{place}: {name} differ by {apart:e}");
            };
            let all = parameters_of(&loaded.model);
            let positions = all.iter().find(|p| {
                ["positional_embedding", "text.positional_embedding"].contains(&p.key.as_str())
            });
            if case != "roberta" {
                // The mean of two neighbours in f32.
                same(&positions.unwrap().values, "positions", 1e-6);
            }
            let encoder = Encoder::of(&loaded, &device(), FloatDType::F32);
            let features = encoder.texts(tokenizer.as_ref(), &captions).unwrap();
            same(&values(features), "features", 1e-4);
        }
    }
}

/// A run under another length trains, validates, saves the length with the weights, and goes on from its checkpoint.
#[test]
fn a_run_keeps_its_length() {
    for (case, length) in CASES
        .iter()
        .flat_map(|case| lengths(case).into_iter().map(move |n| (*case, n)))
    {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("model");
        std::fs::create_dir(&model).unwrap();
        write_folder(case, &model);
        write_squares(dir.path());
        let run = run_config(dir.path(), "run");
        let config = TrainConfig {
            model: format!("local-dir:{}", model.display()),
            force_context_length: Some(length),
            val_data: run.train_data.clone(),
            epochs: 2,
            ..run
        };
        let place = format!("{case}, {length} tokens");
        let stopped = TrainConfig {
            max_steps: Some(1),
            ..config.clone()
        };
        train(stopped).unwrap_or_else(|error| panic!("{place}: {error}"));
        let resumed = TrainConfig {
            resume: Some("latest".into()),
            ..config
        };
        let outcome = train(resumed).unwrap_or_else(|error| panic!("{place}: {error}"));
        let results = std::fs::read_to_string(outcome.run.join("results.jsonl")).unwrap();
        assert!(results.contains("\"num_samples\":4"), "{place}: {results}");
        let file = outcome.checkpoint.unwrap().join("model.safetensors");
        let saved = openclip_model::weights::StateDict::read(&file).unwrap();
        let cfg: Value = serde_json::from_str(&saved.metadata[factory::CONFIG_METADATA]).unwrap();
        assert_eq!(
            cfg["model_cfg"]["text_cfg"]["context_length"], length,
            "{place}"
        );
        let positions = saved.tensors.iter().find(|(key, _)| {
            ["positional_embedding", "text.positional_embedding"].contains(&key.as_str())
        });
        let rows = positions.map(|(_, tensor)| tensor.shape[0]);
        assert_eq!(rows, (case != "roberta").then_some(length), "{place}");
    }
}
