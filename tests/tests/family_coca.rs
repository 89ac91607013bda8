//! CoCa: features, caption logits, gradients and captions against `open_clip`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::Tensor;
use openclip_model::factory::{self, CreateOptions, Loaded};
use openclip_model::generate::{
    BeamScore, BeamSearch, Filter, GenerateOptions, Sampling, SpecialTokens, Strategy,
};
use openclip_model::weights::StateDict;
use openclip_model::{Clip, init, params};
use openclip_tests::family::{self, FEATURES, GRADIENTS};
use openclip_tests::runs::{lines, small_run};
use openclip_tests::{Tensors, device, fixture, json, max_difference, model, model_config, values};
use openclip_train::TrainConfig;
use openclip_train::loss::{CaptionObjective, Objective};
use openclip_train::optim::AdamW;
use openclip_train::relay::{self, MicroBatch, PickGradient};
use serde_json::Value;

/// Largest differences of features, caption logits, losses and gradients; gradients relative.
fn compare(path: &str) -> [f32; 4] {
    let device = device().autodiff();
    let description = json(&format!("{path}.json"));
    let file = format!("{path}.safetensors");
    let expected = Tensors::read(&file);
    let model = model(
        &model_config(&description["model_cfg"]),
        &file,
        "weights/",
        &device,
    );
    let image: Tensor<4> = expected.tensor("input/image", &device);
    let tokens = expected.tokens("input/text", &device);
    let plain = model.encode_image(image.clone(), true);
    let found = model.forward_caption(image, tokens.clone(), None).unwrap();
    let apart = |found: &[f32], name: &str| max_difference(found, expected.get(name).1);
    let features = apart(&values(plain), "output/image_features")
        .max(apart(
            &values(found.features.image_features.clone()),
            "output/image_features",
        ))
        .max(apart(
            &values(found.features.text_features.clone()),
            "output/text_features",
        ))
        .max(apart(
            &values(model.encode_text(tokens, true)),
            "output/text_features",
        ));

    // OpenCLIP 3 hides padding from every token, 2.29 from the class token alone; they agree before it.
    let labels: Vec<i64> = found.labels.clone().try_into_vec_as().unwrap();
    let vocabulary = found.logits.dims()[2];
    let (ours, theirs) = (
        values(found.logits.clone()),
        expected.get("output/logits").1,
    );
    let rows = ours
        .chunks(vocabulary)
        .zip(theirs.chunks(vocabulary))
        .zip(&labels);
    let counted = rows.filter(|(_, label)| **label != 0);
    let logits = counted
        .map(|((a, b), _)| max_difference(a, b))
        .fold(0.0, f32::max);

    // The gradient of the whole batch, whole and from micro-batches.
    let objective = Objective {
        caption: Some(CaptionObjective {
            weight: 2.0,
            pad: 0,
        }),
        ..Objective::default()
    };
    let whole = family::batch(&expected, 0);
    let rows = whole.images.dims()[0];
    let (mut losses, mut worst) = (0.0_f32, 0.0_f32);
    for size in 1..=rows {
        let parts = (0..rows).step_by(size).map(|from| {
            let rows = from..rows.min(from + size);
            MicroBatch {
                images: whole.images.clone().slice_dim(0, rows.clone()),
                tokens: whole.tokens.clone().slice_dim(0, rows),
                dropout: 0,
            }
        });
        let parts: Vec<_> = parts.collect();
        let (found, gradients) = relay::step_toward(&model, &parts, &objective).unwrap();
        let caption = found.caption.unwrap().mul_scalar(0.5);
        losses = losses
            .max(apart(&values(found.contrastive), "output/contrastive"))
            .max(apart(&values(caption), "output/caption"));
        let found = params::export_with(&model, &mut PickGradient(&gradients));
        worst = worst.max(family::same_gradients(
            path, "grad/", &found, &expected, GRADIENTS,
        ));
    }
    assert!(
        features <= FEATURES,
        "{path}: features differ by {features:e}"
    );
    assert!(logits <= FEATURES, "{path}: logits differ by {logits:e}");
    assert!(losses <= FEATURES, "{path}: losses differ by {losses:e}");
    [features, logits, losses, worst]
}

fn compare_all(folder: &Path) {
    let paths = family::cases(folder);
    let found = paths.iter().map(|path| compare(path));
    let worst = found.fold([0.0_f32; 4], |worst, found| {
        std::array::from_fn(|i| worst[i].max(found[i]))
    });
    println!(
        "{} models: features, logits, losses, gradients differ by {worst:?}",
        paths.len()
    );
}

