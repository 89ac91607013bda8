//! `openclip embed` on a tiny model: what is written, in which order.

use std::fs;

use crate::support::{Ran, Room, dot, read_metadata, read_npy};

const MODEL: [&str; 4] = ["--model", "tiny.json", "--pretrained", "tiny.safetensors"];

fn embed(room: &Room, more: &[&str]) -> Ran {
    let output = ["--output", "out", "--overwrite"];
    room.run(&[&["embed"], &MODEL[..], &output, more].concat())
}

fn names(room: &Room) -> Vec<String> {
    let rows = read_metadata(&room.path("out")).into_iter();
    rows.filter_map(|(name, _)| Some(name?.rsplit('/').next()?.to_owned()))
        .collect()
}

fn captions(room: &Room) -> Vec<String> {
    read_metadata(&room.path("out"))
        .into_iter()
        .filter_map(|(_, caption)| caption)
        .collect()
}

fn images(room: &Room) -> Vec<Vec<f32>> {
    read_npy(&room.path("out/img_emb/img_emb_0.npy"))
}

fn texts(room: &Room) -> Vec<Vec<f32>> {
    read_npy(&room.path("out/text_emb/text_emb_0.npy"))
}

#[test]
fn a_folder_by_name_and_a_text_file_by_line() {
    let room = Room::new();
    for (name, colour) in [
        ("c.png", [9, 9, 9]),
        ("a.png", [200, 0, 0]),
        ("B.PNG", [0, 200, 0]),
    ] {
        room.picture(&format!("set/{name}"), colour);
    }
    room.write("set/notes.txt", "no picture");
    room.write("captions.txt", "a dog\n\nein Bär\r\n");
    embed(
        &room,
        &[
            "--images",
            "set",
            "--texts",
            "captions.txt",
            "--batch-size",
            "2",
        ],
    )
    .ok();
    assert_eq!(names(&room), ["B.PNG", "a.png", "c.png"]);
    assert_eq!(captions(&room), ["a dog", "", "ein Bär"]);
    for row in images(&room).iter().chain(&texts(&room)) {
        assert_eq!(row.len(), 16);
        assert!((dot(row, row) - 1.0).abs() < 1e-5);
    }
    assert_eq!((images(&room).len(), texts(&room).len()), (3, 3));
}

#[test]
fn a_row_does_not_depend_on_its_neighbours() {
    let room = Room::new();
    room.picture("one/x.png", [200, 10, 10]);
    embed(&room, &["--images", "one"]).ok();
    let alone = images(&room).remove(0);
    room.picture("many/a.png", [1, 2, 3]);
    room.picture("many/x.png", [200, 10, 10]);
    embed(&room, &["--images", "many"]).ok();
    let beside = images(&room).remove(1);
    assert!(dot(&alone, &beside) > 1.0 - 1e-5);
}

#[test]
fn a_bad_picture_takes_its_row_along() {
    let room = Room::new();
    room.picture("set/a.png", [1, 100, 3]);
    room.write("set/b.png", "");
    room.write("set/c.png", "not a picture");
    room.picture("set/d.png", [100, 2, 3]);
    let ran = embed(&room, &["--images", "set"]).ok();
    assert_eq!(names(&room), ["a.png", "d.png"]);
    assert_eq!(images(&room).len(), 2);
    let warnings = ran
        .stderr
        .lines()
        .filter(|line| line.starts_with("warning: "))
        .collect::<Vec<_>>();
    assert_eq!(warnings.len(), 3, "{}", ran.stderr);
    assert!(
        warnings[2].contains("2 samples have no row: 2 undecodable image"),
        "{}",
        warnings[2]
    );
}

#[test]
fn only_bad_pictures_are_an_error_and_leave_no_file() {
    let room = Room::new();
    room.write("set/a.png", "");
    let error = embed(&room, &["--images", "set"]).error(1);
    assert!(error.contains("no usable sample"), "{error}");
    assert!(!room.path("out/img_emb").exists());
    // The next run begins anew.
    room.picture("set/a.png", [1, 2, 3]);
    let again = room.run(&[&["embed", "--images", "set", "--output", "out"], &MODEL[..]].concat());
    again.ok();
    assert_eq!(names(&room), ["a.png"]);
}

#[test]
fn csv_captions_are_embedded_beside_the_pictures() {
    let room = Room::new();
    room.write(
        "pairs.csv",
        "filepath\ttitle\nred.png\ta red square\nblue.png\t\ngreen.png\tgrass\n",
    );
    embed(&room, &["--images", "pairs.csv"]).ok();
    assert_eq!(names(&room), ["red.png", "blue.png", "green.png"]);
    assert_eq!(captions(&room), ["a red square", "grass"]);
    assert_eq!(images(&room).len(), 3);
    let beside = texts(&room);
    assert_eq!(beside.len(), 2);
    room.write("captions.txt", "a red square\ngrass\n");
    embed(&room, &["--texts", "captions.txt"]).ok();
    for (a, b) in beside.iter().zip(texts(&room)) {
        assert!(dot(a, &b) > 1.0 - 1e-5);
    }
}

#[test]
fn a_csv_file_without_captions_is_pictures_alone() {
    let room = Room::new();
    room.write("list.csv", "filepath\nred.png\ngreen.png\n");
    embed(&room, &["--images", "list.csv"]).ok();
    assert_eq!(names(&room), ["red.png", "green.png"]);
    assert!(!room.path("out/text_emb").exists());
    let error = embed(
        &room,
        &["--images", "list.csv", "--csv-caption-key", "words"],
    )
    .error(1);
    assert!(error.contains("no column \"words\""), "{error}");
}

