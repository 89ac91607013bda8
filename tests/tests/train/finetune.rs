//! Fine-tuning as a classifier: what learns, exact resume, adapters, and the way between two models.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{FloatDType, Tensor};
use openclip_data::image::Limits;
use openclip_data::tokenizer;
use openclip_eval::Encoder;
use openclip_eval::head::{HEAD, Head};
use openclip_eval::validation::{Validation, ZeroShot};
use openclip_model::factory::{self, CreateOptions, Loaded};
use openclip_model::weights::StateDict;
use openclip_model::{Clip, params, registry};
use openclip_tests::runs::{lines, losses, run_config};
use openclip_tests::{device, max_difference, values};
use openclip_train::finetune::interpolate::Interpolation;
use openclip_train::finetune::lora::ADAPTERS;
use openclip_train::finetune::{Finetune, Lora};
use openclip_train::{TrainConfig, train};
use serde_json::json;

const CLASSES: [&str; 3] = ["blue", "green", "red"];

/// Four pictures of each of three classes below `dir/NAME`; those of `shade` are darker.
fn pictures(dir: &Path, name: &str, shade: u8) -> PathBuf {
    for (class, word) in CLASSES.into_iter().enumerate() {
        let folder = dir.join(name).join(word);
        std::fs::create_dir_all(&folder).unwrap();
        for i in 0..4_u8 {
            let mut ppm = b"P6\n16 16\n255\n".to_vec();
            for at in 0..256_usize {
                let noise = (at * (7 + usize::from(i)) % 31) as u8;
                let of = |channel| {
                    if channel == 2 - class {
                        200 - shade
                    } else {
                        30
                    }
                };
                ppm.extend([0, 1, 2].map(|channel: usize| of(channel) + noise));
            }
            std::fs::write(folder.join(format!("{i}.ppm")), ppm).unwrap();
        }
    }
    dir.join(name)
}

/// A run over three classes of a tiny model, which begins with the weights `start.safetensors`.
fn config(dir: &Path, name: &str, finetune: Finetune) -> TrainConfig {
    let data = pictures(dir, "train", 0);
    let val = pictures(dir, "val", 40);
    let config = TrainConfig {
        train_data: Some(data.display().to_string()),
        imagenet_val: Some(val),
        zeroshot_frequency: 1,
        pretrained: Some(dir.join("start.safetensors").display().to_string()),
        batch_size: 3,
        accum_freq: 2,
        epochs: 3,
        lr: 1e-2,
        wd: 0.1,
        finetune: Some(finetune),
        ..run_config(dir, name)
    };
    let sizes = json!({
        "embed_dim": 8,
        "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 16, "head_width": 8, "layers": 2},
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}
    });
    std::fs::write(&config.model, sizes.to_string()).unwrap();
    let start = dir.join("start.safetensors");
    if !start.is_file() {
        load(&config.model, None).save(&start).unwrap();
    }
    config
}

fn load(model: &str, weights: Option<&Path>) -> Loaded {
    let weights = weights.map(|path| path.display().to_string());
    let options = CreateOptions {
        seed: 5,
        ..CreateOptions::default()
    };
    factory::create(model, weights.as_deref(), &device(), &options).unwrap()
}

/// The tensors of a checkpoint's weights.
fn weights(path: &Path) -> BTreeMap<String, Vec<f32>> {
    let dict = StateDict::open(path).unwrap();
    let tensors = dict.tensors.iter();
    tensors
        .map(|(key, tensor)| (key.clone(), tensor.to_f32().unwrap()))
        .collect()
}

/// Keys whose values are not the start's.
fn changed(dir: &Path, checkpoint: &Path) -> Vec<String> {
    let start = weights(&dir.join("start.safetensors"));
    let now = weights(&checkpoint.join("model.safetensors"));
    assert!(start.keys().eq(now.keys()));
    let differs = |key: &&String| start[*key] != now[*key];
    start.keys().filter(differs).cloned().collect()
}

