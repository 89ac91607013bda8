//! ConvNeXt against `open_clip`: outputs, gradients, state dicts, initial weights, stochastic depth, loading and saving.
//! `tests/parity/export_convnext.py` made the fixtures.

use burn::tensor::Tensor;
use openclip_model::layers::drop_path::{branch_seed, drop_path, drop_path_shares};
use openclip_model::layers::patch::patch_dropout;
use openclip_tests::family::{self, cases, config as evaluated, kinds_of_rows};
use openclip_tests::{Tensors, device, fixture, model, values};
use openclip_train::loss::ClipLoss;

#[test]
fn features_loss_and_gradients() {
    family::same_models(&cases(&fixture("convnext")));
}

#[test]
#[ignore = "needs models of `export_convnext.py --fuzz`"]
fn random_models() {
    family::same_models(&family::random_cases());
}

/// A model takes pictures of any size, not only its configuration's.
#[test]
fn pictures_of_other_sizes() {
    family::same_for_other_pictures("convnext");
}

#[test]
fn every_configuration_has_the_state_dict_of_open_clip() {
    family::same_state_dicts("convnext/parameters.json", 11);
}

#[test]
fn initial_weights_are_distributed_as_timm_s() {
    family::same_initial_weights("convnext/init.json");
}

#[test]
fn shares_of_stochastic_depth_are_timm_s() {
    family::same_drop_path_shares("convnext", |name| panic!("{name} is given no rate"));
    assert_eq!(drop_path_shares(0.3, 1), [0.0]);
    assert!(drop_path_shares(0.3, 0).is_empty());
}

#[test]
fn stochastic_depth_drops_whole_samples_and_keeps_the_expectation() {
    let batch = 4000;
    let branch = Tensor::<3>::ones([batch, 2, 3], &device());
    for share in [0.1, 0.5] {
        let found = values(drop_path(branch.clone(), share, 11));
        let kept = (1.0 / (1.0 - share)) as f32;
        for sample in found.chunks(6) {
            assert!(sample.iter().all(|x| *x == sample[0]));
            assert!(sample[0] == 0.0 || sample[0] == kept, "{}", sample[0]);
        }
        let dropped = found.iter().filter(|x| **x == 0.0).count() as f64 / found.len() as f64;
        // Five standard deviations of a binomial share.
        let noise = 5.0 * (share * (1.0 - share) / batch as f64).sqrt();
        assert!((dropped - share).abs() <= noise, "{dropped} of {share}");
    }
    let draw = |seed| values(drop_path(branch.clone(), 0.5, seed));
    assert_eq!(draw(3), draw(3));
    assert_ne!(draw(3), draw(4));
    assert_eq!(
        values(drop_path(branch.clone(), 0.0, 3)),
        values(branch.clone())
    );
    // Branches of one pass are independent: they agree on half of the samples.
    let [a, b] = [0, 1].map(|i| draw(branch_seed(3, i)));
    let agree = a.iter().zip(&b).filter(|(a, b)| a == b).count() as f64 / a.len() as f64;
    assert!(
        (agree - 0.5).abs() <= 5.0 * 0.5 / (batch as f64).sqrt(),
        "{agree}"
    );
}

/// The first block is never left out, the last one for the configured share.
#[test]
fn a_tower_in_training_drops_branches_by_its_seed() {
    let mut config = evaluated("convnext/linear");
    config.vision_cfg.extra["timm_drop_path"] = 0.5.into();
    let file = "convnext/linear.safetensors";
    let model = model(&config, file, "weights/", &device());
    let image = Tensors::read(file).tensor::<4>("input/image", &device());
    let image = image.slice_dim(0, 0..1).repeat_dim(0, 32);
    let forward = |training| model.visual.forward(image.clone(), training);
    assert_eq!(kinds_of_rows(forward(None)), 1, "evaluation drops nothing");
    // Six blocks of which five may be left out.
    let kinds = kinds_of_rows(forward(Some(5)));
    assert!((8..=32).contains(&kinds), "{kinds} kinds of samples");
    assert_eq!(values(forward(Some(5))), values(forward(Some(5))));
    assert_ne!(values(forward(Some(5))), values(forward(Some(6))));
}

/// Each patch is kept equally often.
#[test]
fn patch_dropout_prefers_no_patch() {
    let (batch, n) = (3000, 10);
    let index: Vec<f32> = (0..batch * n).map(|i| (i % n) as f32).collect();
    let tokens = Tensor::<1>::from_floats(index.as_slice(), &device()).reshape([batch, n, 1]);
    let kept = patch_dropout(tokens.clone(), 0.37, 9);
    assert_eq!(kept.dims(), [batch, 6, 1]);
    let kept = values(kept);
    let mut counts = [0_usize; 10];
    for row in kept.chunks(6) {
        let mut row: Vec<usize> = row.iter().map(|x| *x as usize).collect();
        row.sort_unstable();
        row.dedup();
        assert_eq!(row.len(), 6, "a patch is kept twice");
        row.into_iter().for_each(|patch| counts[patch] += 1);
    }
    let noise = 5.0 * (0.6 * 0.4 * batch as f64).sqrt();
    for count in counts {
        assert!(
            (count as f64 - 0.6 * batch as f64).abs() <= noise,
            "{counts:?}"
        );
    }
    assert_ne!(kept, values(patch_dropout(tokens, 0.37, 10)));
}

/// A few steps on one batch, with stochastic depth: the loss falls.
#[test]
fn training_reduces_the_loss() {
    let mut config = evaluated("convnext/mlp");
    config.vision_cfg.extra["timm_drop_path"] = 0.1.into();
    let losses = family::losses("convnext/mlp", &config, 30, 5e-3, &ClipLoss);
    assert!(losses[29] < 0.7 * losses[0], "{losses:?}");
}

#[test]
fn what_no_convnext_has_is_refused_by_name() {
    for (key, value) in [
        ("timm_drop", serde_json::json!(0.5)),
        ("timm_drop_path", serde_json::json!(1.0)),
        ("timm_pool", serde_json::json!("map")),
        ("timm_proj", serde_json::json!("conv")),
        ("patch_dropout", serde_json::json!(0.5)),
        ("image_size", serde_json::json!(31)),
        ("timm_kwargs", serde_json::json!({"dims": [0, 1, 1, 1]})),
        ("timm_kwargs", serde_json::json!({"dpeths": [1, 1, 1, 1]})),
    ] {
        family::refuses("convnext/linear", key, value, key);
    }
}

/// For `export_convnext.py --saved DIR`.
#[test]
#[ignore = "writes files for Python to load"]
fn save_for_open_clip() {
    family::save_for_python("convnext");
}
