//! `data verify`.

use serde_json::json;

use super::{SHARDS, flawed, jpeg, shard};
use crate::support::Room;

#[test]
fn what_is_broken_is_listed_and_the_status_tells() {
    let room = flawed();
    let ran = room.run(&["data", "verify", SHARDS]);
    assert_eq!(ran.status, 1, "{}", ran.stderr);
    let starts = [
        "s/000.tar: c: undecodable image (JPEG picture cannot be decoded",
        "s/000.tar: d: missing caption (",
        "s/001.tar: g: missing image (no jpg, png, jpeg, webp; members: txt)",
        "s/002.tar: unreadable shard (",
        "3 shards (s/{000..002}.tar): 4 samples are whole, 4 broken, ",
    ];
    for (line, start) in ran.stdout.lines().zip(starts) {
        assert!(
            line.starts_with(start),
            "{line} does not start with {start}"
        );
    }
    assert!(
        ran.stderr.contains("verify: 6 samples in "),
        "{}",
        ran.stderr
    );
}

#[test]
fn the_same_in_json() {
    let room = flawed();
    let ran = room.run(&["data", "verify", SHARDS, "--json", "--workers", "3"]);
    assert_eq!(ran.status, 1);
    let found = ran.json();
    assert_eq!((&found["whole"], &found["broken"]), (&json!(4), &json!(4)));
    let list = found["list"].as_array().unwrap();
    let parts: Vec<_> = list
        .iter()
        .map(|b| (&b["shard"], &b["key"], &b["kind"]))
        .collect();
    let expected = [
        (json!("s/000.tar"), json!("c"), json!("undecodable image")),
        (json!("s/000.tar"), json!("d"), json!("missing caption")),
        (json!("s/001.tar"), json!("g"), json!("missing image")),
        (json!("s/002.tar"), json!(null), json!("unreadable shard")),
    ];
    let expected: Vec<_> = expected.iter().map(|(a, b, c)| (a, b, c)).collect();
    assert_eq!(parts, expected);
}

#[test]
fn nothing_broken_is_status_0() {
    let room = Room::captioned(3);
    let ran = room.run(&["data", "verify", "train.csv"]).ok();
    let line = ran.stdout.lines().next().unwrap();
    assert!(
        line.starts_with("12 rows of train.csv: all 12 samples are whole, "),
        "{line}"
    );
    // Foreign members and repeated keys lose nothing.
    let picture = jpeg(8, 8, 1);
    shard(
        &room,
        "odd.tar",
        &[("README", b"x"), ("a.jpg", &picture), ("a.txt", b"x")],
    );
    let ran = room.run(&["data", "verify", "odd.tar"]).ok();
    assert!(
        ran.stdout
            .contains("shard with members of no sample  (harmless)"),
        "{}",
        ran.stdout
    );
}

#[test]
fn a_picture_file_that_is_gone_and_a_shard_that_is_torn() {
    let room = Room::captioned(1);
    std::fs::remove_file(room.path("green.png")).unwrap();
    let ran = room.run(&["data", "verify", "train.csv"]);
    assert_eq!(ran.status, 1);
    assert!(
        ran.stdout
            .starts_with("green.png: unreadable image (No such file"),
        "{}",
        ran.stdout
    );
    // The members of a do not stand together: nothing behind it can be trusted.
    let picture = jpeg(8, 8, 1);
    let torn = [
        ("a.jpg", &picture[..]),
        ("b.jpg", &picture),
        ("a.txt", b"x"),
        ("b.txt", b"y"),
    ];
    shard(&room, "torn.tar", &torn);
    let ran = room.run(&["data", "verify", "torn.tar"]);
    assert_eq!(ran.status, 1);
    assert!(
        ran.stdout
            .contains("not read to the end: torn.tar: the members of sample a"),
        "{}",
        ran.stdout
    );
}

#[test]
fn what_is_not_there_is_an_error() {
    let room = Room::empty();
    assert!(
        room.run(&["data", "verify", "absent.csv"])
            .error(1)
            .starts_with("absent.csv: ")
    );
    let error = room.run(&["data", "verify", "absent.xyz"]).error(2);
    assert!(error.contains("--dataset-type auto"), "{error}");
    let ran = room.run(&["data", "verify", "absent.tar"]);
    assert_eq!(ran.status, 1);
    assert!(
        ran.stdout.starts_with("absent.tar: unreadable shard ("),
        "{}",
        ran.stdout
    );
}
