//! Whole training runs: exact resume, accumulation, what the run folder holds, and what stops a run.

use std::fs;
use std::path::{Path, PathBuf};

use openclip_model::weights::StateDict;
use openclip_tests::named_values;
use openclip_tests::runs::{lines, losses};
use openclip_train::{Outcome, Precision, TrainConfig, TrainError, train};
use serde_json::Value;

const COLOURS: [(&str, [u8; 3]); 4] = [
    ("red", [200, 30, 30]),
    ("green", [20, 180, 40]),
    ("blue", [30, 40, 210]),
    ("white", [240, 240, 240]),
];

/// A folder with a tiny model, 24 pictures, and a CSV that captions them.
fn workspace() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let model = serde_json::json!({
        "embed_dim": 8,
        "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 16, "head_width": 8, "layers": 2, "patch_dropout": 0.25},
        "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    });
    fs::write(dir.path().join("tiny-vit.json"), model.to_string()).unwrap();
    let mut rows = String::from("filepath\ttitle\n");
    for i in 0..24_usize {
        let (name, [r, g, b]) = COLOURS[i % 4];
        let side = 12 + i;
        let mut ppm = format!("P6\n{side} 20\n255\n").into_bytes();
        for at in 0..side * 20 {
            let shade = ((at * 7 + i * 13) % 40) as u8;
            ppm.extend([
                r.saturating_sub(shade),
                g.saturating_sub(shade),
                b.saturating_sub(shade),
            ]);
        }
        let path = dir.path().join(format!("{i:02}.ppm"));
        fs::write(&path, ppm).unwrap();
        rows += &format!("{}\ta {name} picture number {i}\n", path.display());
    }
    fs::write(dir.path().join("train.csv"), rows).unwrap();
    dir
}

fn config(dir: &Path, name: &str) -> TrainConfig {
    TrainConfig {
        model: dir.join("tiny-vit.json").display().to_string(),
        train_data: Some(dir.join("train.csv").display().to_string()),
        val_data: Some(dir.join("train.csv").display().to_string()),
        logs: dir.join("logs"),
        name: Some(name.into()),
        batch_size: 4,
        workers: 2,
        epochs: 3,
        warmup: 4,
        lr: 1e-3,
        device: std::env::var("OPENCLIP_TEST_DEVICE").unwrap_or_else(|_| "cpu".into()),
        log_every_n_steps: 2,
        grad_clip_norm: Some(1.0),
        aug_scale: [0.5, 1.0],
        ..TrainConfig::default()
    }
}

fn weights(checkpoint: &Path) -> Vec<(String, Vec<f32>)> {
    named_values(&StateDict::read(&checkpoint.join("model.safetensors")).unwrap())
}

fn checkpoint(outcome: Outcome) -> PathBuf {
    outcome.checkpoint.unwrap()
}

#[test]
fn a_stopped_run_goes_on_bit_for_bit() {
    let dir = workspace();
    let straight = checkpoint(train(config(dir.path(), "straight")).unwrap());
    assert!(straight.ends_with("epoch_3"), "{}", straight.display());
    // In mid-epoch, at the end of an epoch, and with micro-batches.
    for (name, accum_freq) in [("plain", 1), ("accumulated", 2)] {
        let base = TrainConfig {
            accum_freq,
            batch_size: 4 / accum_freq,
            ..config(dir.path(), name)
        };
        let reference = match accum_freq {
            1 => straight.clone(),
            _ => checkpoint(
                train(TrainConfig {
                    name: Some("reference".into()),
                    ..base.clone()
                })
                .unwrap(),
            ),
        };
        let mut resumed = None;
        for stop in [3, 6, 7, 14, 99] {
            let resume = resumed.is_some().then(|| "latest".into());
            let outcome = train(TrainConfig {
                max_steps: Some(stop),
                resume,
                ..base.clone()
            })
            .unwrap();
            assert_eq!(outcome.stopped, stop < 18, "{stop}");
            resumed = outcome.checkpoint;
        }
        assert_eq!(weights(&resumed.unwrap()), weights(&reference), "{name}");
    }
}

#[test]
fn the_run_folder_tells_the_story() {
    let dir = workspace();
    let run = TrainConfig {
        save_every_n_steps: Some(4),
        ..config(dir.path(), "story")
    };
    let outcome = train(run.clone()).unwrap();
    let file = |name: &str| fs::read_to_string(outcome.run.join(name)).unwrap();
    let params: Value = serde_json::from_str(&file("params.json")).unwrap();
    assert_eq!(params["batch_size"], 4);
    assert!(params["beta2"].as_f64().unwrap() - 0.98 < 1e-6);
    let results = lines(&outcome.run, "results.jsonl");
    assert_eq!(results.len(), 3);
    assert!(results[2]["image_to_text_R@1"].is_number() && results[2]["clip_val_loss"].is_number());
    let steps = lines(&outcome.run, "train.jsonl");
    assert_eq!(steps.len(), 18);
    assert!(steps[17]["loss"].as_f64().unwrap() < steps[0]["loss"].as_f64().unwrap());
    assert!(file("loss.svg").contains("</svg>"));
    assert!(file("out.log").contains("Train Epoch: 2 ["));
    assert_eq!(
        fs::read_dir(outcome.run.join("tensorboard"))
            .unwrap()
            .count(),
        1
    );
    for name in ["step_4", "epoch_1", "epoch_2", "step_16", "epoch_3"] {
        let folder = outcome.run.join("checkpoints").join(name);
        assert!(folder.join("model.safetensors").is_file(), "{name}");
        assert!(folder.join("open_clip_config.json").is_file(), "{name}");
    }
    // The same name again is refused, and nothing is lost.
    let error = train(run).unwrap_err().to_string();
    assert!(
        error.contains("story") && error.contains("--resume latest"),
        "{error}"
    );
    assert_eq!(file("train.jsonl").lines().count(), 18);
}

#[test]
fn incomplete_checkpoints_are_never_picked_up() {
    let dir = workspace();
    let base = TrainConfig {
        epochs: 2,
        save_every_n_steps: Some(3),
        ..config(dir.path(), "partial")
    };
    let outcome = train(base.clone()).unwrap();
    let folder = outcome.run.join("checkpoints");
    // The newest loses a byte, the next its state, and a half-written one lies about.
    let newest = folder.join("epoch_2/model.safetensors");
    let bytes = fs::read(&newest).unwrap();
    fs::write(&newest, &bytes[..bytes.len() - 1]).unwrap();
    fs::remove_file(folder.join("step_9/state.json")).unwrap();
    fs::create_dir(folder.join(".step_99.tmp")).unwrap();
    let found = openclip_train::checkpoint::latest(&folder);
    let latest = found.checkpoint.unwrap();
    assert!(
        latest.path.ends_with("epoch_1"),
        "{}",
        latest.path.display()
    );
    let passed_over: Vec<_> = found.passed_over.iter().map(ToString::to_string).collect();
    assert_eq!(passed_over.len(), 2, "{passed_over:?}");
    for (name, file) in [("step_9", "state.json"), ("epoch_2", "model.safetensors")] {
        let named = |text: &String| text.contains(name) && text.contains(file);
        assert!(passed_over.iter().any(named), "{passed_over:?}");
    }
    let resume = Some(folder.join("step_9").display().to_string());
    let error = train(TrainConfig {
        resume,
        ..base.clone()
    })
    .unwrap_err();
    assert!(matches!(error, TrainError::Incomplete { .. }), "{error}");
    let outcome = train(TrainConfig {
        resume: Some("latest".into()),
        ..base
    })
    .unwrap();
    assert!(outcome.checkpoint.unwrap().ends_with("epoch_2"));
}

#[test]
fn bfloat16_learns_as_well() {
    let dir = workspace();
    for precision in [Precision::AmpBf16, Precision::PureBf16] {
        let name = precision.name();
        let outcome = train(TrainConfig {
            precision: Some(precision),
            ..config(dir.path(), name)
        })
        .unwrap();
        let losses = losses(&outcome.run);
        assert!(losses[17] < losses[0], "{name}: {losses:?}");
    }
}

#[test]
fn a_gradient_that_is_not_finite_is_skipped_then_stops_the_run() {
    let dir = workspace();
    // A standard deviation of zero makes every pixel infinite or not a number.
    let broken = TrainConfig {
        image_std: Some([0.0; 3]),
        max_bad_steps: 3,
        val_data: None,
        ..config(dir.path(), "broken")
    };
    let error = train(broken).unwrap_err();
    assert!(
        matches!(error, TrainError::BadSteps { count: 3, .. }),
        "{error}"
    );
}

/// A fresh model learns from a trained one; with no objective but the teacher's it comes nearer to the teacher.
#[test]
fn a_student_learns_from_its_teacher() {
    let dir = workspace();
    let teacher = checkpoint(train(config(dir.path(), "teacher")).unwrap());
    let taught = TrainConfig {
        distill_model: Some(config(dir.path(), "").model),
        distill_pretrained: Some(teacher.join("model.safetensors").display().to_string()),
        seed: 7,
        epochs: 6,
        log_every_n_steps: 1,
        ..config(dir.path(), "student")
    };
    let outcome = train(taught.clone()).unwrap();
    let steps = lines(&outcome.run, "train.jsonl");
    let loss = |step: &serde_json::Value, name: &str| step[name].as_f64().unwrap();
    for step in &steps {
        let sum = loss(step, "contrastive_loss") + loss(step, "distill_loss");
        assert!((loss(step, "loss") / sum - 1.0).abs() < 1e-5);
    }
    let mean = |steps: &[serde_json::Value]| {
        steps
            .iter()
            .map(|step| loss(step, "distill_loss"))
            .sum::<f64>()
            / steps.len() as f64
    };
    let (first, last) = (mean(&steps[..6]), mean(&steps[steps.len() - 6..]));
    assert!(last < first, "{first} → {last}");

    let other = serde_json::json!({
        "embed_dim": 8,
        "vision_cfg": {"image_size": 24, "patch_size": 8, "width": 16, "head_width": 8, "layers": 1},
        "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    });
    let path = dir.path().join("larger-vit.json");
    fs::write(&path, other.to_string()).unwrap();
    for (model, pretrained, reason) in [
        (path.display().to_string(), Some(String::new()), "[24, 24]"),
        (path.display().to_string(), None, "go together"),
    ] {
        let error = train(TrainConfig {
            distill_model: Some(model),
            distill_pretrained: pretrained,
            name: Some("refused".into()),
            ..taught.clone()
        });
        let error = error.unwrap_err().to_string();
        assert!(
            error.starts_with("--distill-model") && error.contains(reason),
            "{error}"
        );
    }
}

#[test]
fn flags_that_make_no_sense_are_named() {
    let dir = workspace();
    let base = config(dir.path(), "flags");
    let cases = [
        (
            TrainConfig {
                batch_size: 0,
                ..base.clone()
            },
            "--batch-size",
        ),
        (
            TrainConfig {
                accum_freq: 99,
                ..base.clone()
            },
            "--accum-freq",
        ),
        (
            TrainConfig {
                lr_scheduler: "linear".into(),
                ..base.clone()
            },
            "--lr-scheduler",
        ),
        (
            TrainConfig {
                lr_scheduler: "const-cooldown".into(),
                ..base.clone()
            },
            "--epochs-cooldown",
        ),
        (
            TrainConfig {
                train_data: None,
                val_data: None,
                ..base.clone()
            },
            "--train-data",
        ),
        (
            TrainConfig {
                csv_caption_key: Some("caption".into()),
                ..base.clone()
            },
            "caption",
        ),
        (
            TrainConfig {
                batch_size: 25,
                ..base.clone()
            },
            "train.csv",
        ),
        (
            TrainConfig {
                model: "ViT-B-33".into(),
                ..base.clone()
            },
            "ViT-B-32",
        ),
    ];
    for (config, word) in cases {
        let error = train(config).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    // A command that was wrong does not take the run's name.
    assert!(!base.logs.join("flags").exists());
}

#[test]
fn without_training_data_a_run_evaluates() {
    let dir = workspace();
    let trained = checkpoint(train(config(dir.path(), "first")).unwrap());
    let outcome = train(TrainConfig {
        train_data: None,
        pretrained: Some(trained.join("model.safetensors").display().to_string()),
        ..config(dir.path(), "second")
    })
    .unwrap();
    let [first, second] = [dir.path().join("logs/first"), outcome.run]
        .map(|run| lines(&run, "results.jsonl").pop().unwrap());
    assert_eq!(first["clip_val_loss"], second["clip_val_loss"]);
}
