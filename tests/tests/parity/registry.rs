//! Built-in names: the tags of published weights and the size and cost of every model, against `open_clip`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use openclip_model::profile::Profile;
use openclip_model::{Clip, pretrained, registry};
use openclip_tests::{device, fixture, json};
use serde_json::{Value, json};

#[test]
fn every_tag_is_openclips() {
    let expected = json("pretrained.json");
    let numbers = |values: &Value| -> Vec<f32> {
        let values = values.as_array().unwrap().iter();
        values.map(|v| v.as_f64().unwrap() as f32).collect()
    };
    assert_eq!(pretrained::all().len(), expected.as_array().unwrap().len());
    for (entry, row) in pretrained::all().iter().zip(expected.as_array().unwrap()) {
        let text = |index: usize| row[index].as_str().unwrap();
        assert_eq!([&entry.model, &entry.tag], [text(0), text(1)]);
        assert_eq!(entry.repository(), text(2), "{row}");
        let file = match text(3) {
            "" => "open_clip_pytorch_model.bin",
            file => file,
        };
        assert_eq!(entry.file(), file, "{row}");
        assert_eq!(entry.url, text(4), "{row}");
        let preprocess = &entry.preprocess;
        assert_eq!(preprocess.mean.to_vec(), numbers(&row[5]), "{row}");
        assert_eq!(preprocess.std.to_vec(), numbers(&row[6]), "{row}");
        assert_eq!(json!(preprocess.interpolation), row[7], "{row}");
        assert_eq!(json!(preprocess.resize_mode), row[8], "{row}");
        assert_eq!(json!(entry.quick_gelu), row[9], "{row}");
        let found = pretrained::find(text(0), &text(1).to_uppercase().replace('_', "-"));
        assert_eq!(found, Some(entry));
    }
}

/// Every count is an integer that follows from shapes, so nothing may differ.
#[test]
fn operations_are_those_that_pytorch_counts() {
    let expected = json("flops.json");
    let mut compared = 0;
    let mut missing = Vec::new();
    for name in registry::names() {
        let config = registry::builtin(name).unwrap();
        let profile = Profile::of(name, &config, &Clip::new(&config, &device()).unwrap());
        let Some(flops) = profile.flops else {
            missing.push(name);
            continue;
        };
        let counted = json!([flops.total, flops.image, flops.text]);
        assert_eq!(counted, expected[name], "{name}");
        compared += 1;
    }
    println!("{compared} models, without a rule: {missing:?}");
    assert_eq!(missing, Vec::<&str>::new());
}

/// OpenCLIP's `docs/model_profile.csv`, which rounds to two digits. It is older than the release that the other tables are from:
/// its CoCa decoded the last token too, its HF text towers were given as many tokens as they have positions, and of the width of towers from timm and Hugging
/// Face it knows a default.
#[test]
fn the_published_table_agrees() {
    let table = std::fs::read_to_string(fixture("model_profile.csv")).unwrap();
    let mut lines = table
        .lines()
        .map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let names = registry::names();
    let mut compared = 0;
    for row in lines.filter(|row| names.contains(&row[0])) {
        let name = row[0];
        let column = |label: &str| -> f64 {
            let at = header.iter().position(|column| *column == label).unwrap();
            row[at].parse().unwrap()
        };
        let config = registry::builtin(name).unwrap();
        let profile = Profile::of(name, &config, &Clip::new(&config, &device()).unwrap());
        let near = |label: &str, count: u64, unit: f64| {
            let own = count as f64 / unit;
            let published = column(label);
            assert!(
                (own - published).abs() <= 0.0051,
                "{name} {label}: {own}, published {published}"
            );
        };
        assert_eq!(profile.image_size[0] as f64, column("image_size"), "{name}");
        assert_eq!(profile.embed_dim as f64, column("embed_dim"), "{name}");
        let is_hf = config.text_cfg.extra.contains_key("hf_model_name");
        if config.vision_cfg.timm_model_name().is_none() {
            assert_eq!(profile.image_width as f64, column("image_width"), "{name}");
        }
        if !is_hf {
            assert_eq!(profile.text_width as f64, column("text_width"), "{name}");
        }
        near("mparams", profile.parameters as u64, 1e6);
        near("image_mparams", profile.image_parameters as u64, 1e6);
        near("text_mparams", profile.text_parameters as u64, 1e6);
        let Some(flops) = profile.flops else { continue };
        near("image_gflops", flops.image, 1e9);
        if !is_hf {
            near("text_gflops", flops.text, 1e9);
        }
        if !is_hf && !name.starts_with("coca_") {
            near("gflops", flops.total, 1e9);
        }
        compared += 1;
    }
    println!("{compared} models");
    assert!(compared >= 60, "{compared}");
}

/// A package has no files beside its own folder: links lead to the configurations at the top.
#[test]
fn packages_bring_the_configurations_at_the_top_along() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let files = |path: &str| -> BTreeMap<_, _> {
        let path = root.join(path);
        let paths = match path.is_dir() {
            true => fs::read_dir(&path)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect(),
            false => vec![path],
        };
        let read = |path: PathBuf| {
            (
                path.file_name().unwrap().to_owned(),
                fs::read(path).unwrap(),
            )
        };
        paths.into_iter().map(read).collect()
    };
    for (own, top) in [
        ("crates/model/configs/models", "configs/models"),
        (
            "crates/model/configs/pretrained.json",
            "configs/pretrained.json",
        ),
        (
            "crates/eval/configs/imagenet.json",
            "configs/eval/imagenet.json",
        ),
        (
            "crates/cli/configs/quickstart-model.json",
            "configs/train/quickstart-model.json",
        ),
    ] {
        assert!(!files(own).is_empty() && files(own) == files(top), "{own}");
    }
}
