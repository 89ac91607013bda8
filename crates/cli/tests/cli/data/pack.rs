//! `data pack`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::{SHARDS, flawed, jpeg, members, shard};
use crate::support::Room;

/// Names and bytes of all files of a folder.
fn content(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let files = entries.map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read(path).unwrap())
    });
    files.collect()
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A CSV of so many rows over a few pictures, each row with a caption of its own.
fn rows(room: &Room, count: usize) {
    for seed in 0..5 {
        room.write(&format!("{seed}.jpg"), jpeg(160, 120, seed));
    }
    let rows: String = (0..count)
        .map(|n| format!("{}.jpg\trow {n}\n", n % 5))
        .collect();
    room.write("rows.csv", format!("filepath\ttitle\n{rows}"));
}

#[test]
fn samples_come_back_as_they_went_in() {
    let room = Room::empty();
    rows(&room, 10);
    let args = [
        "data",
        "pack",
        "rows.csv",
        "--output",
        "out",
        "--samples-per-shard",
        "4",
    ];
    let ran = room.run(&args).ok();
    let start = "shards     out/{000000..000002}.tar, 3 to 4 samples each\nsamples    10, ";
    assert!(ran.stdout.starts_with(start), "{}", ran.stdout);
    let out = room.path("out");
    let names: Vec<String> = content(&out).into_keys().collect();
    assert_eq!(
        names,
        [
            "000000.tar",
            "000001.tar",
            "000002.tar",
            "pack.json",
            "sizes.json"
        ]
    );
    let sizes = json!({"000000.tar": 4, "000001.tar": 3, "000002.tar": 3});
    assert_eq!(json_of(&out.join("sizes.json")), sizes);
    let all: Vec<_> = names[..3]
        .iter()
        .flat_map(|name| members(&out.join(name)))
        .collect();
    assert_eq!(all.len(), 30);
    for (n, sample) in all.chunks(3).enumerate() {
        let [(picture, pixels), (text, caption), (facts, json)] = sample else {
            panic!("three members")
        };
        assert_eq!(picture, &format!("{n:09}.jpg"));
        assert_eq!(text, &format!("{n:09}.txt"));
        assert_eq!(facts, &format!("{n:09}.json"));
        assert_eq!(
            pixels,
            &fs::read(room.path(&format!("{}.jpg", n % 5))).unwrap()
        );
        assert_eq!(caption, format!("row {n}").as_bytes());
        let expected = json!({
            "key": format!("{n:09}"), "source": format!("{}.jpg", n % 5), "caption": format!("row {n}"),
        });
        assert_eq!(serde_json::from_slice::<Value>(json).unwrap(), expected);
    }
    // The same again changes nothing, and what was packed can be packed and checked.
    let before = content(&out);
    let ran = room.run(&args).ok();
    assert!(
        ran.stderr.contains("note: all of it was packed before"),
        "{}",
        ran.stderr
    );
    assert_eq!(content(&out), before);
    let shards = "out/{000000..000002}.tar";
    room.run(&["data", "verify", shards]).ok();
    let again = [
        "data",
        "pack",
        shards,
        "--output",
        "again",
        "--samples-per-shard",
        "10",
    ];
    room.run(&again).ok();
    let pictures = |path: &Path| -> Vec<Vec<u8>> {
        let all = members(path).into_iter();
        all.filter(|(name, _)| !name.ends_with(".json"))
            .map(|(_, bytes)| bytes)
            .collect()
    };
    let first: Vec<_> = names[..3]
        .iter()
        .flat_map(|name| pictures(&out.join(name)))
        .collect();
    assert_eq!(pictures(&room.path("again/000000.tar")), first);
}

