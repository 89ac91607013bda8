//! Optimizer steps, accumulation, schedules and parameter groups against `open_clip_train`.
//! `tests/parity/export_training.py` made the fixtures.

use burn::optim::GradientsParams;
use burn::tensor::{DType, FloatDType, Tensor};
use burn::train::TrainStep;
use openclip_model::{Clip, params};
use openclip_tests::{
    Tensors, device, gradients_of, json, largest, max_difference, model, model_config,
    parameters_of, relative_difference, values,
};
use openclip_train::loss::clip_loss;
use openclip_train::optim::{AdamW, decays};
use openclip_train::relay::{self, MicroBatch};
use openclip_train::schedule::{Decay, Schedule, StepSchedule};
use openclip_train::task::{Setup, Task};
use serde_json::Value;

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("not a number: {value}"))
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

/// A task around a model that is fed with micro-batches by hand.
fn task(clip: Clip, grad_clip_norm: f32) -> Task {
    let setup = Setup {
        device: device().autodiff(),
        compute: FloatDType::F32,
        preprocess: Default::default(),
        grad_clip_norm: Some(grad_clip_norm),
        seed: 0,
    };
    Task::new(clip, setup)
}

fn adamw(hyper: &Value) -> AdamW {
    let value = |key: &str| number(&hyper[key]) as f32;
    AdamW {
        beta1: value("beta1"),
        beta2: value("beta2"),
        eps: value("eps"),
        weight_decay: value("wd"),
    }
}

fn micro_batch(tensors: &Tensors, suffix: &str) -> MicroBatch {
    let device = device().autodiff();
    MicroBatch {
        images: tensors.tensor(&format!("input/image{suffix}"), &device),
        tokens: tensors.tokens(&format!("input/text{suffix}"), &device),
        dropout: 0,
    }
}

fn logit_scale(clip: &Clip) -> f64 {
    f64::from(values(clip.logit_scale.val())[0])
}

fn close(found: f64, wanted: f64, tolerance: f64, what: &str) {
    assert!(
        (found - wanted).abs() <= tolerance,
        "{what}: {found} instead of {wanted}"
    );
}

#[test]
fn ten_steps_of_adamw() {
    let expected = json("training/adamw.json");
    let hyper = &expected["hyperparameters"];
    let file = "training/adamw.safetensors";
    let tensors = Tensors::read(file);
    let config = model_config(&expected["model_cfg"]);
    let clip = model(&config, file, "weights/", &device().autodiff());
    let mut optimizer = adamw(hyper).optimizer(&clip);
    let mut task = task(clip, number(&hyper["grad_clip_norm"]) as f32);
    let schedule = Schedule {
        lr: number(&hyper["lr"]),
        warmup: hyper["warmup"].as_u64().unwrap(),
        total: hyper["total_steps"].as_u64().unwrap(),
        decay: Decay::Cosine,
    };
    let steps = &expected["per_step"];
    let [lrs, losses, norms, scales] = [
        "lr",
        "loss",
        "grad_norm_before_clipping",
        "logit_scale_before_clamp",
    ]
    .map(|key| numbers(&steps[key]));
    for step in 0..10 {
        let lr = schedule.lr(step as u64);
        close(
            lr,
            lrs[step],
            1e-12,
            &format!("learning rate of step {step}"),
        );
        let (loss, gradients) =
            relay::step(&task.clip, &[micro_batch(&tensors, &format!(".{step}"))]).unwrap();
        // f32 strays from f64 by 5e-7 over the ten steps.
        close(
            f64::from(values(loss)[0]),
            losses[step],
            1e-5,
            &format!("loss of step {step}"),
        );
        task = task.optimize(&mut optimizer, lr.into(), gradients);
        let norm = f64::from(task.state().lock().unwrap().grad_norm);
        close(
            norm,
            norms[step],
            1e-4 * norms[step],
            &format!("gradient norm of step {step}"),
        );
        close(
            logit_scale(&task.clip),
            scales[step],
            1e-5,
            &format!("logit scale after step {step}"),
        );
    }
    // Weights move by 0.012 at most; f32 strays from f64 by 7e-7.
    let mut worst = 0.0_f32;
    for param in parameters_of(&task.clip) {
        let wanted = tensors.get(&format!("final/{}", param.key)).1;
        if param.key.ends_with("in_proj_bias") {
            // The loss does not depend on the bias of the keys. Its gradient is rounding noise that AdamW scales up to the
            // learning rate: upstream's own f32 and f64 part by 5e-5 here.
            let third = wanted.len() / 3;
            let keys = third..2 * third;
            let difference = max_difference(&param.values[keys.clone()], &wanted[keys]);
            assert!(difference <= 2e-3, "{}: {difference:e}", param.key);
            for part in [0..third, 2 * third..3 * third] {
                worst = worst.max(max_difference(&param.values[part.clone()], &wanted[part]));
            }
        } else {
            worst = worst.max(max_difference(&param.values, wanted));
        }
        assert!(worst <= 1e-5, "{}: {worst:e}", param.key);
    }
    println!("final weights differ by {worst:e}");
}

