//! Which parameters stay trainable when a tower is locked, against `open_clip`, and what locking means for a training step.
//! `tests/parity/export_locking.py` made the fixture.

use openclip_model::lock::Lock;
use openclip_model::{Clip, params, registry};
use openclip_tests::family::{self, digest};
use openclip_tests::{Tensors, device, gradients_of, json, parameters_of, values};
use openclip_train::optim::AdamW;
use openclip_train::relay;

/// Keys of parameters that are not frozen, running statistics aside.
fn trainable(model: &Clip, lock: &Lock) -> Vec<String> {
    let frozen = lock.frozen(model);
    let all = params::describe(model).into_iter();
    let all = all.filter(|param| !frozen.contains(&param.id) && param.is_parameter());
    all.map(|param| param.key).collect()
}

#[test]
fn the_same_parameters_stay_trainable_as_in_open_clip() {
    for (name, kinds) in json("locking.json").as_object().unwrap() {
        let model = Clip::new(&registry::builtin(name).unwrap(), &device()).unwrap();
        for (kind, counts) in kinds.as_object().unwrap() {
            for (count, expected) in counts.as_object().unwrap() {
                let unlocked: usize = count.parse().unwrap();
                let lock = match kind.as_str() {
                    "image" => image(unlocked),
                    _ => Lock {
                        text: Some(unlocked),
                        freeze_layer_norm: kind == "text",
                        ..Lock::default()
                    },
                };
                let keys = trainable(&model, &lock);
                let place = format!("{name}, {kind}, {count} unlocked");
                assert_eq!(expected[0], keys.len(), "{place}: {keys:?}");
                assert_eq!(expected[1], digest(keys), "{place}");
            }
        }
    }
}

fn image(unlocked: usize) -> Lock {
    Lock {
        image: Some(unlocked),
        ..Lock::default()
    }
}

#[test]
fn as_many_groups_as_there_are_leave_nothing_locked() {
    let model = Clip::new(&registry::builtin("RN50").unwrap(), &device()).unwrap();
    let idle = |unlocked| image(unlocked).idle(&model).collect::<Vec<_>>();
    assert_eq!(idle(5), []);
    assert_eq!(idle(6), [("image", 6)]);
}

/// Gradients of what stays trainable are those of the whole model, what is frozen has none and does not move.
#[test]
fn a_step_leaves_frozen_parameters_alone() {
    for (path, lock) in [
        ("models/vit_plain", image(0)),
        ("models/vit_plain", image(1)),
        (
            "models/custom_text",
            Lock {
                text: Some(1),
                ..Lock::default()
            },
        ),
        (
            "models/vit_plain",
            Lock {
                image: Some(0),
                text: Some(0),
                ..Lock::default()
            },
        ),
        ("siglip/plain", image(1)),
        ("convnext/linear", image(2)),
    ] {
        let path = openclip_tests::fixture(path).to_str().unwrap().to_owned();
        let expected = Tensors::read(&format!("{path}.safetensors"));
        let batches = [family::batch(&expected, 0)];
        let whole = family::model(&path);
        let (loss, all) = relay::step(&whole, &batches).unwrap();
        let all = gradients_of(&whole, &all);
        let model = lock.apply(whole.clone());
        let keys = trainable(&model, &lock);
        assert!(
            !keys.is_empty() && keys.len() < all.len(),
            "{path}: {keys:?}"
        );
        let (locked_loss, some) = relay::step(&model, &batches).unwrap();
        assert_eq!(values(loss), values(locked_loss), "{path}");
        for found in gradients_of(&model, &some) {
            assert!(
                keys.contains(&found.key),
                "{path}: {} has a gradient",
                found.key
            );
            let wanted = all.iter().find(|param| param.key == found.key).unwrap();
            let apart = openclip_tests::max_difference(&found.values, &wanted.values);
            assert!(apart <= 1e-6, "{path}: {}: {apart:e}", found.key);
        }
        let before = parameters_of(&model);
        let mut optimizer = AdamW::for_model("ViT").optimizer(&model);
        let after = parameters_of(&optimizer.step(1e-2, model, some));
        for (before, after) in before.iter().zip(&after) {
            let moved = before.values != after.values;
            assert_eq!(
                moved,
                keys.contains(&before.key) && moved,
                "{path}: {}",
                before.key
            );
        }
        assert!(
            before.iter().zip(&after).any(|(a, b)| a.values != b.values),
            "{path}"
        );
    }
}

/// A frozen ResNet normalises by its running statistics if they are frozen too, which then stay; else by the batch's.
#[test]
fn statistics_of_batch_norm_are_frozen_on_request() {
    let path = openclip_tests::fixture("resnet/odd_image")
        .to_str()
        .unwrap()
        .to_owned();
    let expected = Tensors::read(&format!("{path}.safetensors"));
    let images = family::batch(&expected, 0).images;
    for freeze in [false, true] {
        let lock = Lock {
            freeze_bn_stats: freeze,
            ..image(0)
        };
        let model = lock.apply(family::model(&path));
        let evaluated = values(model.visual.forward(images.clone(), None));
        let trained = values(model.visual.forward(images.clone(), Some(1)));
        assert_eq!(evaluated == trained, freeze);
        let before = parameters_of(&model);
        let after = parameters_of(&model.apply_pending_statistics());
        let same = before.iter().zip(&after).all(|(a, b)| a.values == b.values);
        assert_eq!(same, freeze);
    }
}