fn run(config: TrainConfig) -> (PathBuf, PathBuf) {
    let outcome = train(config).unwrap_or_else(|error| panic!("{error}"));
    (outcome.run, outcome.checkpoint.unwrap())
}

#[test]
fn the_image_tower_and_the_classifier_learn() {
    let dir = tempfile::tempdir().unwrap();
    let (log, checkpoint) = run(config(dir.path(), "whole", Finetune::default()));
    let losses = losses(&log);
    assert_eq!(losses.len(), 6);
    assert!(losses[5] < 0.5 * losses[0], "{losses:?}");
    let changed = changed(dir.path(), &checkpoint);
    assert!(changed.len() > 20, "{changed:?}");
    assert!(
        changed.iter().all(|key| key.starts_with("visual.")),
        "{changed:?}"
    );
    let head = Head::read(&checkpoint.join(HEAD), &device()).unwrap();
    assert_eq!(head.prompts.classes, CLASSES);
    let results = lines(&log, "results.jsonl");
    assert_eq!(results.len(), 3);
    assert!(
        results[2]["val-top1"].as_f64().unwrap() > 0.6,
        "{results:?}"
    );
}

#[test]
fn the_classifier_alone_leaves_the_model_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let head_only = Finetune {
        head_only: true,
        ..Finetune::default()
    };
    let (log, checkpoint) = run(config(dir.path(), "head", head_only));
    assert_eq!(changed(dir.path(), &checkpoint), Vec::<String>::new());
    let losses = losses(&log);
    assert!(losses[5] < losses[0], "{losses:?}");
}

/// Smoothed, in one batch of six or two of three; dropout is none.
#[test]
fn a_step_is_the_same_however_its_batch_is_split() {
    let dir = tempfile::tempdir().unwrap();
    let smoothed = Finetune {
        label_smoothing: 0.1,
        ..Finetune::default()
    };
    let split = config(dir.path(), "split", smoothed.clone());
    let whole = TrainConfig {
        batch_size: 6,
        accum_freq: 1,
        ..config(dir.path(), "whole", smoothed)
    };
    let [split, whole] = [split, whole].map(|config| losses(&run(config).0));
    for (split, whole) in split.iter().zip(&whole) {
        assert!(
            (split - whole).abs() < 2e-4 * whole.abs(),
            "{split} {whole}"
        );
    }
}

fn lora() -> Finetune {
    Finetune {
        lora: Some(Lora {
            rank: 2,
            alpha: 4.0,
        }),
        ..Finetune::default()
    }
}

#[test]
fn runs_go_on_to_the_bit() {
    let head_only = Finetune {
        head_only: true,
        ..Finetune::default()
    };
    for (name, finetune) in [
        ("whole", Finetune::default()),
        ("head", head_only),
        ("lora", lora()),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (_, through) = run(config(dir.path(), "through", finetune.clone()));
        let stopped = TrainConfig {
            max_steps: Some(3),
            ..config(dir.path(), "stopped", finetune.clone())
        };
        run(stopped);
        let resumed = TrainConfig {
            resume: Some("latest".into()),
            ..config(dir.path(), "stopped", finetune)
        };
        let (_, resumed) = run(resumed);
        for file in ["model.safetensors", HEAD, ADAPTERS] {
            let files = [&through, &resumed].map(|path| path.join(file));
            assert_eq!(files[0].is_file(), name == "lora" || file != ADAPTERS);
            if files[0].is_file() {
                let [a, b] = files.map(|path| weights(&path));
                assert!(a == b, "{name}: {file}");
            }
        }
    }
}

