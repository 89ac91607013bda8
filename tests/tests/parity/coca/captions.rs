//! Captions: those of `open_clip`, by beams and by samples, with and without a cache of keys and values.

use std::path::Path;

use burn::tensor::Tensor;
use openclip_model::factory::{self, CreateOptions, Loaded};
use openclip_model::generate::{
    BeamScore, BeamSearch, Filter, GenerateOptions, Sampling, SpecialTokens, Strategy,
};
use openclip_model::{Clip, init};
use openclip_tests::{Tensors, device, fixture, json, max_difference, model, model_config, values};
use serde_json::Value;

/// Runs of `generate` with the model and pictures they are of: number of captions, and of those with another end than the last
/// place.
fn compare_captions(folder: &Path) {
    let file = folder
        .join("captions.safetensors")
        .to_str()
        .unwrap()
        .to_string();
    let expected = Tensors::read(&file);
    let device = device();
    let (mut captions, mut worst) = (0, 0.0_f32);
    let cases = json(folder.join("captions.json").to_str().unwrap());
    for (i, case) in cases.as_array().unwrap().iter().enumerate() {
        let model = model(
            &model_config(&case["model_cfg"]),
            &file,
            &format!("{i}/weights/"),
            &device,
        );
        let image: Tensor<4> = expected.tensor(&format!("{i}/image"), &device);
        // Teacher-forced logits of 2.29, at every position but the last.
        let tokens = expected.tokens(&format!("{i}/text"), &device);
        let found = model.forward_caption(image.clone(), tokens, None).unwrap();
        let wanted = expected.get(&format!("{i}/logits")).1;
        worst = worst.max(max_difference(&values(found.logits), wanted));
        assert!(worst <= 5e-4, "{i}: logits differ by {worst:e}");
        for run in case["runs"].as_array().unwrap() {
            for cache in [true, false] {
                let options = GenerateOptions {
                    cache,
                    ..options(run)
                };
                let found = model.generate(image.clone(), &options).unwrap();
                let wanted: Vec<Vec<i32>> =
                    serde_json::from_value(run["captions"].clone()).unwrap();
                assert_eq!(found, wanted, "model {i}, cache {cache}: {run}");
                captions += found.len();
            }
        }
    }
    println!("{captions} captions alike, with and without cache; logits differ by {worst:e}");
}

fn options(run: &Value) -> GenerateOptions {
    let number = |key: &str| run[key].as_u64().map(|n| n as usize);
    let sampling = |filter| {
        Strategy::Sample(Sampling {
            filter,
            temperature: run["temperature"].as_f64().unwrap_or(1.0) as f32,
            seed: 0,
        })
    };
    GenerateOptions {
        seq_len: number("seq_len").unwrap(),
        min_seq_len: number("min_seq_len").unwrap(),
        repetition_penalty: run["repetition_penalty"].as_f64().unwrap() as f32,
        fixed_output_length: run["fixed_output_length"].as_bool().unwrap(),
        special: SPECIAL,
        strategy: match run["generation_type"].as_str().unwrap() {
            "top_k" => sampling(Filter::TopK(number("top_k").unwrap())),
            "top_p" => sampling(Filter::TopP(run["top_p"].as_f64().unwrap() as f32)),
            _ => Strategy::Beam(BeamSearch {
                beams: number("num_beams").unwrap(),
                groups: number("num_beam_groups").unwrap(),
                score: BeamScore::Logits,
            }),
        },
        ..GenerateOptions::default()
    }
}

const SPECIAL: SpecialTokens = SpecialTokens {
    start: 22,
    end: 23,
    pad: 0,
};

#[test]
fn captions_are_those_of_open_clip() {
    compare_captions(&fixture("coca"));
}

/// `OPENCLIP_CAPTIONS_DIR` is what `export_captions.py` wrote.
#[test]
#[ignore = "needs captions of `export_captions.py`"]
fn random_captions() {
    let captions = std::env::var("OPENCLIP_CAPTIONS_DIR").expect("OPENCLIP_CAPTIONS_DIR");
    compare_captions(Path::new(&captions));
}

/// A tower whose tokens see later ones writes what upstream does, with and without the wish for a cache.
#[test]
fn greedy_captions_of_a_hugging_face_tower() {
    let file = "coca/roberta.safetensors";
    let config = model_config(&json("coca/roberta.json")["model_cfg"]);
    let expected = Tensors::read(file);
    let model = model(&config, file, "weights/", &device());
    let image: Tensor<4> = expected.tensor("input/image", &device());
    let (shape, wanted) = expected.get("output/greedy");
    // No token ends a caption before the last place.
    let special = SpecialTokens {
        start: 0,
        end: 20,
        pad: 21,
    };
    assert!(!wanted.iter().any(|id| *id == 20.0 || *id == 21.0));
    for cache in [true, false] {
        let options = GenerateOptions {
            seq_len: shape[1],
            min_seq_len: 2,
            special,
            strategy: Strategy::Sample(Sampling {
                filter: Filter::TopK(1),
                temperature: 1.0,
                seed: 0,
            }),
            cache,
            ..GenerateOptions::default()
        };
        let found = model.generate(image.clone(), &options).unwrap();
        for (found, wanted) in found.iter().zip(wanted.chunks(shape[1])) {
            let wanted: Vec<i32> = wanted.iter().map(|id| *id as i32).collect();
            assert_eq!(found[..shape[1] - 1], wanted[..shape[1] - 1]);
        }
    }
    let found = SpecialTokens::of(&config).unwrap();
    let expected = SpecialTokens {
        start: 0,
        end: 2,
        pad: 1,
    };
    assert_eq!(found, expected);
}