#[test]
fn logit_scale_stays_between_its_bounds() {
    let expected = json("training/adamw.json");
    let file = "training/adamw.safetensors";
    let tensors = Tensors::read(file);
    let config = model_config(&expected["model_cfg"]);
    let hyper = &expected["hyperparameters"];
    let cases = expected["clamp"].as_array().unwrap();
    assert_eq!(cases.len(), 2);
    for case in cases {
        let mut clip = model(&config, file, "weights/", &device().autodiff());
        let start = number(&case["logit_scale_before"]) as f32;
        clip.logit_scale = clip
            .logit_scale
            .map(|scale| Tensor::full_like(&scale.detach(), start).require_grad());
        let mut optimizer = adamw(hyper).optimizer(&clip);
        let task = task(clip, number(&hyper["grad_clip_norm"]) as f32);
        let (loss, gradients) = relay::step(&task.clip, &[micro_batch(&tensors, ".0")]).unwrap();
        // Logits of up to 110.
        close(
            f64::from(values(loss)[0]),
            number(&case["loss"]),
            1e-4,
            "loss",
        );
        let task = task.optimize(&mut optimizer, number(&case["lr"]).into(), gradients);
        assert_eq!(logit_scale(&task.clip), number(&case["logit_scale_after"]));
        assert!(
            task.clip.logit_scale.val().is_require_grad(),
            "a clamped scale goes on learning"
        );
    }
}

/// One step in half precision: close to the step in f32, and a model that goes on learning.
#[test]
fn steps_in_bf16() {
    if !device().supports_dtype(DType::BF16) {
        return;
    }
    let expected = json("training/adamw.json");
    let file = "training/adamw.safetensors";
    let tensors = Tensors::read(file);
    let config = model_config(&expected["model_cfg"]);
    let hyper = &expected["hyperparameters"];
    let losses = numbers(&expected["per_step"]["loss"]);
    let norms = numbers(&expected["per_step"]["grad_norm_before_clipping"]);
    for pure in [false, true] {
        let mut clip = model(&config, file, "weights/", &device().autodiff());
        if pure {
            clip = params::cast(clip, FloatDType::BF16);
        }
        let mut optimizer = adamw(hyper).optimizer(&clip);
        let mut task = task(clip, number(&hyper["grad_clip_norm"]) as f32);
        let lrs = numbers(&expected["per_step"]["lr"]);
        for step in 0..4 {
            let mut batch = micro_batch(&tensors, &format!(".{step}"));
            batch.images = batch.images.cast(FloatDType::BF16);
            let before = parameters_of(&task.clip);
            let (loss, gradients) = relay::step(&task.clip, &[batch]).unwrap();
            // Logits of 14 times a cosine, off by a few steps of 0.4 %; updates smaller than that step are lost in pure bf16.
            let loss = f64::from(values(loss)[0]);
            close(
                loss,
                losses[step],
                0.1,
                &format!("pure {pure}: loss of step {step}"),
            );
            task = task.optimize(&mut optimizer, lrs[step].into(), gradients);
            let norm = f64::from(task.state().lock().unwrap().grad_norm);
            close(
                norm,
                norms[step],
                0.15 * norms[step],
                &format!("pure {pure}: gradient norm of step {step}"),
            );
            let moved = before
                .iter()
                .zip(parameters_of(&task.clip))
                .filter(|(a, b)| a.values != b.values);
            assert!(
                moved.count() > before.len() / 2,
                "pure {pure}: step {step} changed little"
            );
        }
        assert_eq!(task.clip.logit_scale.val().dtype() == DType::BF16, pure);
    }
}

