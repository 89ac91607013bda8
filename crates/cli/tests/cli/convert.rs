//! `openclip convert`: the same model in every format.

use std::fs;

use openclip_model::weights::{DType, StateDict};
use openclip_tests::max_difference;

use crate::support::Room;

fn answer(room: &Room, weights: &[&str]) -> String {
    let ask = [
        "--json",
        "--image",
        "red.png",
        "green.png",
        "--text",
        "one",
        "two",
    ];
    let ran = room.run(&[&["classify"], weights, &ask].concat()).ok();
    assert_eq!(ran.stderr, "");
    ran.stdout
}

#[test]
fn every_format_gives_the_same_answer() {
    let room = Room::new();
    let weights = ["--model", "tiny.json", "--pretrained", "tiny.safetensors"];
    let expected = answer(&room, &weights);
    for output in ["deep/copy.safetensors", "copy.pt", "copy.bpk", "hub/"] {
        let ran = room
            .run(&[&["convert"], &weights[..], &["--output", output]].concat())
            .ok();
        assert_eq!(ran.stdout, format!("{output}\n"));
        let found = match output {
            "hub/" => answer(&room, &["--model", "local-dir:hub"]),
            file => answer(&room, &["--model", "tiny.json", "--pretrained", file]),
        };
        assert_eq!(found, expected, "{output}");
    }
    let original = fs::read(room.path("tiny.safetensors")).unwrap();
    assert_eq!(
        fs::read(room.path("deep/copy.safetensors")).unwrap(),
        original
    );
}

/// A state dict keeps the tensors' order, names, shapes and bits, in the width of the model.
#[test]
fn a_state_dict_has_the_models_tensors() {
    let room = Room::new();
    for (precision, output) in [("fp32", "whole.pt"), ("pure_bf16", "half.pt")] {
        let convert = ["convert", "--model", "tiny.json", "--pretrained"];
        let flags = ["tiny.safetensors", "--precision", precision, "--output"];
        room.run(&[&convert[..], &flags, &[output]].concat()).ok();
    }
    let [source, whole, half] = ["tiny.safetensors", "whole.pt", "half.pt"]
        .map(|name| StateDict::open(&room.path(name)).unwrap().tensors);
    assert!(source.keys().eq(whole.keys()) && source.keys().eq(half.keys()));
    for (key, tensor) in &source {
        let (whole, half) = (&whole[key], &half[key]);
        assert_eq!(
            (whole.dtype, half.dtype),
            (DType::F32, DType::BF16),
            "{key}"
        );
        assert_eq!(tensor.shape, whole.shape, "{key}");
        assert_eq!(
            tensor.to_bytes().unwrap(),
            whole.to_bytes().unwrap(),
            "{key}"
        );
        let difference = max_difference(&tensor.to_f32().unwrap(), &half.to_f32().unwrap());
        assert!(difference < 0.02, "{key}: {difference}");
    }
}

#[test]
fn a_folder_has_the_hubs_layout() {
    let room = Room::new();
    let flags = ["--image-mean", "0.5", "--output"];
    let convert = [
        "convert",
        "--model",
        "tiny.json",
        "--pretrained",
        "tiny.safetensors",
    ];
    room.run(&[&convert[..], &flags, &["source"]].concat()).ok();
    // CLIP's own tokenizer is written; one that a folder brings along is kept in its place.
    for name in [
        "vocab.json",
        "merges.txt",
        "tokenizer_config.json",
        "special_tokens_map.json",
    ] {
        fs::remove_file(room.path("source").join(name)).unwrap();
    }
    room.write("source/tokenizer.json", "{}");
    room.run(&["convert", "--model", "local-dir:source", "--output", "hub"])
        .ok();
    let mut names: Vec<_> = fs::read_dir(room.path("hub"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected = [
        "README.md",
        "open_clip_config.json",
        "open_clip_model.safetensors",
        "tokenizer.json",
    ];
    assert_eq!(names, expected);
    let config = fs::read(room.path("hub/open_clip_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["model_cfg"]["embed_dim"], 16);
    assert_eq!(
        config["preprocess_cfg"]["mean"],
        serde_json::json!([0.5, 0.5, 0.5])
    );
    let card = fs::read_to_string(room.path("hub/README.md")).unwrap();
    assert!(
        card.starts_with("---\n") && card.contains("32x32 pixels"),
        "{card}"
    );
}

#[test]
fn random_weights_depend_on_the_seed_alone() {
    let room = Room::new();
    for (seed, output) in [("7", "same.safetensors"), ("8", "other.safetensors")] {
        let ran = room
            .run(&[
                "convert",
                "--model",
                "tiny.json",
                "--seed",
                seed,
                "--output",
                output,
            ])
            .ok();
        assert!(
            ran.stderr.contains("warning: tiny has random weights"),
            "{}",
            ran.stderr
        );
    }
    let read = |name: &str| fs::read(room.path(name)).unwrap();
    assert_eq!(read("tiny.safetensors"), read("same.safetensors"));
    assert_ne!(read("tiny.safetensors"), read("other.safetensors"));
}

#[test]
fn keys_are_openclips() {
    let room = Room::new();
    let bytes = fs::read(room.path("tiny.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for (key, shape) in [
        ("logit_scale", vec![]),
        ("positional_embedding", vec![16, 32]),
        ("text_projection", vec![32, 16]),
        ("visual.conv1.weight", vec![32, 3, 8, 8]),
        (
            "visual.transformer.resblocks.1.attn.in_proj_weight",
            vec![96, 32],
        ),
        ("transformer.resblocks.0.mlp.c_fc.weight", vec![128, 32]),
    ] {
        assert_eq!(tensors.tensor(key).unwrap().shape(), shape, "{key}");
    }
}
