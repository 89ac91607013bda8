//! `data bench`.

use super::{SHARDS, flawed};
use crate::support::Room;

#[test]
fn every_stage_has_a_rate_and_one_limits() {
    let room = Room::captioned(20);
    let args = [
        "data",
        "bench",
        "train.csv",
        "--workers",
        "2",
        "--image-size",
        "32",
    ];
    let found = room.run(&[&args[..], &["--json"]].concat()).ok().json();
    assert_eq!(
        (&found["samples"], &found["threads"]),
        (&80.into(), &2.into())
    );
    for stage in ["read", "decode", "transform", "tokenize", "loader"] {
        assert!(
            found[stage]["images_per_s"].as_f64().unwrap() > 0.0,
            "{found}"
        );
    }
    let ran = room.run(&[&args[..], &["--samples", "30"]].concat()).ok();
    assert!(
        ran.stdout.starts_with("80 rows of train.csv\n30 samples, "),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("\nlimit: "), "{}", ran.stdout);
}

#[test]
fn broken_samples_take_part_and_none_at_all_is_an_error() {
    let room = flawed();
    let found = room.run(&["data", "bench", SHARDS, "--json"]).ok().json();
    assert_eq!(found["samples"], 6, "{found}");
    let error = room.run(&["data", "bench", "s/002.tar"]).error(1);
    assert!(
        error.contains("no usable sample") && error.contains("unreadable shard"),
        "{error}"
    );
}

#[test]
fn pictures_without_captions_have_rates_too() {
    let room = Room::empty();
    room.picture("a.png", [1, 2, 3]);
    room.write("pairs.csv", "filepath\na.png\na.png\n");
    let found = room.run(&["data", "bench", "pairs.csv", "--json"]).ok();
    let found = found.json();
    assert_eq!(found["samples"], 2, "{found}");
    let rate = found["loader"]["images_per_s"].as_f64();
    assert!(rate.unwrap() > 0.0, "{found}");
}
