//! `openclip classify` on a tiny model.

use crate::support::{Ran, Room, dot, read_npy};

const WEIGHTS: [&str; 4] = ["--model", "tiny.json", "--pretrained", "tiny.safetensors"];

fn classify(room: &Room, more: &[&str]) -> Ran {
    room.run(&[&["classify"], &WEIGHTS[..], more].concat())
}

#[test]
fn json_has_pictures_and_captions_in_the_order_given() {
    let room = Room::new();
    let ran = classify(
        &room,
        &[
            "--json",
            "--image",
            "red.png",
            "blue.png",
            "--text",
            "a zebra",
            "an ant",
            "a red square",
        ],
    )
    .ok();
    assert_eq!(ran.stderr, "");
    let json = ran.json();
    let answers = json.as_array().unwrap();
    assert_eq!(answers.len(), 2);
    for (answer, name) in answers.iter().zip(["red.png", "blue.png"]) {
        assert_eq!(answer.as_object().unwrap().len(), 2);
        assert_eq!(answer["image"], name);
        let labels = answer["labels"].as_array().unwrap();
        let texts: Vec<_> = labels
            .iter()
            .map(|label| label["text"].as_str().unwrap())
            .collect();
        assert_eq!(texts, ["a zebra", "an ant", "a red square"]);
        let sum: f64 = labels
            .iter()
            .map(|label| label["prob"].as_f64().unwrap())
            .sum();
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
    }
    assert_ne!(answers[0]["labels"], answers[1]["labels"]);
}

#[test]
fn probabilities_are_the_softmax_of_a_hundred_cosines() {
    let room = Room::new();
    room.picture("set/red.png", [220, 20, 30]);
    room.write("captions.txt", "a dog\na cat\n");
    let embed = [
        "--images",
        "set",
        "--texts",
        "captions.txt",
        "--output",
        "out",
    ];
    room.run(&[&["embed"], &WEIGHTS[..], &embed].concat()).ok();
    let image = &read_npy(&room.path("out/img_emb/img_emb_0.npy"))[0];
    let texts = read_npy(&room.path("out/text_emb/text_emb_0.npy"));
    let weights: Vec<f64> = texts
        .iter()
        .map(|text| f64::from(100.0 * dot(image, text)).exp())
        .collect();
    let ran = classify(
        &room,
        &["--json", "--image", "red.png", "--text", "a dog", "a cat"],
    )
    .ok();
    for (label, weight) in ran.json()[0]["labels"]
        .as_array()
        .unwrap()
        .iter()
        .zip(&weights)
    {
        let expected = weight / weights.iter().sum::<f64>();
        // The exponent is a hundred times a sum that was rounded in f32.
        assert!(
            (label["prob"].as_f64().unwrap() - expected).abs() < 1e-3,
            "{label} {expected}"
        );
    }
}

#[test]
fn people_see_the_likeliest_caption_first() {
    let room = Room::new();
    let ran = classify(
        &room,
        &[
            "--image", "red.png", "--text", "one", "two", "three", "four",
        ],
    )
    .ok();
    let mut lines = ran.stdout.lines();
    assert_eq!(lines.next(), Some("red.png"));
    let shares: Vec<f64> = lines
        .map(|line| line.split_whitespace().next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(shares.len(), 4);
    assert!(shares.is_sorted_by(|a, b| a >= b), "{shares:?}");
}

#[test]
fn preprocessing_flags_change_the_answer_and_the_files_own_are_the_default() {
    let room = Room::new();
    let own = [
        "--image-mean",
        "0.1",
        "0.2",
        "0.3",
        "--image-std",
        "0.5",
        "--image-resize-mode",
        "squash",
    ];
    let ask = ["--json", "--image", "green.png", "--text", "grass", "sky"];
    let convert = ["--output", "own.safetensors"];
    room.run(&[&["convert"], &WEIGHTS[..], &own, &convert].concat())
        .ok();
    let plain = classify(&room, &ask).ok().stdout;
    let flags = classify(&room, &[&ask[..], &own].concat()).ok().stdout;
    let weights = [
        "classify",
        "--model",
        "tiny.json",
        "--pretrained",
        "own.safetensors",
    ];
    let file = room.run(&[&weights[..], &ask].concat()).ok().stdout;
    assert_ne!(plain, flags);
    assert_eq!(flags, file);
}

#[test]
fn a_model_without_weights_says_so() {
    let room = Room::new();
    let ran = room
        .run(&[
            "classify",
            "--model",
            "tiny.json",
            "--image",
            "red.png",
            "--text",
            "x",
        ])
        .ok();
    assert!(
        ran.stderr.starts_with("warning: tiny has random weights"),
        "{}",
        ran.stderr
    );
}
