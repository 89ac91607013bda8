//! Checkpoints and model folders as other programs leave them. `tests/parity/export_checkpoints.py` made the fixtures.

mod folders;
mod named;
mod settings;

use std::path::{Path, PathBuf};

use openclip_model::factory::{self, CreateOptions, Loaded};
use openclip_model::weights::{DType, StateDict, TensorOut, WeightsError, write_safetensors};
use openclip_model::{ModelError, config};
use openclip_tests::{Tensors, device, fixture};
use safetensors::SafeTensors;

use crate::loading::{NAMES, check_features};

fn data(name: &str) -> PathBuf {
    fixture("checkpoints").join(name)
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_string()
}

/// The small model with the weights that `--pretrained` names.
fn load(pretrained: &str) -> Result<Loaded, ModelError> {
    let options = CreateOptions::default();
    let model = text(&data("model.json"));
    factory::create(&model, Some(pretrained), &device(), &options)
}

fn same_features(loaded: &Loaded, of: &str) {
    let tensors = Tensors::read("checkpoints/features.safetensors");
    check_features(&loaded.model, &tensors, &format!("{of}/"), NAMES, false);
}

/// The small model's tensors, each under the keys that `name` makes of its own, and one more for each of `others`.
fn write(path: &Path, name: impl Fn(&str) -> Vec<String>, others: &[&str]) {
    let bytes = std::fs::read(data("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let named: Vec<_> = file
        .iter()
        .flat_map(|(key, view)| name(key).into_iter().map(move |key| (key, view.clone())))
        .collect();
    let tensors = named.iter().map(|(key, view)| TensorOut {
        key,
        dtype: DType::F32,
        shape: view.shape(),
        bytes: view.data().into(),
    });
    let others = others.iter().map(|key| TensorOut::f32(key, &[1], &[0.0]));
    write_safetensors(path, tensors.chain(others), &Default::default()).unwrap();
}

#[test]
fn harmless_values_beside_weights_do_not_stop_the_weights() {
    let bytes = std::fs::read(data("expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let names = expected.names();
    let mut files: Vec<_> = names
        .iter()
        .map(|name| name.split_once('/').unwrap().0)
        .collect();
    files.sort_unstable();
    files.dedup();
    assert!(files.len() >= 13, "{files:?}");
    for file in files {
        let dict = StateDict::read(&data(file)).unwrap_or_else(|error| panic!("{error}"));
        let wanted = expected.iter().filter_map(|(name, view)| {
            let key = name.strip_prefix(file)?.strip_prefix('/')?;
            (!key.ends_with("num_batches_tracked")).then_some((key, view))
        });
        let wanted: std::collections::BTreeMap<_, _> = wanted.collect();
        let keys: Vec<_> = wanted.keys().copied().collect();
        assert_eq!(dict.tensors.keys().collect::<Vec<_>>(), keys, "{file}");
        for (key, view) in wanted {
            let tensor = &dict.tensors[key];
            assert_eq!(tensor.shape, view.shape(), "{file}/{key}");
            let values = view.data().chunks_exact(4);
            let values = values.map(|value| f32::from_le_bytes(value.try_into().unwrap()));
            let found = tensor.to_f32().unwrap();
            for (at, (found, wanted)) in found.into_iter().zip(values).enumerate() {
                let same = found == wanted || found.is_nan() && wanted.is_nan();
                assert!(same, "{file}/{key}[{at}]: {found}, not {wanted}");
            }
        }
    }
}

#[test]
fn weights_in_a_wrapper_are_read_and_the_prefix_is_told() {
    for (file, prefix, of) in [
        ("lightning.ckpt", "model.", "model"),
        ("averaged.pt", "averaged_model.module.", "model"),
    ] {
        let loaded = load(&text(&data(file))).unwrap_or_else(|error| panic!("{error}"));
        same_features(&loaded, of);
        let [word] = loaded.warnings.as_slice() else {
            panic!("{file}: {:?}", loaded.warnings);
        };
        assert!(
            word.contains(file) && word.contains(&format!("`{prefix}`")),
            "{word}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrapped.safetensors");
    for prefix in [
        "model.",
        "net.",
        "clip.",
        "student.",
        "module.model.",
        "state_dict.model.clip.",
        "base_model.model.",
    ] {
        write(
            &path,
            |key| vec![format!("{prefix}{key}")],
            &["n_averaged", "teacher.proj"],
        );
        let loaded = load(&text(&path)).unwrap_or_else(|error| panic!("{error}"));
        same_features(&loaded, "model");
        let [word] = loaded.warnings.as_slice() else {
            panic!("{prefix}: {:?}", loaded.warnings);
        };
        let told = format!("`{prefix}`, which is taken off; 2 other tensors are passed over");
        assert!(word.contains(&told), "{word}");
    }
    // What PyTorch's own wrappers put into keys is taken off in silence.
    for wrapped in [
        |key: &str| format!("module.{key}"),
        |key: &str| format!("_orig_mod.{key}"),
        |key: &str| format!("module._orig_mod.{key}"),
        |key: &str| {
            format!(
                "_fsdp_wrapped_module.{}",
                key.replace("resblocks.0.", "resblocks.0._fsdp_wrapped_module.")
            )
        },
        |key: &str| key.replace("resblocks.0.", "resblocks.0._checkpoint_wrapped_module."),
    ] {
        write(&path, |key| vec![wrapped(key)], &[]);
        let loaded = load(&text(&path)).unwrap_or_else(|error| panic!("{error}"));
        same_features(&loaded, "model");
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    }
}

#[test]
fn of_several_models_in_a_file_one_has_to_be_named() {
    let path = text(&data("student.pt"));
    let error = load(&path).unwrap_err();
    let ModelError::Weights(WeightsError::Ambiguous { prefixes, .. }) = &error else {
        panic!("{error}");
    };
    assert_eq!(prefixes, &["student.", "teacher."][..]);
    same_features(&load(&format!("{path}:student")).unwrap(), "model");
    same_features(&load(&format!("{path}:student.module.")).unwrap(), "model");
    same_features(&load(&format!("{path}:teacher")).unwrap(), "average");
    let error = load(&format!("{path}:ema")).unwrap_err().to_string();
    assert!(
        error.contains("no `ema`") && error.contains("`student` and `teacher`"),
        "{error}"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy.safetensors");
    write(
        &path,
        |key| vec![key.to_string(), format!("ema.{key}")],
        &[],
    );
    let error = load(&text(&path)).unwrap_err().to_string();
    assert!(
        error.contains("the keys as they are and those under `ema.`")
            && error.contains("copy.safetensors:ema."),
        "{error}"
    );
}

#[test]
fn an_average_beside_the_weights_is_told_of_and_can_be_taken() {
    let path = text(&data("ema.pt"));
    let loaded = load(&path).unwrap();
    same_features(&loaded, "model");
    assert!(
        loaded.warnings[0].contains("ema.pt:state_dict_ema"),
        "{:?}",
        loaded.warnings
    );
    let loaded = load(&format!("{path}:state_dict_ema")).unwrap();
    same_features(&loaded, "average");
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn a_reading_that_almost_fits_is_the_one_whose_differences_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("almost.safetensors");
    let but_one = |key: &str| match key {
        "visual.proj" => Vec::new(),
        key => vec![format!("model.{key}")],
    };
    write(&path, but_one, &["model.extra"]);
    let error = load(&text(&path)).unwrap_err();
    let ModelError::Weights(WeightsError::Mismatch { difference, .. }) = &error else {
        panic!("{error}");
    };
    assert_eq!(difference.missing, ["visual.proj"]);
    assert_eq!(difference.unexpected, ["extra"]);
}

fn model_config() -> config::ModelConfig {
    serde_json::from_slice(&std::fs::read(data("model.json")).unwrap()).unwrap()
}