#[test]
fn larger_pictures_become_smaller_and_others_keep_their_bytes() {
    let room = Room::empty();
    let (large, small) = (jpeg(160, 120, 1), jpeg(60, 200, 2));
    room.picture("c.png", [20, 200, 90]);
    let png = fs::read(room.path("c.png")).unwrap();
    let pictures: [(&str, &[u8]); 6] = [
        ("a.jpg", &large),
        ("a.txt", b"large"),
        ("b.jpg", &small),
        ("b.txt", b"small"),
        ("c.png", &png),
        ("c.txt", b"png"),
    ];
    shard(&room, "in.tar", &pictures);
    let ran = room
        .run(&[
            "data", "pack", "in.tar", "--output", "out", "--resize", "60",
        ])
        .ok();
    assert!(ran.stdout.contains("resized    1\n"), "{}", ran.stdout);
    let all: BTreeMap<_, _> = members(&room.path("out/000000.tar")).into_iter().collect();
    let smaller = &all["000000000.jpg"];
    assert_eq!(
        (&all["000000001.jpg"], &all["000000002.png"]),
        (&small, &png)
    );
    room.write("smaller.jpg", smaller);
    room.write("one.csv", "filepath\ttitle\nsmaller.jpg\tx\n");
    let found = room
        .run(&["data", "inspect", "one.csv", "--json"])
        .ok()
        .json();
    assert_eq!(found["shorter_side"]["most"], 60.0);
    assert_eq!(found["aspect"]["most"], 80.0 / 60.0);
    let facts: Value = serde_json::from_slice(&all["000000000.json"]).unwrap();
    let size = (&facts["original_width"], &facts["original_height"]);
    assert_eq!(size, (&json!(160), &json!(120)));
}

#[test]
fn what_is_left_out_is_counted_by_reason() {
    let room = flawed();
    let args = [
        "data", "pack", SHARDS, "--output", "out", "--dedup", "--resize", "500",
    ];
    let ran = room.run(&args).ok();
    for part in [
        "samples    4, ",
        "no caption 1\n",
        "repeated   1, left out\n",
        "           1  undecodable image\n",
        "           1  missing image\n",
        "           1  unreadable shard\n",
    ] {
        assert!(
            ran.stdout.contains(part),
            "{part} is not in\n{}",
            ran.stdout
        );
    }
    let names: Vec<String> = members(&room.path("out/000000.tar"))
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    // a, b, d without a caption, and f: the picture of a with another text. e is a once more.
    let expected = [
        "000000000.jpg",
        "000000000.txt",
        "000000000.json",
        "000000001.png",
        "000000001.txt",
        "000000001.json",
        "000000002.jpg",
        "000000002.json",
        "000000003.jpg",
        "000000003.txt",
        "000000003.json",
    ];
    assert_eq!(names, expected);
    // Without --resize nothing is decoded, and without --dedup everything stays.
    let ran = room.run(&["data", "pack", SHARDS, "--output", "all"]).ok();
    assert!(
        ran.stdout.contains("samples    6, ") && !ran.stdout.contains("undecodable"),
        "{}",
        ran.stdout
    );
}

#[test]
fn folders_with_something_else_are_refused() {
    let room = Room::empty();
    rows(&room, 10);
    let pack = |more: &[&str]| {
        let args = ["data", "pack", "rows.csv", "--output", "out"];
        room.run(&[&args[..], more].concat())
    };
    room.write("out/notes.txt", "mine");
    let error = pack(&[]).error(1);
    assert!(
        error.starts_with("out: there is notes.txt in it"),
        "{error}"
    );
    fs::remove_file(room.path("out/notes.txt")).unwrap();
    pack(&["--samples-per-shard", "4"]).ok();
    let error = pack(&["--samples-per-shard", "5"]).error(1);
    assert!(
        error.contains("another pack") && error.contains("--samples-per-shard 4"),
        "{error}"
    );
    let error = pack(&["--samples-per-shard", "4", "--dedup"]).error(1);
    assert!(error.contains("--dedup false"), "{error}");
    rows(&room, 11);
    let error = pack(&["--samples-per-shard", "4"]).error(1);
    assert!(error.contains("other samples"), "{error}");
    let empty = room
        .run(&["data", "pack", "absent.tar", "--output", "none"])
        .error(1);
    assert!(
        empty.contains("no usable sample") && empty.contains("unreadable shard"),
        "{empty}"
    );
    assert_eq!(
        room.run(&["data", "pack", "rows.csv"]).status,
        2,
        "no --output"
    );
    assert_eq!(pack(&["--quality", "0"]).status, 2);
}

