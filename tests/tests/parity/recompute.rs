//! `--grad-checkpointing`: the gradients are those of a pass that keeps everything, whatever is random in it.

use burn::tensor::Tensor;
use openclip_model::lock::Lock;
use openclip_model::params::ParamValues;
use openclip_model::{Clip, registry};
use openclip_tests::family::equal_gradients;
use openclip_tests::{Tensors, device, gradients_of, json, model_config, parameters_of};
use openclip_train::loss::{CaptionObjective, ClipLoss, Objective};
use openclip_train::relay::{self, MicroBatch};

/// Relative to the largest value of a gradient. On the CPU the bits are equal but where more than two branches of a block flow
/// back into its input, whose sum then has another order, which MobileCLIP's norms over few values enlarge.
fn tolerance(path: &str) -> f32 {
    match path.starts_with("mobileclip/mci") {
        true => 5e-4,
        false => 1e-6,
    }
}

/// A model of a fixture whose training is random wherever its family can be.
fn model(path: &str) -> Clip {
    let mut config = model_config(&json(&format!("{path}.json"))["model_cfg"]);
    let vision = &mut config.vision_cfg;
    match vision.timm_model_name().map(str::to_owned) {
        Some(name) => {
            vision.extra.insert("timm_drop_path".into(), 0.4.into());
            let keeps_patches = ["convnext", "fastvit", "swin", "relpos"];
            if !keeps_patches.iter().any(|family| name.contains(family)) {
                vision.patch_dropout = 0.5;
            }
        }
        None if vision.layers.is_array() => {}
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
    gradients_of(model, &gradients)
}

const FAMILIES: [&str; 20] = [
    "models/vit_layer_scale",
    "models/text_no_causal_mask",
    "coca/pool",
    "coca/no_class_token",
    "siglip/plain",
    "siglip/class_token",
    "eva/eva02",
    "eva/giant",
    "convnext/linear",
    "resnet/odd_image",
    "mobileclip/mci0",
    "mobileclip/mci3",
    "mobileclip/vit",
    "vitamin/channels",
    "timm_towers/swin",
    "timm_towers/relpos",
    "timm_towers/gap",
    "hftext/roberta_dropout",
    "hftext/mt5_dropout",
    "hftext/nllb_dropout",
];

#[test]
fn gradients_do_not_depend_on_recomputation() {
    for path in FAMILIES {
        let model = model(path);
        let again = model.clone().with_grad_checkpointing().unwrap();
        let mut worst = 0.0_f32;
        for count in [1, 2] {
            let batches = batches(path, count);
            let wanted = gradient(&model, &batches);
            worst = worst.max(equal_gradients(
                path,
                &gradient(&again, &batches),
                &wanted,
                tolerance(path),
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
        "vitamin/channels",
        "timm_towers/swin",
        "mobileclip/mci0",
        "hftext/roberta_mean",
    ] {
        let lock = Lock {
            image: Some(2),
            text: Some(1),
            ..Lock::default()
        };
        let locked = lock.apply(model(path));
        let batches = batches(path, 2);
        let wanted = gradient(&locked, &batches);
        let everything = gradient(&model(path), &batches).len();
        assert!(wanted.len() < everything, "{path}: nothing is locked");
        let again = locked.clone().with_grad_checkpointing().unwrap();
        equal_gradients(path, &gradient(&again, &batches), &wanted, tolerance(path));
    }
}

/// A block that is computed twice normalises one batch.
#[test]
fn running_statistics_count_each_batch_once() {
    for path in ["resnet/odd_image", "mobileclip/mci0"] {
        let statistics = |model: Clip, count| {
            gradient(&model, &batches(path, count));
            let settled = parameters_of(&model.apply_pending_statistics());
            let running = settled.into_iter();
            running
                .filter(|param| param.key.contains(".running_"))
                .collect::<Vec<_>>()
        };
        let model = || model(path);
        for count in [1, 2] {
            let wanted = statistics(model(), count);
            assert_ne!(wanted, statistics(model(), 3 - count), "{path}");
            let again = model().with_grad_checkpointing().unwrap();
            assert_eq!(statistics(again, count), wanted, "{path}");
        }
    }
}

/// Ended in the middle of the first backward pass, had there been one.
#[test]
fn the_largest_block_of_every_model_can_be_computed_again() {
    for name in registry::names() {
        let config = registry::builtin(name).unwrap();
        let model = Clip::new(&config, &device()).unwrap();
        assert!(model.with_grad_checkpointing().is_ok(), "{name}");
    }
}
