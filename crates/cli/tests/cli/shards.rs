//! What is in shards, and how much of it may be bad; pictures of ImageNet's other versions.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::{Room, read_metadata};

const WEIGHTS: [&str; 5] = [
    "--model",
    "tiny.json",
    "--pretrained",
    "tiny.safetensors",
    "--device",
];

/// A shard of these members.
fn tar(room: &Room, name: &str, members: &[(String, Vec<u8>)]) {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, name, bytes.as_slice())
            .unwrap();
    }
    room.write(name, archive.into_inner().unwrap());
}

fn picture(room: &Room, name: &str) -> Vec<u8> {
    fs::read(room.path(&format!("{name}.png"))).unwrap()
}

/// Samples whose picture is a `.left.png` and whose captions are fields of a `.json`; one has no picture and one no caption.
fn odd_members(room: &Room) {
    let mut members = Vec::new();
    for colour in ["blue", "green", "red"] {
        let json =
            format!(r#"{{"short": "{colour}", "long": "a {colour} picture", "empty": " "}}"#);
        members.push((format!("{colour}.Left.PNG"), picture(room, colour)));
        members.push((format!("{colour}.png"), b"a mask".to_vec()));
        members.push((format!("{colour}.json"), json.into_bytes()));
    }
    members.push(("no-caption.left.png".to_owned(), picture(room, "red")));
    members.push(("no-caption.json".to_owned(), b"{}".to_vec()));
    members.push(("no-picture.png".to_owned(), picture(room, "red")));
    members.push(("no-picture.json".to_owned(), br#"{"long": "x"}"#.to_vec()));
    tar(room, "odd.tar", &members);
}

#[test]
fn members_and_fields_are_chosen_by_flags() {
    let room = Room::new();
    odd_members(&room);
    let flags = [
        "cpu",
        "--image-key",
        "left.png",
        "--json-text-key",
        "empty;long;short",
    ];
    let flags = [&WEIGHTS[..], &flags].concat();
    let embed = ["embed", "--images", "odd.tar", "--output", "vectors"];
    let ran = room.run(&[&embed[..], &flags].concat()).ok();
    let text = |text: &str| Some(text.to_owned());
    let rows = [
        (text("blue"), text("a blue picture")),
        (text("green"), text("a green picture")),
        (text("red"), text("a red picture")),
        (text("no-caption"), None),
    ];
    assert_eq!(read_metadata(&room.path("vectors")), rows);
    assert!(
        ran.stderr.contains("1 missing image") && ran.stderr.contains("members: json, png"),
        "{}",
        ran.stderr
    );

    let eval = ["eval", "--val-data", "odd.tar", "--json"];
    let ran = room.run(&[&eval[..], &flags].concat()).ok();
    assert_eq!(ran.json()["num_samples"], 3.0);
    assert!(
        ran.stderr
            .contains("missing caption (no text under empty, long, short of its .json; members: json, left.png"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr
            .contains("retrieval: 1 × missing image, 1 × missing caption were passed over"),
        "{}",
        ran.stderr
    );
    // The captions that are drawn are the same on any number of workers.
    let drawn = |workers: &str| {
        let more = ["--json-text-key-probs", "1", "1", "1", "--workers", workers];
        room.run(&[&eval[..], &flags, &more].concat()).ok().json()
    };
    assert_eq!(drawn("1"), drawn("4"));

    let train = "train --model tiny.json --train-data odd.tar --train-num-samples 3 --batch-size 3 --epochs 1 --warmup 1 \
                 --image-key left.png --json-text-key long;short --json-text-key-probs 0.5 0.5 --device cpu --name odd";
    let words: Vec<&str> = train.split_whitespace().collect();
    room.run(&words).ok();
    let error = room
        .run(&[
            "eval",
            "--val-data",
            "odd.tar",
            "--text-key",
            "json",
            "--model",
            "tiny.json",
        ])
        .error(1);
    assert!(error.contains("--json-text-key names the field"), "{error}");
}

/// A table of forty pictures, of which every tenth row, and two rows beside it, are broken.
fn broken_in_part(room: &Room) {
    let mut rows = String::from("filepath\ttitle\n");
    room.write("torn.png", &picture(room, "red")[..100]);
    for n in 0..40 {
        rows += match n % 10 {
            0 => "torn.png\ta torn picture\n",
            1 => "absent.png\tno picture\n",
            2 => "red.png\t\n",
            _ => "blue.png\ta blue picture\n",
        };
    }
    room.write("pairs.csv", rows);
}

const TRAIN: &str = "train --model tiny.json --train-data pairs.csv --batch-size 4 --epochs 1 --warmup 1 --device cpu --workers 2";

fn train(room: &Room, more: &str) -> crate::support::Ran {
    let line = format!("{TRAIN} {more}");
    let words: Vec<&str> = line.split_whitespace().collect();
    room.run(&words)
}

#[test]
fn a_share_of_bad_samples_is_passed_over_or_ends_the_run() {
    let room = Room::new();
    broken_in_part(&room);
    let ran = train(&room, "--max-skip 0.5 --name fine").ok();
    for kind in ["undecodable image", "unreadable image", "missing caption"] {
        assert!(ran.stderr.contains(kind), "{kind}: {}", ran.stderr);
    }
    assert!(
        ran.stderr.contains("of the training data were passed over"),
        "{}",
        ran.stderr
    );
    let error = train(&room, "--max-skip 0.2 --name bad").error(1);
    for words in [
        "12 of 40 samples are bad, more than 20% (--max-skip 0.2)",
        "4 × missing caption, such as red.png",
        "4 × unreadable image, such as absent.png",
        "4 × undecodable image, such as torn.png",
    ] {
        assert!(error.contains(words), "{words}: {error}");
    }
    let error = train(&room, "--max-skip 2 --name none").error(2);
    assert!(error.contains("--max-skip"), "{error}");
}

#[test]
fn a_source_with_nothing_usable_fails_soon() {
    let room = Room::new();
    let members: Vec<_> = (0..3000)
        .flat_map(|n| {
            let member = |suffix: &str| (format!("{n:05}.{suffix}"), b"x".to_vec());
            [member("tiff"), member("txt")]
        })
        .collect();
    tar(&room, "other.tar", &members);
    for skip in ["0.5", "1"] {
        let since = Instant::now();
        let error = train(
            &room,
            &format!(
                "--train-data other.tar --train-num-samples 3000 --max-skip {skip} --name at-{skip}"
            ),
        )
        .error(1);
        assert!(since.elapsed() < Duration::from_secs(10));
        assert!(
            error.contains("× missing image, such as ")
                && error.contains("no jpg, png, jpeg, webp; members: tiff, txt"),
            "{error}"
        );
    }
}

#[test]
fn other_versions_of_imagenet_are_measured_under_their_names() {
    let room = Room::new();
    room.picture("second/10/a.jpeg.png", [200, 0, 0]);
    room.picture("second/9/b.png", [0, 200, 0]);
    room.picture("part/n02123394/c.png", [0, 0, 200]);
    room.picture("part/n01498041/d.png", [0, 0, 200]);
    let weights = [&WEIGHTS[..], &["cpu", "--json"]].concat();
    let sets = ["eval", "--imagenet-val", "part", "--imagenet-v2", "second"];
    let json = room.run(&[&sets[..], &weights].concat()).ok().json();
    // Two classes: top 5 is always right. Of a thousand it is not.
    assert_eq!(json["imagenet-zeroshot-val-top5"], 1.0);
    for name in [
        "imagenetv2-zeroshot-val-top1",
        "imagenetv2-zeroshot-val-top5",
    ] {
        let value = json[name].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&value), "{json}");
    }
    room.picture("second/cat/e.png", [0, 0, 200]);
    let error = room
        .run(&[&["eval", "--imagenet-v2", "second"][..], &weights].concat())
        .error(1);
    assert!(
        error.contains("\"cat\"") && error.contains("0 to 999"),
        "{error}"
    );
}
