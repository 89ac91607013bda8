//! Built-in names: the tags of published weights and the size and cost of every model, against `open_clip`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

use openclip_model::profile::Profile;
use openclip_model::{Clip, pretrained, registry};
use openclip_tests::{device, json};
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
    assert!(compared >= 90, "{compared}");
}