#[test]
fn shards_keep_their_order() {
    let room = Room::new();
    let mut tar = tar::Builder::new(Vec::new());
    for (key, picture) in [("0002", "red"), ("0001", "blue")] {
        let png = fs::read(room.path(&format!("{picture}.png"))).unwrap();
        for (extension, bytes) in [("png", png.as_slice()), ("txt", picture.as_bytes())] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, format!("{key}.{extension}"), bytes)
                .unwrap();
        }
    }
    room.write("s-0.tar", tar.into_inner().unwrap());
    embed(&room, &["--images", "s-{0..0}.tar"]).ok();
    assert_eq!(captions(&room), ["red", "blue"]);
    assert_eq!(images(&room).len(), 2);
}

#[test]
fn inputs_that_are_not_there() {
    let room = Room::new();
    let error = embed(&room, &["--images", "absent"]).error(1);
    assert!(error.starts_with("absent: "), "{error}");
    let error = embed(&room, &["--texts", "absent.txt"]).error(1);
    assert!(error.starts_with("absent.txt: "), "{error}");
    room.write("latin.txt", b"fine\ncaf\xe9\n");
    let error = embed(&room, &["--texts", "latin.txt"]).error(1);
    assert_eq!(error, "latin.txt: line 2 is not UTF-8");
    let error = embed(&room, &["--images", "red.png"]).error(2);
    assert!(error.contains("expected a folder"), "{error}");
    assert!(!room.path("out").exists());
}

#[test]
fn partitions_together_are_one() {
    let room = Room::new();
    let mut rows = String::from("filepath\ttitle\n");
    for at in 0..7 {
        room.picture(&format!("set/{at}.png"), [at * 30, 200 - at * 20, 90]);
        rows += &format!("set/{at}.png\tpicture {at}\n");
    }
    room.write("pairs.csv", rows);
    embed(&room, &["--images", "pairs.csv"]).ok();
    let whole = (images(&room), texts(&room), names(&room));
    let parts = ["--images", "pairs.csv", "--partition-size", "3"];
    let ran = embed(&room, &parts).ok();
    assert!(
        ran.stdout
            .starts_with("7 pictures in out\n7 captions in out"),
        "{}",
        ran.stdout
    );
    let part = |kind: &str, at| read_npy(&room.path(&format!("out/{kind}/{kind}_{at}.npy")));
    let all = |kind| [0, 1, 2].map(|at| part(kind, at)).concat();
    let near = |a: &[Vec<f32>], b: &[Vec<f32>]| {
        assert_eq!(a.len(), b.len());
        assert!(a.iter().zip(b).all(|(a, b)| dot(a, b) > 1.0 - 1e-5));
    };
    near(&all("img_emb"), &whole.0);
    near(&all("text_emb"), &whole.1);
    assert_eq!(names(&room), whole.2[..3]);
    // Nothing is left to do.
    let again = room
        .run(&[&["embed", "--output", "out"], &MODEL[..], &parts].concat())
        .ok();
    assert!(
        again.stderr.contains("all of it was embedded before"),
        "{}",
        again.stderr
    );
}

#[test]
fn half_of_the_room_for_vectors() {
    let room = Room::new();
    room.write("list.csv", "filepath\nred.png\ngreen.png\n");
    embed(&room, &["--images", "list.csv"]).ok();
    let wide = images(&room);
    embed(&room, &["--images", "list.csv", "--dtype", "float16"]).ok();
    let bytes = fs::read(room.path("out/img_emb/img_emb_0.npy")).unwrap();
    assert!(String::from_utf8_lossy(&bytes[..128]).contains("'<f2'"));
    assert_eq!(bytes.len(), 128 + 2 * 2 * 16);
    let narrow: Vec<f32> = bytes[128..]
        .chunks(2)
        .map(|half| half_to_f32([half[0], half[1]]))
        .collect();
    for (narrow, wide) in narrow.iter().zip(wide.concat()) {
        assert!((narrow - wide).abs() < 1e-3, "{narrow} {wide}");
    }
}

/// A float16 number that is not subnormal.
fn half_to_f32(bytes: [u8; 2]) -> f32 {
    let bits = u32::from(u16::from_le_bytes(bytes));
    let exponent = (bits >> 10 & 31) as i32 - 15;
    let mantissa = 1.0 + (bits & 1023) as f32 / 1024.0;
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    sign * mantissa * 2f32.powi(exponent)
}

#[test]
fn shards_are_never_parted() {
    let room = Room::new();
    for shard in 0..3 {
        let mut tar = tar::Builder::new(Vec::new());
        for at in 0..2 {
            let png = fs::read(room.path("red.png")).unwrap();
            let mut header = tar::Header::new_gnu();
            header.set_size(png.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, format!("{shard}{at}.png"), png.as_slice())
                .unwrap();
        }
        room.write(&format!("s-{shard}.tar"), tar.into_inner().unwrap());
    }
    let shards = ["--images", "s-{0..2}.tar", "--partition-size", "20000"];
    embed(&room, &shards).ok();
    // Nobody says how many samples they have.
    assert_eq!(images(&room).len(), 4);
    assert_eq!(read_npy(&room.path("out/img_emb/img_emb_1.npy")).len(), 2);
}