/// A model from scratch writes every id that its text tower reads; a published one those that its file knows.
#[test]
fn the_decoder_of_a_hugging_face_tower_has_the_vocabulary_of_its_weights() {
    let mut cfg = json("coca/roberta.json")["model_cfg"].clone();
    cfg["text_cfg"]["vocab_size"] = 20.into();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.json");
    std::fs::write(&path, cfg.to_string()).unwrap();
    let path = path.to_str().unwrap();
    let create = |weights: Option<&str>| {
        factory::create(path, weights, &device(), &CreateOptions::default()).unwrap()
    };
    let vocabulary = |loaded: &Loaded| loaded.model.text_decoder.as_ref().unwrap().vocabulary();
    let fresh = create(None);
    assert_eq!(vocabulary(&fresh), 24);
    assert_eq!(fresh.config.text_cfg.vocab_size, 24);
    let saved = folder.path().join("fresh.safetensors");
    fresh.save(&saved).unwrap();
    assert_eq!(vocabulary(&create(saved.to_str())), 24);
    let narrow = Clip::new(&model_config(&cfg), &device()).unwrap();
    let narrow = Loaded {
        model: init::initialise(narrow, &model_config(&cfg), 1),
        ..fresh
    };
    narrow.save(&saved).unwrap();
    assert_eq!(vocabulary(&create(saved.to_str())), 20);
}

fn first_captioner() -> (Clip, Tensor<4>) {
    let case = &json("coca/captions.json")[0];
    let file = "coca/captions.safetensors";
    let model = model(
        &model_config(&case["model_cfg"]),
        file,
        "0/weights/",
        &device(),
    );
    (model, Tensors::read(file).tensor("0/image", &device()))
}

#[test]
fn samples_follow_the_seed_and_log_softmax_needs_no_cache() {
    let (model, image) = first_captioner();
    let options = |strategy, cache| GenerateOptions {
        seq_len: 12,
        special: SPECIAL,
        strategy,
        cache,
        ..GenerateOptions::default()
    };
    let sample = |seed, cache| {
        let sampling = Sampling {
            filter: Filter::TopK(12),
            temperature: 1.5,
            seed,
        };
        model
            .generate(image.clone(), &options(Strategy::Sample(sampling), cache))
            .unwrap()
    };
    assert_eq!(sample(1, true), sample(1, false));
    assert_ne!(sample(1, true), sample(2, true));
    let search = Strategy::Beam(BeamSearch {
        score: BeamScore::LogSoftmax,
        ..BeamSearch::default()
    });
    let beams = [true, false].map(|cache| {
        model
            .generate(image.clone(), &options(search, cache))
            .unwrap()
    });
    assert_eq!(beams[0], beams[1]);
}

#[test]
fn options_that_cannot_be_are_refused_by_name() {
    let (model, image) = first_captioner();
    let base = GenerateOptions {
        seq_len: 12,
        special: SPECIAL,
        ..GenerateOptions::default()
    };
    let beam = |beams, groups| {
        Strategy::Beam(BeamSearch {
            beams,
            groups,
            score: BeamScore::Logits,
        })
    };
    for (options, word) in [
        (
            GenerateOptions {
                seq_len: 15,
                ..base.clone()
            },
            "seq_len",
        ),
        (
            GenerateOptions {
                seq_len: 5,
                ..base.clone()
            },
            "seq_len",
        ),
        (
            GenerateOptions {
                repetition_penalty: 0.0,
                ..base.clone()
            },
            "repetition_penalty",
        ),
        (
            GenerateOptions {
                strategy: beam(5, 2),
                ..base.clone()
            },
            "beams",
        ),
        (
            GenerateOptions {
                strategy: beam(0, 0),
                ..base.clone()
            },
            "beams",
        ),
        (
            GenerateOptions {
                special: SpecialTokens::default(),
                ..base
            },
            "vocabulary",
        ),
    ] {
        let error = model
            .generate(image.clone(), &options)
            .unwrap_err()
            .to_string();
        assert!(error.contains(word), "{error}");
    }
    let config = model_config(&json("models/vit_plain.json")["model_cfg"]);
    let clip = Clip::new(&config, &device()).unwrap();
    let error = clip
        .generate(image, &GenerateOptions::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("caption decoder"), "{error}");
}
