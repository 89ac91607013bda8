//! CSV, tar archives and class folders.

use std::fs;

use crate::support::{Ran, Room, read_npy};

const WEIGHTS: [&str; 6] = [
    "--model",
    "tiny.json",
    "--pretrained",
    "tiny.safetensors",
    "--device",
    "cpu",
];

fn train(room: &Room, data: &str, args: &[&str]) -> Ran {
    let fixed = [
        "train",
        "--model",
        "tiny.json",
        "--device",
        "cpu",
        "--batch-size",
        "2",
        "--epochs",
        "1",
        "--workers",
        "1",
        "--logs",
        "logs",
        "--name",
        "run",
        "--log-every-n-steps",
        "1",
        "--train-data",
        data,
    ];
    room.run(&[&fixed, args].concat())
}

fn steps(room: &Room) -> usize {
    let journal = fs::read_to_string(room.path("logs/run/train.jsonl")).unwrap();
    journal.lines().count()
}

fn embed(room: &Room, images: &str) -> Ran {
    room.run(
        &[
            &["embed"],
            &WEIGHTS[..],
            &["--images", images, "--output", "out"],
        ]
        .concat(),
    )
}

fn rows(room: &Room) -> (usize, usize) {
    let rows = |name: &str| read_npy(&room.path("out").join(name)).len();
    (
        rows("img_emb/img_emb_0.npy"),
        rows("text_emb/text_emb_0.npy"),
    )
}

/// An archive of these members.
fn archive(members: &[(&str, &[u8])]) -> tar::Builder<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, *bytes).unwrap();
    }
    archive
}

/// The three pictures of a room, each as a member and its caption, in the order of the names.
fn members(room: &Room) -> Vec<(String, Vec<u8>)> {
    let names = ["blue", "green", "red"].iter();
    let pair = |name: &&str| {
        let image = fs::read(room.path(&format!("{name}.png"))).unwrap();
        let text = format!("a {name} picture").into_bytes();
        [
            (format!("{name}.png"), image),
            (format!("{name}.txt"), text),
        ]
    };
    names.flat_map(pair).collect()
}

fn borrowed(members: &[(String, Vec<u8>)]) -> Vec<(&str, &[u8])> {
    let borrow = |(name, bytes)| -> (&str, &[u8]) { (name, bytes) };
    members
        .iter()
        .map(|(name, bytes)| borrow((name.as_str(), bytes.as_slice())))
        .collect()
}

#[test]
fn an_open_quote_swallowed_the_rest_of_the_table() {
    let room = Room::captioned(2);
    let table = fs::read_to_string(room.path("train.csv")).unwrap();
    let broken = table.replacen("a blue picture", "\"a blue picture", 1);
    room.write("open.csv", &broken);
    let error = train(&room, "open.csv", &[]).error(1);
    assert!(
        error.contains("open.csv") && error.contains("line 4: the quote"),
        "{error}"
    );
    let error = room
        .run(&["eval", "--model", "tiny.json", "--val-data", "open.csv"])
        .error(1);
    assert!(error.contains("line 4: the quote"), "{error}");
    // It closes three rows later.
    let mut closed = broken.clone();
    closed.insert(broken.rfind(" picture\nblue").unwrap(), '"');
    room.write("closed.csv", closed);
    let error = train(&room, "closed.csv", &[]).error(1);
    assert!(
        error.contains("line 4: the quote") && error.contains("rows"),
        "{error}"
    );
}

#[test]
fn utf_16_and_lists_of_tables_were_not_read() {
    let room = Room::captioned(2);
    let table = fs::read_to_string(room.path("train.csv")).unwrap();
    for order in [u16::to_le_bytes, u16::to_be_bytes] {
        let units = std::iter::once(0xfeff).chain(table.encode_utf16());
        room.write("wide.csv", units.flat_map(order).collect::<Vec<u8>>());
        let _ = fs::remove_dir_all(room.path("logs"));
        train(&room, "wide.csv", &[]).ok();
        assert_eq!(steps(&room), 4);
    }
    room.write(
        "other.tsv",
        "title\tfilepath\na red one\tred.png\nanother\tblue.png\n",
    );
    let _ = fs::remove_dir_all(room.path("logs"));
    train(&room, "train.csv::other.tsv", &[]).ok();
    assert_eq!(steps(&room), 5);
}

#[test]
fn members_apart_were_dropped_in_silence() {
    let room = Room::new();
    let mut members = members(&room);
    members.sort_by_key(|(name, _)| name.ends_with(".txt"));
    let bytes = archive(&borrowed(&members)).into_inner().unwrap();
    room.write("apart.tar", bytes);
    let trained = train(&room, "apart.tar", &["--train-num-samples", "3"]).error(1);
    let embedded = embed(&room, "apart.tar").error(1);
    for error in [trained, embedded] {
        assert!(
            error.contains("apart.tar") && error.contains("blue") && error.contains("--sort=name"),
            "{error}"
        );
    }
}