/// Largest relative difference of two sets of gradients over all parameters.
fn apart(found: &[params::ParamValues], wanted: &[params::ParamValues]) -> f32 {
    assert_eq!(found.len(), wanted.len());
    let pairs = found.iter().zip(wanted);
    let differences = pairs.map(|(found, wanted)| {
        assert_eq!(found.key, wanted.key);
        relative_to_learned(&found.key, &found.values, &wanted.values)
    });
    differences.fold(0.0, f32::max)
}

/// Relative difference, without the bias of attention keys inside a packed bias: its gradient is zero in exact arithmetic.
fn relative_to_learned(key: &str, found: &[f32], wanted: &[f32]) -> f32 {
    if largest(wanted) < 1e-6 {
        let difference = max_difference(found, wanted);
        assert!(difference < 1e-6, "{key}: {difference:e}");
        return 0.0;
    }
    relative_difference(found, wanted)
}

fn split(batch: &MicroBatch, size: usize) -> Vec<MicroBatch> {
    let [count, ..] = batch.images.dims();
    let parts = (0..count).step_by(size).zip(1..);
    let parts = parts.map(|(from, dropout)| {
        let rows = from..count.min(from + size);
        MicroBatch {
            images: batch.images.clone().slice_dim(0, rows.clone()),
            tokens: batch.tokens.clone().slice_dim(0, rows),
            dropout,
        }
    });
    parts.collect()
}

#[test]
fn micro_batches_give_the_gradient_of_the_whole_batch() {
    let expected = json("training/accumulation.json");
    let file = "training/accumulation.safetensors";
    let tensors = Tensors::read(file);
    let clip = model(
        &model_config(&expected["model_cfg"]),
        file,
        "weights/",
        &device().autodiff(),
    );
    let batch = micro_batch(&tensors, "");
    let (loss, gradients) = relay::step(&clip, std::slice::from_ref(&batch)).unwrap();
    let loss = values(loss)[0];
    close(
        f64::from(loss),
        number(&expected["loss"]),
        1e-5,
        "loss of the whole batch",
    );
    let whole = gradients_of(&clip, &gradients);
    let mut from_upstream = 0.0_f32;
    for param in &whole {
        let wanted = tensors.get(&format!("grad/{}", param.key)).1;
        from_upstream = from_upstream.max(relative_to_learned(&param.key, &param.values, wanted));
    }
    // f32 sums in another order; upstream's own accumulation strays by 7e-7.
    assert!(from_upstream <= 1e-4, "{from_upstream:e}");
    let mut worst = 0.0_f32;
    for size in [1, 2, 3, 4, 5, 6, 12] {
        let parts = split(&batch, size);
        let (accumulated, gradients) = relay::step(&clip, &parts).unwrap();
        close(
            f64::from(values(accumulated)[0]),
            f64::from(loss),
            1e-6,
            &format!("loss of {}", parts.len()),
        );
        let difference = apart(&gradients_of(&clip, &gradients), &whole);
        assert!(
            difference <= 1e-5,
            "{} micro-batches: {difference:e}",
            parts.len()
        );
        worst = worst.max(difference);
    }
    println!(
        "whole batch from upstream {from_upstream:e}, micro-batches from the whole batch {worst:e}"
    );
}

/// The relay against plain back-propagation through all micro-batches at once, each with its own dropped patches.
#[test]
fn both_passes_drop_the_same_patches() {
    let expected = json("training/accumulation.json");
    let file = "training/accumulation.safetensors";
    let tensors = Tensors::read(file);
    let mut config = model_config(&expected["model_cfg"]);
    config.vision_cfg.patch_dropout = 0.5;
    let clip = model(&config, file, "weights/", &device().autodiff());
    let parts = split(&micro_batch(&tensors, ""), 4);
    let (loss, gradients) = relay::step(&clip, &parts).unwrap();
    let [images, texts] = [true, false].map(|image| {
        let features = parts.iter().map(|part| match image {
            true => clip.encode_image_training(part.images.clone(), part.dropout),
            false => clip.encode_text(part.tokens.clone(), true),
        });
        Tensor::cat(features.collect(), 0)
    });
    let direct = clip_loss(clip.join(images, texts));
    close(
        f64::from(values(loss)[0]),
        f64::from(values(direct.clone())[0]),
        1e-6,
        "loss",
    );
    let wanted = gradients_of(
        &clip,
        &GradientsParams::from_grads(direct.backward(), &clip),
    );
    let difference = apart(&gradients_of(&clip, &gradients), &wanted);
    assert!(difference <= 1e-5, "{difference:e}");
    println!("micro-batches with dropout from one graph {difference:e}");
    // Another seed drops other patches.
    let other: Vec<_> = parts
        .iter()
        .map(|part| MicroBatch {
            dropout: part.dropout + 99,
            ..part.clone()
        })
        .collect();
    let (_, gradients) = relay::step(&clip, &other).unwrap();
    assert!(apart(&gradients_of(&clip, &gradients), &wanted) > 1e-2);
}

