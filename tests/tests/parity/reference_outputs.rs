//! References of what models compute, kept by one revision for another: `openclip_tests::regression`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use openclip_model::weights::{StateDict, TensorOut, write_safetensors};
use openclip_tests::fixture;
use openclip_tests::regression::{self, Subject, TOLERANCE};

/// The configuration of a parity case, in a file of its own.
fn config(folder: &Path, case: &str) -> String {
    let case = openclip_tests::json(&format!("{case}.json"));
    let path = folder.join("tiny.json");
    std::fs::write(&path, case["model_cfg"].to_string()).unwrap();
    path.to_str().unwrap().to_string()
}

fn saved(folder: &Path, case: &str) -> PathBuf {
    let subject = Subject {
        model: config(folder, case),
        pretrained: None,
        seed: 7,
    };
    regression::save(&subject, 2, &openclip_tests::device(), folder).unwrap()
}

fn check(file: &Path) -> Result<f32, String> {
    let outcome = regression::check(file, &openclip_tests::device(), TOLERANCE);
    outcome.map_err(|error| error.to_string())
}

/// Writes the file again, with other values of one tensor or without it.
fn change(file: &Path, key: &str, change: impl Fn(&mut Vec<f32>) -> bool) {
    let dict = StateDict::read(file).unwrap();
    let mut tensors = Vec::new();
    for (name, tensor) in &dict.tensors {
        let mut values = tensor.to_f32().unwrap();
        if name != key || change(&mut values) {
            tensors.push((name, &tensor.shape, values));
        }
    }
    let tensors = tensors
        .iter()
        .map(|(name, shape, values)| TensorOut::f32(name, shape, values));
    let metadata = dict.metadata.into_iter().collect();
    write_safetensors(file, tensors, &metadata).unwrap();
}

#[test]
fn a_model_is_what_it_was() {
    for case in [
        "models/vit_plain",
        "models/logit_bias",
        "coca/pool",
        "hftext/roberta_cls",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = saved(folder.path(), case);
        let difference = check(&file).unwrap();
        assert!(difference <= TOLERANCE, "{case}: {difference:e}");
        let keys = StateDict::read(&file).unwrap().tensors;
        let has = |name: &str| keys.contains_key(&format!("output/{name}"));
        assert!(has("image_features") && has("text_features") && has("logit_scale"));
        assert_eq!(has("caption_logits"), case.starts_with("coca"));
        assert_eq!(has("logit_bias"), case == "models/logit_bias");
    }
}

#[test]
fn a_change_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let file = saved(folder.path(), "coca/pool");
    let original = std::fs::read(&file).unwrap();
    let fault = |key: &str, values: &dyn Fn(&mut Vec<f32>) -> bool| {
        std::fs::write(&file, &original).unwrap();
        change(&file, key, values);
        check(&file)
    };
    assert!(fault("output/logit_scale", &|_| true).is_ok());
    for key in [
        "image_features",
        "text_features",
        "logit_scale",
        "caption_logits",
    ] {
        let key = format!("output/{key}");
        let moved = fault(&key, &|values| {
            values[0] += 1e-4;
            true
        });
        assert!(moved.unwrap_err().starts_with(&format!("{key} differs by")));
        for value in [f32::NAN, f32::INFINITY] {
            let spoilt = fault(&key, &|values| {
                values[0] = value;
                true
            });
            assert_eq!(
                spoilt.unwrap_err(),
                format!("{key} of the file has values that are not finite")
            );
        }
        let absent = fault(&key, &|_| false);
        assert_eq!(absent.unwrap_err(), format!("the file has no {key}"));
    }
    let other_picture = fault("input/image", &|values| {
        values[0] = 255.0 - values[0];
        true
    });
    assert!(other_picture.unwrap_err().contains("differs by"));
}

#[test]
fn another_configuration_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = saved(folder.path(), "models/vit_plain");
    config(folder.path(), "models/vit_quickgelu");
    assert!(
        check(&file)
            .unwrap_err()
            .ends_with("its configuration is another one as well")
    );
}

/// The program with these arguments: its status and what it printed.
fn run(args: &[&str]) -> (Option<i32>, String) {
    let program = env!("CARGO_BIN_EXE_regression");
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(program).args(args).output().unwrap();
    let printed = [stdout, stderr].concat();
    (status.code(), String::from_utf8(printed).unwrap())
}

#[test]
fn the_program_saves_and_checks() {
    let folder = tempfile::tempdir().unwrap();
    let model = config(folder.path(), "models/vit_plain");
    let directory = folder.path().join("references");
    let place = directory.to_str().unwrap();
    let (status, printed) = run(&["--models", &model, "--save", place, "--device", "cpu"]);
    assert_eq!(status, Some(0), "{printed}");
    let (status, printed) = run(&["--check", place, "--device", "cpu"]);
    assert_eq!((status, printed.lines().count()), (Some(0), 1), "{printed}");
    let models = format!("{model},RN50");
    let (status, printed) = run(&["--models", &models, "--check", place, "--device", "cpu"]);
    assert_eq!(status, Some(1), "{printed}");
    assert!(printed.contains("RN50.safetensors is missing"), "{printed}");
    change(
        &directory.join("tiny.safetensors"),
        "output/text_features",
        |values| {
            values[3] -= 1e-3;
            true
        },
    );
    let (status, printed) = run(&["--check", place, "--device", "cpu"]);
    assert_eq!(status, Some(1));
    assert!(
        printed.contains("output/text_features differs by"),
        "{printed}"
    );
    let (status, printed) = run(&["--check", folder.path().to_str().unwrap()]);
    assert_eq!(status, Some(1));
    assert!(printed.contains("no references"), "{printed}");
    assert_eq!(run(&["--save", place]).0, Some(2));
    assert_eq!(run(&["--check", place, "--seed", "1"]).0, Some(2));
}

#[test]
fn weights_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let weights = fixture("weights/load_root.pt");
    let case = openclip_tests::json("weights/load.json");
    let path = folder.path().join("tiny.json");
    std::fs::write(&path, case["same"]["model_cfg"].to_string()).unwrap();
    let subject = Subject {
        model: path.to_str().unwrap().into(),
        pretrained: Some(weights.to_str().unwrap().into()),
        seed: 0,
    };
    let device = openclip_tests::device();
    let file = regression::save(&subject, 1, &device, folder.path()).unwrap();
    assert!(check(&file).is_ok());
}