#[test]
fn what_macos_puts_between_members_tore_samples_apart() {
    let room = Room::new();
    let mut all = Vec::new();
    for (name, bytes) in members(&room) {
        all.push((format!("photos/._{name}"), b"Mac OS X".to_vec()));
        all.push((format!("photos/{name}"), bytes));
    }
    room.write("mac.tar", archive(&borrowed(&all)).into_inner().unwrap());
    let said = embed(&room, "mac.tar").ok().stderr;
    assert_eq!(rows(&room), (3, 3));
    assert!(
        said.contains("6 hidden") && said.contains("photos/._blue.png"),
        "{said}"
    );
}

#[test]
fn archives_behind_one_another_ended_with_the_first() {
    let room = Room::new();
    let members = members(&room);
    let members = borrowed(&members);
    let first = archive(&members[..2]).into_inner().unwrap();
    let second = archive(&members[2..]).into_inner().unwrap();
    room.write("both.tar", [first, second].concat());
    let said = embed(&room, "both.tar").ok().stderr;
    assert_eq!(rows(&room), (3, 3));
    assert!(!said.contains("warning"), "{said}");
}

#[test]
fn an_archive_without_its_end_mark_was_taken_for_whole() {
    let room = Room::new();
    let members = members(&room);
    let mut bytes = archive(&borrowed(&members)).into_inner().unwrap();
    bytes.truncate(bytes.len() - 1024);
    room.write("cut.tar", bytes);
    let said = embed(&room, "cut.tar").ok().stderr;
    assert_eq!(rows(&room), (3, 3));
    assert!(
        said.contains("cut.tar") && said.contains("no end mark"),
        "{said}"
    );
}

#[cfg(unix)]
#[test]
fn pipes_were_refused() {
    let room = Room::new();
    let members = members(&room);
    let bytes = archive(&borrowed(&members)).into_inner().unwrap();
    let status = std::process::Command::new("mkfifo")
        .arg(room.path("pipe.tar"))
        .status();
    assert!(status.unwrap().success());
    let write = |path| {
        let bytes = bytes.clone();
        std::thread::spawn(move || fs::write(path, bytes))
    };
    let writer = write(room.path("pipe.tar"));
    embed(&room, "pipe.tar").ok();
    assert_eq!(rows(&room), (3, 3));
    writer.join().unwrap().unwrap();
    // A run that has what it needs does not wait for another writer.
    let writer = write(room.path("pipe.tar"));
    train(&room, "pipe.tar", &["--train-num-samples", "2"]).ok();
    assert_eq!(steps(&room), 1);
    // The reader may have left before all was written.
    let _ = writer.join().unwrap();
}

#[test]
fn folders_that_are_no_classes_were_counted() {
    let room = Room::new();
    for (class, name) in [
        ("cat", "red"),
        ("dog", "green"),
        (".ipynb_checkpoints", "red"),
    ] {
        fs::create_dir_all(room.path("photos").join(class)).unwrap();
        let target = room.path("photos").join(class).join("0.png");
        fs::copy(room.path(&format!("{name}.png")), target).unwrap();
    }
    for empty in ["owl", "__MACOSX", "lost+found"] {
        fs::create_dir_all(room.path("photos").join(empty)).unwrap();
    }
    let args = [&["eval"], &WEIGHTS[..], &["--zeroshot", "photos", "--json"]].concat();
    let ran = room.run(&args).ok();
    assert!(ran.json()["zeroshot-top5"] == 1.0, "{}", ran.stdout);
    for words in [
        "passed over, since they are no classes: .ipynb_checkpoints, __MACOSX, lost+found",
        "1 of 3 classes have no image: owl",
    ] {
        assert!(ran.stderr.contains(words), "{}", ran.stderr);
    }
}

#[test]
fn wordnet_ids_were_used_as_class_names() {
    let room = Room::new();
    for class in ["n02123159", "n02123394", "n99999999", "n02123045"] {
        fs::create_dir_all(room.path("photos").join(class)).unwrap();
        let target = room.path("photos").join(class).join("0.png");
        fs::copy(room.path("red.png"), target).unwrap();
    }
    for flag in ["--zeroshot", "--imagenet-val"] {
        let args = [&["eval"], &WEIGHTS[..], &[flag, "photos"]].concat();
        let said = room.run(&args).ok().stderr;
        for words in [
            "n02123045 tabby cat, n02123159 tiger cat, n02123394 Persian cat",
            "n99999999",
        ] {
            assert!(said.contains(words), "{said}");
        }
    }
}