#[test]
fn schedules() {
    let tables = json("training/schedules.json");
    let tables = tables["tables"].as_array().unwrap();
    assert!(tables.len() >= 20);
    for table in tables {
        let steps = |key: &str| table[key].as_u64().unwrap();
        let decay = match table["scheduler"].as_str().unwrap() {
            "cosine" => Decay::Cosine,
            "const" => Decay::Const,
            "const-cooldown" => Decay::ConstCooldown {
                steps: steps("cooldown_steps"),
                power: number(&table["cooldown_power"]),
                end: number(&table["cooldown_end"]),
            },
            other => panic!("{other}"),
        };
        let schedule = Schedule {
            lr: number(&table["lr"]),
            warmup: steps("warmup"),
            total: steps("steps"),
            decay,
        };
        let wanted = numbers(&table["table"]);
        let mut stepped = StepSchedule {
            schedule,
            step: 0,
            skip: false,
            scale: 1.0,
        };
        let mut skipped = StepSchedule {
            schedule,
            step: 0,
            skip: true,
            scale: 1.0,
        };
        // A run that is resumed half-way.
        let half = wanted.len() / 2;
        let mut resumed = StepSchedule {
            schedule,
            step: half as u64,
            skip: false,
            scale: 1.0,
        };
        for (step, wanted) in wanted.iter().enumerate() {
            use burn::lr_scheduler::LrScheduler;
            let what = format!("{schedule:?}, step {step}");
            close(schedule.lr(step as u64), *wanted, 1e-15, &what);
            assert_eq!(stepped.step(), schedule.lr(step as u64), "{what}");
            assert_eq!(skipped.step(), schedule.lr, "{what}");
            if step >= half {
                assert_eq!(resumed.step(), schedule.lr(step as u64), "{what}");
            }
        }
    }
}

/// `export_profile.py` counts the groups of all 38 configurations; see `parity/models.rs`. Here they are by name.
#[test]
fn parameters_that_decay() {
    let groups = json("training/groups.json");
    let groups = groups["models"].as_object().unwrap();
    assert_eq!(groups.len(), 3);
    for (name, group) in groups {
        let config = openclip_model::registry::builtin(name).unwrap();
        let clip = Clip::new(&config, &device()).unwrap();
        for (kind, expected) in [("decay", true), ("no_decay", false)] {
            let params = params::describe(&clip).into_iter();
            let params = params.filter(|param| decays(&param.key, &param.shape) == expected);
            let mut keys: Vec<_> = params.map(|param| param.key).collect();
            keys.sort();
            let wanted: Vec<_> = group[kind]
                .as_array()
                .unwrap()
                .iter()
                .map(|key| key.as_str().unwrap())
                .collect();
            assert_eq!(keys, wanted, "{name}");
        }
    }
}

#[test]
fn defaults_depend_on_the_name_as_in_open_clip() {
    for name in ["ViT-B-32", "vit-tiny", "roberta-ViT-B-32", "coca_ViT-B-32"] {
        let AdamW {
            beta1,
            beta2,
            eps,
            weight_decay,
        } = AdamW::for_model(name);
        assert_eq!(
            (beta1, beta2, eps, weight_decay),
            (0.9, 0.98, 1e-6, 0.2),
            "{name}"
        );
    }
    for name in ["RN50", "convnext_base_w", "EVA02-B-16"] {
        let AdamW {
            beta1, beta2, eps, ..
        } = AdamW::for_model(name);
        assert_eq!((beta1, beta2, eps), (0.9, 0.999, 1e-8), "{name}");
    }
}
