//! `--grad-checkpointing`: the gradients are those of a pass that keeps everything, whatever is random in it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

use burn::tensor::Tensor;
use openclip_model::Clip;
use openclip_model::lock::Lock;
use openclip_model::params::{self, ParamValues};
use openclip_tests::family::equal_gradients;
use openclip_tests::{Tensors, device, fixture, json, model_config};
use openclip_train::loss::{CaptionObjective, ClipLoss, Objective};
use openclip_train::relay::{self, MicroBatch, PickGradient};

/// Sums in another order, should a backend choose one; on the CPU the bits are equal.
const TOLERANCE: f32 = 1e-6;

/// A model of a fixture whose training is random wherever its family can be.
fn model(path: &str) -> Clip {
    let mut config = model_config(&json(&format!("{path}.json"))["model_cfg"]);
    let vision = &mut config.vision_cfg;
    match vision.timm_model_name().map(str::to_owned) {
        Some(name) if name.contains("convnext") => {
            vision.extra.insert("timm_drop_path".into(), 0.4.into());
        }
        Some(_) => {
            vision.patch_dropout = 0.5;
            vision.extra.insert("timm_drop_path".into(), 0.4.into());
        }
        None => vision.patch_dropout = 0.5,
    }
    let device = device().autodiff();
    openclip_tests::model(&config, &format!("{path}.safetensors"), "weights/", &device)
}

/// `count` micro-batches with the same pictures and captions, and different noise.
fn batches(path: &str, count: u64) -> Vec<MicroBatch> {
    let (expected, device) = (
        Tensors::read(&format!("{path}.safetensors")),
        device().autodiff(),
    );
    let images: Tensor<4> = expected.tensor("input/image", &device);
    let tokens = expected.tokens("input/text", &device);
    (0..count)
        .map(|i| MicroBatch {
            images: images.clone().add_scalar(0.1 * i as f32),
            tokens: tokens.clone(),
            dropout: 11 + i,
        })
        .collect()
}

fn gradient(model: &Clip, batches: &[MicroBatch]) -> Vec<ParamValues> {
    let mut objective = Objective::of(&ClipLoss);
    objective.caption = model.writes_captions().then_some(CaptionObjective {
        weight: 2.0,
        pad: 0,
    });
    let (_, gradients) = relay::step_toward(model, batches, &objective).unwrap();
    params::export_with(model, &mut PickGradient(&gradients))
}

const FAMILIES: [&str; 12] = [
    "models/vit_layer_scale",
    "models/text_no_causal_mask",
    "coca/pool",
    "coca/no_class_token",
    "siglip/plain",
    "siglip/class_token",
    "eva/eva02",
    "eva/giant",
    "convnext/linear",
    "hftext/roberta_dropout",
    "hftext/mt5_dropout",
    "hftext/nllb_dropout",
];

#[test]
fn gradients_do_not_depend_on_recomputation() {
    for path in FAMILIES {
        let model = model(path);
        let (again, images) = model.clone().with_grad_checkpointing();
        assert!(images, "{path}");
        let mut worst = 0.0_f32;
        for count in [1, 2] {
            let batches = batches(path, count);
            let wanted = gradient(&model, &batches);
            worst = worst.max(equal_gradients(
                path,
                &gradient(&again, &batches),
                &wanted,
                TOLERANCE,
            ));
        }
        println!("{path}: {worst:e}");
    }
}

#[test]
fn locked_layers_stay_without_gradient() {
    for path in [
        "models/vit_plain",
        "siglip/plain",
        "convnext/linear",
        "hftext/roberta_mean",
    ] {
        let lock = Lock {
            image: Some(2),
            text: Some(1),
            ..Lock::default()
        };
        let locked = lock.apply(model(path)).unwrap();
        let batches = batches(path, 2);
        let wanted = gradient(&locked, &batches);
        let everything = gradient(&model(path), &batches).len();
        assert!(wanted.len() < everything, "{path}: nothing is locked");
        let (again, _) = locked.clone().with_grad_checkpointing();
        equal_gradients(path, &gradient(&again, &batches), &wanted, TOLERANCE);
    }
}

#[test]
fn towers_of_convolutions_say_that_they_keep_everything() {
    for path in ["resnet/odd_image", "mobileclip/mci0", "timm_towers/swin"] {
        assert!(fixture(&format!("{path}.json")).is_file());
        let config = model_config(&json(&format!("{path}.json"))["model_cfg"]);
        let model = Clip::new(&config, &device()).unwrap();
        assert!(!model.with_grad_checkpointing().1, "{path}");
    }
}