#[test]
fn adapters_are_merged_into_the_weights() {
    let dir = tempfile::tempdir().unwrap();
    let (log, checkpoint) = run(config(dir.path(), "lora", lora()));
    let losses = losses(&log);
    assert!(losses[5] < losses[0], "{losses:?}");
    // Attention and MLPs of both layers, and nothing else.
    let changed = changed(dir.path(), &checkpoint);
    let wanted: Vec<String> = (0..2)
        .flat_map(|layer| {
            [
                "attn.in_proj_weight",
                "attn.out_proj.weight",
                "mlp.c_fc.weight",
                "mlp.c_proj.weight",
            ]
            .map(|name| format!("visual.transformer.resblocks.{layer}.{name}"))
        })
        .collect();
    assert_eq!(changed, wanted);

    let model = dir.path().join("tiny-vit.json").display().to_string();
    let merged = load(&model, Some(&checkpoint.join("model.safetensors"))).model;
    let start = load(&model, Some(&dir.path().join("start.safetensors"))).model;
    let lora = lora().lora.unwrap();
    let adapted = lora.apply(start.clone(), 0).unwrap();
    let adapted = lora.restore(adapted, &checkpoint).unwrap();
    let image = Tensor::<1>::from_data(
        (0..1536)
            .map(|i| (i as f32 * 0.37).sin())
            .collect::<Vec<_>>()
            .as_slice(),
        &device(),
    );
    let image = image.reshape([2, 3, 16, 16]);
    let features = |model: &Clip| values(model.encode_image(image.clone(), true));
    let apart = max_difference(&features(&adapted), &features(&merged));
    assert!(apart < 1e-6, "{apart:e}");
    assert!(max_difference(&features(&start), &features(&merged)) > 1e-3);
    let materialized = adapted.materialize();
    assert_eq!(features(&materialized), features(&merged));

    // Adapters of other weights, or of another rank, are none of this model's.
    for (seed, rank, words) in [(5, 3, "--lora"), (6, 2, "--pretrained")] {
        let options = CreateOptions {
            seed,
            ..CreateOptions::default()
        };
        let other = factory::create(&model, None, &device(), &options)
            .unwrap()
            .model;
        let lora = Lora { rank, alpha: 4.0 };
        let other = lora.apply(other, 0).unwrap();
        let error = lora.restore(other, &checkpoint).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains(ADAPTERS), "{error}");
    }
}

/// Of published sizes, adapters are a small part of the parameters.
#[test]
fn adapters_are_few() {
    let lora = Lora {
        rank: 8,
        alpha: 16.0,
    };
    for name in [
        "ViT-B-32",
        "ViT-L-14",
        "ViT-SO400M-14-SigLIP",
        "EVA02-B-16",
        "RN50",
        "convnext_base_w",
    ] {
        let model = Clip::new(&registry::builtin(name).unwrap(), &device()).unwrap();
        let all = params::describe(&model);
        let count: usize = all.iter().map(|param| param.numel()).sum();
        let learns = lora.numel(&all);
        let share = learns as f64 / count as f64;
        assert!(learns > 0 && share < 0.05, "{name}: {share}");
    }
}

