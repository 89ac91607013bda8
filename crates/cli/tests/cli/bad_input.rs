//! Every wrong file is one clear error, with nothing on stdout.

use std::fs;

use crate::support::{Ran, Room};

fn classify(room: &Room, weights: &str, image: &str) -> Ran {
    let args = [
        "classify",
        "--model",
        "tiny.json",
        "--pretrained",
        weights,
        "--image",
        image,
        "--text",
        "x",
    ];
    room.run(&args)
}

#[test]
fn pictures() {
    let room = Room::new();
    room.write("empty.jpg", "");
    room.write("text.png", "hello");
    let mut cut = fs::read(room.path("red.png")).unwrap();
    cut.truncate(cut.len() / 2);
    room.write("cut.png", cut);
    for (image, words) in [
        ("absent.png", "No such file"),
        ("empty.jpg", "no picture"),
        ("text.png", "no picture"),
        ("cut.png", "PNG"),
    ] {
        let error = classify(&room, "tiny.safetensors", image).error(1);
        assert!(
            error.starts_with(&format!("{image}: ")) && error.contains(words),
            "{error}"
        );
    }
}

#[test]
fn weights() {
    let room = Room::new();
    room.write("empty.pt", "");
    room.write("page.bin", "<html></html>");
    let mut cut = fs::read(room.path("tiny.safetensors")).unwrap();
    cut.truncate(cut.len() - 100);
    room.write("cut.safetensors", cut);
    for (weights, words) in [
        ("empty.pt", "an empty file"),
        ("page.bin", "HTML"),
        ("cut.safetensors", "bytes of tensors"),
        ("laion2b", "no such file, and no weights of"),
    ] {
        let error = classify(&room, weights, "red.png").error(1);
        assert!(error.contains(weights) && error.contains(words), "{error}");
    }
}

#[test]
fn weights_of_another_model_list_every_key() {
    let room = Room::new();
    let json = fs::read_to_string(room.path("tiny.json")).unwrap();
    room.write(
        "wide.json",
        json.replace("\"embed_dim\": 16", "\"embed_dim\": 24"),
    );
    room.write(
        "deep.json",
        json.replace("\"layers\": 2}", "\"layers\": 3}"),
    );
    let ask = [
        "--pretrained",
        "tiny.safetensors",
        "--image",
        "red.png",
        "--text",
        "x",
    ];
    let ran = room.run(&[&["classify", "--model", "wide.json"], &ask[..]].concat());
    for line in [
        "0 missing, 0 unexpected, 2 of another shape",
        "visual.proj: the model has [32, 24], the file [32, 16]",
        "text_projection: the model has [32, 24], the file [32, 16]",
    ] {
        assert!(ran.stderr.contains(line), "{}", ran.stderr);
    }
    assert!(ran.error(1).starts_with("tiny.safetensors: "));
    let ran = room.run(&[&["classify", "--model", "deep.json"], &ask[..]].concat());
    assert!(
        ran.stderr
            .contains("  missing     visual.transformer.resblocks.2.ln_1.weight"),
        "{}",
        ran.stderr
    );
    ran.error(1);
}

#[test]
fn configurations() {
    let room = Room::new();
    room.write("broken.json", "{");
    room.write("other.json", "{\"hello\": 1}");
    for (model, status) in [
        ("broken.json", 1),
        ("other.json", 1),
        ("absent.json", 1),
        ("local-dir:absent", 1),
    ] {
        let error = room.run(&["info", "--model", model]).error(status);
        assert!(
            error.contains(model.trim_start_matches("local-dir:")),
            "{error}"
        );
    }
}

#[test]
fn flags_with_impossible_values() {
    let room = Room::new();
    let ask = ["info", "--model", "tiny.json"];
    for (flags, words) in [
        (
            &["--image-std", "0"][..],
            "--image-std: expected numbers above 0",
        ),
        (
            &["--image-mean", "0.5", "0.5"],
            "--image-mean: expected 1 or 3 numbers, found 2",
        ),
        (
            &["--image-mean", "nan"],
            "--image-mean: expected finite numbers",
        ),
    ] {
        assert_eq!(room.run(&[&ask[..], flags].concat()).error(2), words);
    }
    let convert = ["convert", "--model", "tiny.json", "--output", "x.gguf"];
    let error = room.run(&convert).error(2);
    assert!(error.contains(".safetensors"), "{error}");
}

#[test]
fn folders_that_cannot_be_written() {
    let room = Room::new();
    room.write("file", "");
    for output in ["file/x.safetensors", "file/hub/"] {
        let error = room.run(&["convert", "--model", "tiny.json", "--output", output]);
        assert_eq!(error.status, 1, "{}", error.stderr);
        assert!(error.stderr.contains("error: file"), "{}", error.stderr);
    }
}
