//! Rows that share a picture.

use super::run;
use crate::support::Room;

/// Three pictures with five captions each, one row a caption, and not side by side.
fn five_captions(room: &Room) {
    let mut rows = String::from("filepath\ttitle\n");
    for k in 0..5 {
        for colour in ["red", "green", "blue"] {
            let folder = if k % 2 == 0 { "" } else { "./" };
            rows += &format!("{folder}{colour}.png\ta {colour} square, seen {k} times\n");
        }
    }
    room.write("five.csv", rows);
}

#[test]
fn captions_of_one_picture_counted_as_wrong() {
    let room = Room::new();
    five_captions(&room);
    let ask = ["--val-data", "five.csv", "--batch-size", "4"];
    let json = run(&room, "eval", &[&ask[..], &["--json"]].concat())
        .ok()
        .json();
    assert_eq!(json["num_samples"], 15.0);
    let value = |name: &str| json[name].as_f64().unwrap();
    // Of three pictures every one is among the first five.
    assert_eq!(value("image_retrieval_recall@5"), 1.0);
    // Five rows have the same picture, so that by OpenCLIP's rule at most one of five can rank first.
    assert!(value("text_to_image_R@1") <= 0.2 + 1e-9, "{json}");
    assert!(value("image_to_text_R@1") <= 0.2 + 1e-9, "{json}");
    assert!(
        value("text_retrieval_recall@1") >= value("image_to_text_R@1"),
        "{json}"
    );
    for k in [1, 5, 10] {
        for direction in ["image_retrieval", "text_retrieval"] {
            let recall = value(&format!("{direction}_recall@{k}"));
            assert!((0.0..=1.0).contains(&recall), "{json}");
        }
    }
    let ran = run(&room, "eval", &ask).ok();
    let line = |name: &str| ran.stdout.lines().find(|line| line.starts_with(name));
    let rule = line("text_retrieval_recall@5").unwrap();
    assert!(rule.contains("any caption of the picture"), "{rule}");
    let rule = line("image_to_text_R@5").unwrap();
    assert!(rule.contains("OpenCLIP"), "{rule}");
}

#[test]
fn equal_keys_of_two_shards_are_two_pictures() {
    let room = Room::new();
    for (shard, colour) in [("0", "red"), ("1", "blue")] {
        let picture = super::bytes(&room, &format!("{colour}.png"));
        let members: [(&str, &[u8]); 2] = [("a.png", &picture), ("a.txt", colour.as_bytes())];
        super::tar(&room, &format!("s-{shard}.tar"), &members);
    }
    let ask = ["--val-data", "s-{0..1}.tar", "--json"];
    let json = run(&room, "eval", &ask).ok().json();
    for (benchmark, open_clip) in [
        ("text_retrieval_recall@1", "image_to_text_R@1"),
        ("image_retrieval_recall@1", "text_to_image_R@1"),
    ] {
        assert_eq!(json[benchmark], json[open_clip], "{json}");
    }
}
