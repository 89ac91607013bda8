//! What `classify` looks at, and what it says.

use std::io::Write;
use std::process::Stdio;

use super::{bytes, run, told};
use crate::support::{Ran, Room};

fn classify(room: &Room, more: &[&str]) -> Ran {
    run(room, "classify", more)
}

fn texts(answer: &serde_json::Value) -> Vec<String> {
    let labels = answer["labels"].as_array().unwrap().iter();
    labels
        .map(|label| label["text"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_bad_picture_took_the_answers_of_the_others_along() {
    let room = Room::new();
    room.write("bad.png", "hello");
    let images = [
        "--image",
        "red.png",
        "bad.png",
        "absent.png",
        "https://example.com/cat.jpg",
        "blue.png",
        "--text",
        "a",
        "b",
    ];
    let ran = classify(&room, &[&images[..], &["--json"]].concat());
    assert_eq!(ran.status, 1);
    let json = ran.json();
    let answered: Vec<_> = json.as_array().unwrap().iter().collect();
    assert_eq!(answered.len(), 2);
    assert_eq!(answered[0]["image"], "red.png");
    assert_eq!(answered[1]["image"], "blue.png");
    let errors = told(&ran, "error");
    assert_eq!(errors.len(), 3, "{errors:?}");
    for (name, words) in [
        ("absent.png: ", "No such file"),
        ("https://example.com/cat.jpg: ", "download it first"),
        ("bad.png: ", "no picture"),
    ] {
        let error = errors.iter().find(|error| error.starts_with(name));
        assert!(
            error.is_some_and(|error| error.contains(words)),
            "{errors:?}"
        );
    }
    assert_eq!(classify(&room, &images).stdout.matches('%').count(), 4);
}

#[test]
fn folders_and_files_of_labels_were_refused() {
    let room = Room::new();
    let png = bytes(&room, "red.png");
    room.write("set/a.png", &png);
    room.write("set/deep/b.png", &png);
    room.write("set/notes.txt", "x");
    room.write(
        "labels.txt",
        "\u{feff}a dog\r\n\r\n  \r\n-5 degrees\r\na dog\r\n",
    );
    let ask = ["--image", "set", "--texts", "labels.txt", "--json"];
    let ran = classify(&room, &ask).ok();
    let json = ran.json();
    assert_eq!(json[0]["image"], "set/a.png");
    assert_eq!(json[1]["image"], "set/deep/b.png");
    assert_eq!(texts(&json[0]), ["a dog", "-5 degrees", "a dog"]);
    assert!(told(&ran, "note")[0].contains("1 not a picture (notes.txt)"));
    assert!(
        told(&ran, "warning")[0].contains("more than once"),
        "{}",
        ran.stderr
    );
    let both = ["--text", "first", "--texts", "labels.txt"];
    let json = classify(
        &room,
        &[&both[..], &["--image", "red.png", "--json"]].concat(),
    )
    .ok()
    .json();
    assert_eq!(texts(&json[0])[0], "first");

    room.write("empty.txt", "\n\n");
    let error = classify(&room, &["--image", "red.png", "--texts", "empty.txt"]).error(1);
    assert!(error.starts_with("empty.txt: no label"), "{error}");
    room.write("none/notes.txt", "x");
    let error = classify(&room, &["--image", "none", "--text", "a"]).error(1);
    assert!(error.contains("no picture in it"), "{error}");
}

#[test]
fn one_label_alone_was_a_hundred_percent() {
    let room = Room::new();
    let ask = ["--image", "red.png", "--text", "a red square"];
    let ran = classify(&room, &ask).ok();
    assert!(!ran.stdout.contains('%'), "{}", ran.stdout);
    let line = ran.stdout.lines().nth(1).unwrap().trim();
    let shown = line.strip_prefix("cosine ").unwrap();
    let shown: f64 = shown.split_whitespace().next().unwrap().parse().unwrap();
    let json = classify(&room, &[&ask[..], &["--json"]].concat())
        .ok()
        .json();
    let label = &json[0]["labels"][0];
    assert!((label["cosine"].as_f64().unwrap() - shown).abs() < 1e-4);
    assert!(label.get("sigmoid").is_none());
}

#[test]
fn only_the_softmax_was_told() {
    let room = Room::new();
    let config = String::from_utf8(bytes(&room, "tiny.json")).unwrap();
    let siglip = "{ \"init_logit_scale\": 2.0, \"init_logit_bias\": -3.0,";
    room.write("tiny.json", config.replacen('{', siglip, 1));
    let convert = [
        "--model",
        "tiny.json",
        "--seed",
        "7",
        "--output",
        "tiny.safetensors",
    ];
    room.run(&[&["convert"], &convert[..]].concat()).ok();
    let ask = ["--image", "red.png", "--text", "a", "b c"];
    let json = classify(&room, &[&ask[..], &["--json"]].concat())
        .ok()
        .json();
    for label in json[0]["labels"].as_array().unwrap() {
        let value = |key: &str| label[key].as_f64().unwrap();
        // The scale is stored as its logarithm.
        let logit = 2.0_f64.exp() * value("cosine") - 3.0;
        assert!((value("logit") - logit).abs() < 1e-4, "{label}");
        let sigmoid = 1.0 / (1.0 + (-logit).exp());
        assert!((value("sigmoid") - sigmoid).abs() < 1e-5, "{label}");
    }
    let ran = classify(&room, &ask).ok();
    assert_eq!(
        ran.stdout.matches("sigmoid 0.").count(),
        2,
        "{}",
        ran.stdout
    );
    assert_eq!(ran.stdout.matches('%').count(), 2, "{}", ran.stdout);
}

#[test]
fn a_label_with_a_hyphen_was_a_flag() {
    let room = Room::new();
    let ask = [
        "--image",
        "red.png",
        "--text",
        "10 degrees",
        "-5 degrees",
        "warm",
        "--json",
    ];
    let json = classify(&room, &ask).ok().json();
    assert_eq!(texts(&json[0]), ["10 degrees", "-5 degrees", "warm"]);
    for typo in ["--jsno", "-json"] {
        let error = classify(&room, &["--image", "red.png", "--text", "a", typo]).error(2);
        assert!(error.contains("unexpected argument"), "{error}");
    }
}

#[test]
fn standard_input_is_a_picture() {
    let room = Room::new();
    let args = [
        &["classify"],
        &super::WEIGHTS[..],
        &["--image", "-", "--text", "a"],
    ]
    .concat();
    let mut child = room
        .command(&args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(&bytes(&room, "red.png")).unwrap();
    drop(input);
    let ran = Ran::from(child.wait_with_output().unwrap()).ok();
    assert!(ran.stdout.starts_with("-\n  cosine "), "{}", ran.stdout);
}

/// Sixteen pictures of 12 megapixels are 576 MB when they are decoded side by side.
#[cfg(target_os = "linux")]
#[test]
fn every_picture_was_in_memory_at_once() {
    let room = Room::new();
    let file = std::fs::File::create(room.path("large.png")).unwrap();
    let mut encoder = png::Encoder::new(file, 4000, 3000);
    encoder.set_color(png::ColorType::Rgb);
    let pixels = vec![90; 3 * 4000 * 3000];
    encoder
        .write_header()
        .unwrap()
        .write_image_data(&pixels)
        .unwrap();
    let images = ["large.png"; 16];
    let args = [
        &["classify"],
        &super::WEIGHTS[..],
        &["--text", "a", "b", "--image"],
        &images,
    ];
    let mut child = room
        .command(&args.concat())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        // The most that was resident so far, in KiB.
        let peak = std::fs::read_to_string(&status).unwrap_or_default();
        let peak = peak.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        most = most.max(peak.unwrap_or(0));
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(child.wait().unwrap().success());
    assert!((1..400 << 10).contains(&most), "{most} KiB");
}
