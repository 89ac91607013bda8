//! `data inspect`.

use serde_json::{Value, json};

use super::{SHARDS, flawed};
use crate::support::Room;

/// Ranges that have figures in them.
fn bins(histogram: &Value) -> Vec<(Value, Value, u64)> {
    let bins = histogram["bins"].as_array().unwrap().iter();
    let bins = bins.map(|bin| {
        let count = bin["count"].as_u64().unwrap();
        (bin["from"].clone(), bin["below"].clone(), count)
    });
    bins.filter(|(.., count)| *count > 0).collect()
}

#[test]
fn counts_are_exact() {
    let room = flawed();
    let found = room.run(&["data", "inspect", SHARDS, "--json"]).ok().json();
    assert_eq!(found["samples"], 5);
    assert_eq!(found["is_whole"], true);
    assert_eq!(found["formats"], json!({"JPEG": 4, "PNG": 1}));
    assert_eq!(
        (&found["without_caption"], &found["repeated_pictures"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(found["repeated_pairs"], 1);
    let example = found["repeated_example"].as_str().unwrap();
    assert_eq!(example, "s/001.tar: e has the picture of sample 1");
    // 3, 6, 3 and 2 words.
    let words = bins(&found["caption_words"]);
    assert_eq!(
        words,
        [(json!(2.0), json!(4.0), 3), (json!(4.0), json!(8.0), 1)]
    );
    assert_eq!(found["caption_words"]["mean"], 3.5);
    // 40 × 30 three times, 24 × 20, 64 × 16.
    let sides = bins(&found["shorter_side"]);
    assert_eq!(sides, [(json!(null), json!(32.0), 5)]);
    assert_eq!(found["shorter_side"]["least"], 16.0);
    assert_eq!(found["shorter_side"]["most"], 30.0);
    assert_eq!(found["aspect"]["most"], 4.0);
    let problems = found["problems"].as_array().unwrap();
    let kinds: Vec<_> = problems
        .iter()
        .map(|p| (p["kind"].as_str().unwrap(), &p["count"]))
        .collect();
    let one = &json!(1);
    let expected = [
        ("undecodable image", one),
        ("missing image", one),
        ("unreadable shard", one),
    ];
    assert_eq!(kinds, expected);
    let example = problems[0]["example"].as_str().unwrap();
    assert!(
        example.starts_with("s/000.tar: c: JPEG picture cannot be decoded"),
        "{example}"
    );
}

#[test]
fn the_text_says_the_same_and_some_samples_are_enough() {
    let room = flawed();
    let text = room.run(&["data", "inspect", SHARDS]).ok().stdout;
    for part in [
        "samples    5\n",
        "formats    4 JPEG, 1 PNG\n",
        "captions   4, none for 1\n",
        "repeated   2 (40.0 %), 1 of them with the same caption; the first: s/001.tar: e has",
        "words of a caption: 3.50 on average, 2 to 6\n",
        "               2 – 4          3   75.0 %  ████████",
        "           1  undecodable image\n",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let few = room
        .run(&["data", "inspect", SHARDS, "--samples", "2", "--json"])
        .ok()
        .json();
    assert_eq!(
        (&few["samples"], &few["is_whole"]),
        (&json!(2), &json!(false))
    );
    let csv = Room::captioned(2);
    let found = csv
        .run(&["data", "inspect", "train.csv", "--json"])
        .ok()
        .json();
    assert_eq!(
        (&found["samples"], &found["repeated_pairs"]),
        (&json!(8), &json!(4))
    );
}

#[test]
fn the_sheet_is_a_picture_and_the_same_every_time() {
    let room = flawed();
    let sheet = |name: &str, pictures: &str| {
        let args = [
            "data",
            "inspect",
            SHARDS,
            "--sheet",
            name,
            "--pictures",
            pictures,
        ];
        let ran = room.run(&args).ok();
        let note = format!("note: {pictures} pictures are on {name}");
        assert!(ran.stderr.contains(&note), "{}", ran.stderr);
        std::fs::read(room.path(name)).unwrap()
    };
    let first = sheet("a.png", "3");
    assert_eq!(first, sheet("b.png", "3"));
    let decoder = png::Decoder::new(std::io::Cursor::new(&first));
    let reader = decoder.read_info().unwrap();
    let low = (reader.info().width, reader.info().height);
    let taller = sheet("c.png", "5");
    let reader = png::Decoder::new(std::io::Cursor::new(&taller))
        .read_info()
        .unwrap();
    assert_eq!(reader.info().width, low.0);
    assert!(reader.info().height > low.1);
    let ran = room.run(&["data", "inspect", SHARDS, "--pictures", "3"]);
    assert_eq!(ran.status, 2, "--pictures without --sheet");
}