#[test]
fn between_two_models() {
    let dir = tempfile::tempdir().unwrap();
    let (_, checkpoint) = run(config(dir.path(), "whole", Finetune::default()));
    let model = dir.path().join("tiny-vit.json").display().to_string();
    let first = load(&model, Some(&dir.path().join("start.safetensors")));
    let second = load(&model, Some(&checkpoint));
    let encoder = Encoder::of(&first, &device(), FloatDType::F32);
    let tokenizer = tokenizer::for_model(&first.config, None).unwrap();
    let head = Head::beside(&checkpoint, &device()).unwrap();
    let prompts = head.as_ref().unwrap().prompts.clone();
    let heads =
        Interpolation::heads(&encoder, tokenizer.as_ref(), (None, head), &checkpoint).unwrap();
    let sets = ["train", "val"]
        .map(|name| ZeroShot::open(name, &dir.path().join(name), Some(prompts.clone())).unwrap());
    let validation = Validation {
        pairs: None,
        num_pairs: None,
        zero_shot: sets.into(),
        batch_size: 4,
        workers: 1,
        limits: Limits::default(),
        show_progress: false,
    };
    // What was measured goes into a folder that is not there yet, also where no weights do.
    let measured = Interpolation {
        first: first.clone(),
        second: second.clone(),
        heads: None,
        alphas: vec![1.0],
        writes_weights: false,
    };
    let alone = dir.path().join("new/measured");
    let other = Encoder::of(&first, &device(), FloatDType::F32);
    measured
        .run(other, &tokenizer, &validation, Some(&alone), |_| ())
        .unwrap();
    assert!(alone.join("curve.csv").is_file());
    let between = Interpolation {
        first,
        second,
        heads,
        alphas: vec![0.0, 0.5, 1.0],
        writes_weights: true,
    };
    let output = dir.path().join("between");
    let mut told = 0;
    let points = between
        .run(
            encoder,
            &Arc::clone(&tokenizer),
            &validation,
            Some(&output),
            |_| told += 1,
        )
        .unwrap();
    assert_eq!((points.len(), told), (3, 3));
    let accuracy = |at: usize| points[at].metrics[0].1;
    assert!(accuracy(2) > accuracy(0), "{points:?}");
    let files = |name: &str| {
        let at = |alpha: &str| weights(&output.join(format!("alpha-{alpha}")).join(name));
        [at("0"), at("0.5"), at("1")]
    };
    let [a, half, b] = files("model.safetensors");
    assert!(a == weights(&dir.path().join("start.safetensors")));
    assert!(b == weights(&checkpoint.join("model.safetensors")));
    for (key, half) in &half {
        let middle: Vec<f32> = a[key]
            .iter()
            .zip(&b[key])
            .map(|(a, b)| 0.5 * a + 0.5 * b)
            .collect();
        assert!(max_difference(half, &middle) < 1e-6, "{key}");
    }
    let [_, _, head] = files(HEAD);
    assert!(head == weights(&checkpoint.join(HEAD)));
    let table = std::fs::read_to_string(output.join("curve.csv")).unwrap();
    assert!(
        table.starts_with("alpha,train-top1,train-top5,val-top1,val-top5\n0,"),
        "{table}"
    );
    let drawing = std::fs::read_to_string(output.join("curve.svg")).unwrap();
    assert!(
        drawing.contains("top-1 accuracy") && drawing.contains("share of the second"),
        "{drawing}"
    );
}

#[test]
fn flags_that_do_not_go_together_are_named() {
    let dir = tempfile::tempdir().unwrap();
    type Change = fn(&mut TrainConfig);
    let cases: [(&str, Change); 6] = [
        ("--label-smoothing", |c| {
            c.finetune.as_mut().unwrap().label_smoothing = 1.0
        }),
        ("--lora", |c| {
            c.finetune.as_mut().unwrap().lora = Some(Lora {
                rank: 0,
                alpha: 1.0,
            })
        }),
        ("--lora", |c| {
            let finetune = c.finetune.as_mut().unwrap();
            finetune.head_only = true;
            finetune.lora = lora().lora;
        }),
        ("--siglip", |c| c.siglip = true),
        ("--ema-decay", |c| c.ema_decay = Some(0.5)),
        ("--train-data", |c| c.train_data = Some("nowhere".into())),
    ];
    for (flag, change) in cases {
        let mut config = config(dir.path(), "bad", Finetune::default());
        change(&mut config);
        let error = train(config).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{flag}: ")), "{error}");
    }
    let mut config = config(dir.path(), "bad", Finetune::default());
    std::fs::create_dir(dir.path().join("val/yellow")).unwrap();
    config.logs = dir.path().join("logs");
    let error = train(config).unwrap_err().to_string();
    assert!(
        error.contains("--val-data") && error.contains("yellow"),
        "{error}"
    );
}