#[test]
fn features_logits_losses_and_gradients() {
    compare_all(&fixture("coca"));
}

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

/// `OPENCLIP_PARITY_DIR` is what `export_coca.py --fuzz` wrote.
#[test]
#[ignore = "needs models of `export_coca.py`"]
fn random_models() {
    compare_all(&PathBuf::from(
        std::env::var("OPENCLIP_PARITY_DIR").expect("OPENCLIP_PARITY_DIR"),
    ));
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

#[test]
fn every_configuration_has_the_state_dict_of_open_clip() {
    family::same_state_dicts("coca/parameters.json", 3);
}

#[test]
fn both_losses_fall() {
    let device = device().autodiff();
    let config = model_config(&json("coca/pool.json")["model_cfg"]);
    let batch = family::batch(&Tensors::read("coca/pool.safetensors"), 0);
    let mut model = init::initialise(Clip::new(&config, &device).unwrap(), &config, 3);
    let mut optimizer = AdamW::for_model("coca_ViT-tiny").optimizer(&model);
    let objective = Objective {
        caption: Some(CaptionObjective {
            weight: 2.0,
            pad: 0,
        }),
        ..Objective::default()
    };
    let mut losses = Vec::new();
    for _ in 0..12 {
        let batches = std::slice::from_ref(&batch);
        let (found, gradients) = relay::step_toward(&model, batches, &objective).unwrap();
        losses.push([found.contrastive, found.caption.unwrap()].map(|loss| values(loss)[0]));
        model = optimizer.step(1e-2, model, gradients);
    }
    let (first, last) = (losses[0], losses[11]);
    assert!(last[0] < first[0] && last[1] < 0.8 * first[1], "{losses:?}");
    let plain = model.valid();
    assert!(plain.writes_captions());
}

/// The whole trainer: both losses in the logs, a resumed run ends in the same weights, a frozen tower stays.
#[test]
fn a_run_learns_to_write() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = json("coca/pool.json")["model_cfg"].clone();
    config["text_cfg"]["vocab_size"] = 49408.into();
    let run = |name: &str, max_steps, resume: Option<&str>, change: fn(&mut TrainConfig)| {
        small_run(dir.path(), &config, name, |run| {
            run.lr = 3e-3;
            run.val_data = run.train_data.clone();
            run.max_steps = max_steps;
            run.resume = resume.map(Into::into);
            change(run);
        })
    };
    let (folder, straight) = run("straight", None, None, |_| ());
    run("halved", Some(3), None, |_| ());
    let (_, resumed) = run("halved", None, Some("latest"), |_| ());
    let numbers = |dict: &StateDict, key: &str| dict.tensors[key].to_f32().unwrap();
    for key in straight.tensors.keys() {
        assert_eq!(numbers(&straight, key), numbers(&resumed, key), "{key}");
    }
    let steps = lines(&folder, "train.jsonl");
    let loss = |step: usize, key: &str| steps[step][key].as_f64().unwrap();
    assert_eq!(steps.len(), 8);
    for step in 0..8 {
        let parts = loss(step, "contrastive_loss") + loss(step, "caption_loss");
        assert!((loss(step, "loss") - parts).abs() < 1e-4, "{step}");
    }
    assert!(
        loss(7, "caption_loss") < loss(0, "caption_loss"),
        "{steps:?}"
    );
    let results = std::fs::read_to_string(folder.join("results.jsonl")).unwrap();
    assert!(results.contains("\"val_generative_loss\":"), "{results}");
    let log = std::fs::read_to_string(folder.join("out.log")).unwrap();
    assert!(
        log.contains("Contrastive_loss: ") && log.contains(" Caption_loss: "),
        "{log}"
    );

    let (folder, captions) = run("captions", None, None, |config| {
        config.coca_contrastive_loss_weight = 0.0;
        config.lock_image = true;
    });
    let first = std::fs::read_to_string(folder.join("train.jsonl")).unwrap();
    assert!(
        first.starts_with("{\"step\":1") && first.contains("\"contrastive_loss\":0.0"),
        "{first}"
    );
    let (_, fresh) = run("fresh", Some(1), None, |config| config.lr = 0.0);
    assert_eq!(
        numbers(&captions, "visual.conv1.weight"),
        numbers(&fresh, "visual.conv1.weight")
    );
    assert_ne!(
        numbers(&captions, "text.token_embedding.weight"),
        numbers(&fresh, "text.token_embedding.weight")
    );
}

#[test]
#[ignore = "writes files for `export_coca.py --saved`"]
fn save_for_open_clip() {
    family::save_for_python("coca");
}