/// Kills a pack after every few shards, and holds what it ends with against one that was left alone.
fn kill_and_compare(room: &Room, data: &str, more: &[&str]) {
    let args = |output| {
        [
            &[
                "data",
                "pack",
                data,
                "--samples-per-shard",
                "5",
                "--output",
                output,
            ],
            more,
        ]
        .concat()
    };
    let _ = fs::remove_dir_all(room.path("straight"));
    let _ = fs::remove_dir_all(room.path("killed"));
    room.run(&args("straight")).ok();
    let killed = room.path("killed");
    let shards = || {
        let names = fs::read_dir(&killed).into_iter().flatten().flatten();
        names
            .filter(|entry| entry.path().extension().is_some_and(|end| end == "tar"))
            .count()
    };
    let mut kills = 0;
    for round in 0..6 {
        let before = shards();
        let mut command = room.command(&args("killed"));
        let mut child: Child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while shards() < before + 2 && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(300));
        }
        std::thread::sleep(Duration::from_micros(700 * round));
        kills += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(kills >= 3, "it was killed {kills} times alone");
    let ran = room.run(&args("killed")).ok();
    assert!(
        ran.stderr.contains("note: went on behind "),
        "{}",
        ran.stderr
    );
    let (straight, killed) = (content(&room.path("straight")), content(&killed));
    assert!(straight.keys().eq(killed.keys()), "{:?}", killed.keys());
    for (name, bytes) in &straight {
        assert!(bytes == &killed[name], "{name} differs");
    }
}

#[test]
fn a_pack_that_is_killed_goes_on_to_the_same_bytes() {
    let room = Room::empty();
    rows(&room, 600);
    kill_and_compare(&room, "rows.csv", &["--resize", "40"]);
    kill_and_compare(&room, "rows.csv", &[]);
    // Shards cannot be jumped in; every picture is there twice, and a broken one and one too many between.
    let picture = jpeg(64, 48, 3);
    let mut all = Vec::new();
    for n in 0..400 {
        all.push((format!("{n:03}.jpg"), picture.clone()));
        all.push((
            format!("{n:03}.txt"),
            format!("text {}", n % 200).into_bytes(),
        ));
        if n % 50 == 7 {
            all.push((format!("x{n}.txt"), b"no picture".to_vec()));
        }
    }
    let all: Vec<_> = all
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    shard(&room, "twice.tar", &all);
    kill_and_compare(&room, "twice.tar", &["--dedup"]);
    let pack = json_of(&room.path("killed/pack.json"));
    assert_eq!(
        (&pack["samples"], &pack["repeated"]),
        (&json!(200), &json!(200))
    );
    assert_eq!(pack["problems"][0]["count"], 8);
}

#[test]
fn a_csv_without_captions_is_packed_and_verify_refuses_it() {
    let room = Room::empty();
    room.write("0.jpg", jpeg(160, 120, 0));
    room.write("rows.csv", "filepath\n0.jpg\n");
    let args = ["data", "pack", "rows.csv", "--output", "out"];
    let ran = room.run(&args).ok();
    assert!(ran.stdout.contains("no caption 1\n"), "{}", ran.stdout);
    let found = room.run(&["data", "inspect", "rows.csv", "--json"]).ok();
    assert_eq!(found.json()["without_caption"], 1);
    room.run(&["data", "verify", "rows.csv"]).error(1);
}

#[test]
fn shards_of_the_same_names_elsewhere_are_other_data() {
    let room = Room::empty();
    for (folder, seed) in [("a", 1), ("b", 2)] {
        shard(
            &room,
            &format!("{folder}/0.tar"),
            &[("x.jpg", &jpeg(40, 30, seed))],
        );
    }
    let pack = |data| room.run(&["data", "pack", data, "--output", "out"]);
    pack("a/0.tar").ok();
    let error = pack("b/0.tar").error(1);
    assert!(
        error.contains("made with the data \"1 shards (a/0.tar)\""),
        "{error}"
    );
}
