//! Which steps a run takes, the average of its weights, and narrow floats: exact over a resumption, and against PyTorch's
//! `GradScaler` (`tests/parity/export_loss_scale.py`).

use std::fs;
use std::path::Path;

use burn::tensor::{FloatDType, Tensor, TensorData};
use burn::train::TrainStep;
use openclip_model::factory::{self, CreateOptions};
use openclip_model::weights::StateDict;
use openclip_tests::family;
use openclip_tests::runs::{lines, run_config, small_run};
use openclip_tests::{Tensors, device, json, named_values, parameters_of, values};
use openclip_train::guard::{Guard, LossScale, Memory, Rules, ScaleRule, SpikeRule, Verdict};
use openclip_train::optim::AdamW;
use openclip_train::relay;
use openclip_train::task::{Setup, Task};
use openclip_train::{Precision, TrainConfig, TrainError, train};
use serde_json::Value;

fn tiny() -> Value {
    serde_json::json!({
        "embed_dim": 8,
        "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 16, "head_width": 8, "layers": 1, "patch_dropout": 0.25},
        "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    })
}

fn weights(file: &Path) -> Vec<(String, Vec<f32>)> {
    named_values(&StateDict::read(file).unwrap())
}

fn metric(run: &Path, name: &str) -> f64 {
    let results = lines(run, "results.jsonl");
    results.last().unwrap()[name].as_f64().unwrap()
}

#[test]
fn the_scale_follows_overflows_as_in_pytorch() {
    let table = json("loss_scale.json");
    let rule = ScaleRule {
        initial: table["initial"].as_f64().unwrap(),
        growth_interval: table["growth_interval"].as_u64().unwrap() as u32,
        floor: 1.0,
    };
    let mut scale = LossScale::new(rule);
    let steps = table["overflows"].as_array().unwrap().iter();
    for (overflowed, expected) in steps.zip(table["scales"].as_array().unwrap()) {
        assert_eq!(scale.factor(), expected.as_f64().unwrap());
        assert!(scale.update(rule, overflowed.as_bool().unwrap()));
    }
    // PyTorch's has no floor.
    let mut scale = LossScale::new(ScaleRule {
        initial: 2.0,
        ..rule
    });
    assert!(scale.update(rule, true));
    assert!(!scale.update(rule, true));
    assert_eq!(scale.factor(), 1.0);
}

#[test]
fn an_overflow_is_bad_only_where_the_scale_cannot_fall() {
    let scale = ScaleRule {
        initial: 2.0,
        ..ScaleRule::default()
    };
    let rules = Rules {
        scale: Some(scale),
        spikes: None,
    };
    let mut guard = Guard::new(rules, Memory::default());
    assert_eq!(guard.judge(1.0, f32::INFINITY), Verdict::Overflow);
    assert_eq!(guard.grad_scale(), 1.0);
    assert_eq!(guard.judge(1.0, 3.0), Verdict::Taken);
    assert_eq!(guard.judge(1.0, f32::NAN), Verdict::NotFinite);
    let mut guard = Guard::new(rules, Memory::default());
    assert_eq!(guard.judge(f32::NAN, f32::NAN), Verdict::NotFinite);
    // Without a scale a loss that is not finite is enough.
    let mut guard = Guard::default();
    assert_eq!(guard.judge(f32::NAN, 1.0), Verdict::NotFinite);
    assert_eq!(guard.judge(1.0, 1.0), Verdict::Taken);
}

/// One pixel that is not a number costs its step; weights, optimizer and average are as if it had never been.
#[test]
fn a_batch_with_a_nan_changes_nothing() {
    let path = openclip_tests::fixture("models/vit_plain");
    let path = path.to_str().unwrap();
    let tensors = Tensors::read(&format!("{path}.safetensors"));
    let run = |poisoned: bool| {
        let setup = Setup {
            device: device().autodiff(),
            compute: FloatDType::F32,
            preprocess: Default::default(),
            grad_clip_norm: Some(1.0),
            seed: 0,
        };
        let model = family::model(path);
        let mut optimizer = AdamW::for_model("ViT").optimizer(&model);
        let mut task = Task::new(model, setup);
        for step in 0..4 {
            let mut batch = family::batch(&tensors, step);
            if step == 2 {
                if !poisoned {
                    continue;
                }
                let shape = batch.images.dims();
                let mut pixels = values(batch.images.clone());
                pixels[7] = f32::NAN;
                let data = TensorData::new(pixels, shape);
                batch.images = Tensor::from_data(data, &device().autodiff());
            }
            let (_, gradients) = relay::step(&task.clip, &[batch]).unwrap();
            task = task.optimize(&mut optimizer, 1e-2.into(), gradients);
            let state = task.state().lock().unwrap();
            assert_eq!(state.verdict == Verdict::Taken, step != 2);
        }
        let found = parameters_of(&task.clip).into_iter();
        found.map(|param| param.values).collect::<Vec<_>>()
    };
    let (clean, poisoned) = (run(false), run(true));
    assert!(clean.iter().flatten().all(|x| x.is_finite()));
    assert_eq!(clean, poisoned);
}

/// Lion, factors by layer, spikes, an average and a pattern: what a checkpoint remembers is all that counts.
#[test]
fn a_run_with_everything_on_goes_on_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let options = |config: &mut TrainConfig| {
        config.opt = "lion".into();
        config.lr = 3e-4;
        config.image_layer_decay = Some(0.5);
        config.text_layer_decay = Some(0.8);
        config.wd_exclude = vec!["*positional_embedding".into()];
        config.ema_decay = Some(0.75);
        config.skip_spikes = Some(0.5);
        config.spike_window = 3;
        config.epochs = 16;
    };
    let (straight, _) = small_run(dir.path(), &tiny(), "straight", options);
    let log = fs::read_to_string(straight.join("out.log")).unwrap();
    let spikes = log.matches("stands out from the last steps").count();
    assert!(spikes > 0 && spikes < 10, "{log}");
    let broken = dir.path().join("logs/broken");
    for stop in [5, 8, 11] {
        let mut config = TrainConfig {
            resume: broken.exists().then(|| "latest".into()),
            max_steps: Some(stop),
            ..run_config(dir.path(), "broken")
        };
        options(&mut config);
        assert!(train(config).unwrap().stopped);
    }
    small_run(dir.path(), &tiny(), "broken", |config| {
        options(config);
        config.resume = Some("latest".into());
    });
    let resumed_log = fs::read_to_string(broken.join("out.log")).unwrap();
    assert_eq!(
        resumed_log
            .matches("stands out from the last steps")
            .count(),
        spikes
    );
    for file in ["model.safetensors", "ema.safetensors"] {
        let [a, b] =
            [&straight, &broken].map(|run| weights(&run.join("checkpoints/epoch_16").join(file)));
        assert_eq!(a, b, "{file}");
    }
}

#[test]
fn the_average_follows_the_weights_and_is_validated() {
    let dir = tempfile::tempdir().unwrap();
    let change = |config: &mut TrainConfig| {
        config.ema_decay = Some(0.75);
        config.lr = 1e-2;
        config.save_frequency = 0;
        config.val_data = config.train_data.clone();
        config.resume = Some("latest".into());
    };
    // Stopped behind every step, each of which is an epoch: it leaves a checkpoint.
    for stop in 1..8 {
        small_run(dir.path(), &tiny(), "ema", |config| {
            change(config);
            config.max_steps = Some(stop);
        });
    }
    let (run, _) = small_run(dir.path(), &tiny(), "ema", change);
    let model = dir.path().join("tiny-vit.json").display().to_string();
    let fresh = factory::create(&model, None, &device(), &CreateOptions::default()).unwrap();
    let mut average: Vec<(String, Vec<f64>)> = parameters_of(&fresh.model)
        .into_iter()
        .map(|param| (param.key, param.values.into_iter().map(f64::from).collect()))
        .collect();
    average.sort_by(|a, b| a.0.cmp(&b.0));
    let mut moved = 0.0_f64;
    for step in 1..=8 {
        let folder = run.join(format!("checkpoints/epoch_{step}"));
        let now = weights(&folder.join("model.safetensors"));
        let found = weights(&folder.join("ema.safetensors"));
        for ((average, now), found) in average.iter_mut().zip(&now).zip(&found) {
            assert_eq!((&average.0, &now.0), (&found.0, &found.0));
            for ((average, now), found) in average.1.iter_mut().zip(&now.1).zip(&found.1) {
                *average = 0.75 * *average + 0.25 * f64::from(*now);
                // Values up to 4.6 in f32.
                assert!((*average - f64::from(*found)).abs() < 1e-6, "step {step}");
                moved = moved.max((f64::from(*now) - *average).abs());
            }
        }
    }
    assert!(moved > 1e-3, "the weights moved by {moved} only");
    // As weights of its own it measures what the run measured.
    let average = run.join("checkpoints/epoch_8/ema.safetensors");
    let config = run_config(dir.path(), "alone");
    let alone = train(TrainConfig {
        pretrained: Some(average.display().to_string()),
        val_data: config.train_data,
        train_data: None,
        ..config
    });
    let [run, alone] = [&run, &alone.unwrap().run].map(|run| metric(run, "clip_val_loss"));
    assert!((run - alone).abs() < 1e-6, "{run} {alone}");
}

#[test]
fn half_precision_scales_its_gradient() {
    let dir = tempfile::tempdir().unwrap();
    let run = |name: &str, precision| {
        let (run, weights) = small_run(dir.path(), &tiny(), name, |config| {
            config.precision = Some(precision);
            config.epochs = 12;
            config.lr = 1e-3;
        });
        let steps = lines(&run, "train.jsonl");
        (run, steps, named_values(&weights))
    };
    let (folder, half, weights) = run("half", Precision::AmpFp16);
    let (_, full, _) = run("full", Precision::Fp32);
    let number = |steps: &[Value], i: usize, key: &str| steps[i][key].as_f64().unwrap();
    assert_eq!((half.len(), full.len()), (12, 12));
    // The same model before the first step; f16 has 11 bits.
    let (a, b) = (number(&half, 0, "loss"), number(&full, 0, "loss"));
    assert!((a - b).abs() < 1e-2 * b, "{a} {b}");
    assert!(
        weights
            .iter()
            .flat_map(|(_, values)| values)
            .all(|x| x.is_finite())
    );
    let scale = number(&half, 11, "loss_scale");
    assert!(
        (1.0..=65536.0).contains(&scale) && scale.log2().fract() == 0.0,
        "{scale}"
    );
    let log = fs::read_to_string(folder.join("out.log")).unwrap();
    let overflows = log.matches("overflows float16").count();
    assert_eq!(65536.0 / 2_f64.powi(overflows as i32), scale, "{log}");
    // The norm that is logged is not scaled.
    let taken = (0..12).find(|i| half[*i]["grad_norm"].is_number()).unwrap();
    let (a, b) = (
        number(&half, taken, "grad_norm"),
        number(&full, 0, "grad_norm"),
    );
    assert!(a > 0.5 * b && a < 2.0 * b, "{a} {b}");
    let state = fs::read(folder.join("checkpoints/epoch_12/state.json")).unwrap();
    let state: Value = serde_json::from_slice(&state).unwrap();
    assert_eq!(state["guard"]["scale"]["factor"].as_f64(), Some(scale));
}

#[test]
fn what_cannot_be_trained_or_makes_no_sense_is_named() {
    let refused = |change: fn(&mut TrainConfig)| {
        let mut config = TrainConfig {
            model: "ViT-B-32".into(),
            dataset_type: "synthetic".into(),
            train_num_samples: Some(8),
            device: "cpu".into(),
            ..TrainConfig::default()
        };
        change(&mut config);
        match train(config).unwrap_err() {
            TrainError::Flag { flag, reason } => format!("{flag}: {reason}"),
            other => panic!("{other}"),
        }
    };
    for (expected, message) in [
        (
            "--precision: pure_fp16: ",
            refused(|c| c.precision = Some(Precision::PureFp16)),
        ),
        (
            "--ema-decay: 1 is not",
            refused(|c| c.ema_decay = Some(1.0)),
        ),
        (
            "--skip-spikes: -1 is not",
            refused(|c| c.skip_spikes = Some(-1.0)),
        ),
        (
            "--spike-window: must be at least 1",
            refused(|c| c.spike_window = 0),
        ),
    ] {
        assert!(message.starts_with(expected), "{message}");
    }
}

#[test]
fn what_is_remembered_survives_json_to_the_last_bit() {
    let rules = Rules {
        scale: Some(ScaleRule::default()),
        spikes: Some(SpikeRule {
            deviations: 6.0,
            window: 50,
        }),
    };
    let mut guard = Guard::new(rules, Memory::default());
    for i in 0..60 {
        guard.judge(1.0 / (3.0 + i as f32), (i as f32).sqrt() * 0.1);
    }
    let json = serde_json::to_string(guard.memory()).unwrap();
    assert_eq!(
        &serde_json::from_str::<Memory>(&json).unwrap(),
        guard.memory()
    );
}
