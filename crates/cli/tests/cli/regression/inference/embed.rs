//! What `embed` reads, leaves out and writes.

use super::{bytes, run, tar, told};
use crate::support::{Ran, Room, dot, read_metadata, read_npy};

fn embed(room: &Room, more: &[&str]) -> Ran {
    run(room, "embed", &[&["--output", "out"], more].concat())
}

fn rows(room: &Room) -> Vec<(String, Option<String>)> {
    let rows = read_metadata(&room.path("out")).into_iter();
    rows.map(|(name, caption)| (name.unwrap(), caption))
        .collect()
}

fn names(room: &Room) -> Vec<String> {
    rows(room).into_iter().map(|(name, _)| name).collect()
}

fn images(room: &Room) -> Vec<Vec<f32>> {
    read_npy(&room.path("out/img_emb/img_emb_0.npy"))
}

fn texts(room: &Room) -> Vec<Vec<f32>> {
    read_npy(&room.path("out/text_emb/text_emb_0.npy"))
}

#[test]
fn pictures_in_folders_below_and_of_other_names_were_passed_over() {
    let room = Room::new();
    let png = bytes(&room, "red.png");
    for name in [
        "set/2024/a/1.png",
        "set/2024/b/1.png",
        "set/camera.jfif",
        "set/moving.gif",
        "set/no_extension",
        "set/odd.jpg_large",
        "set/.hidden.png",
        "set/.cache/1.png",
        "set/._camera.jfif",
        "set/__MACOSX/1.png",
    ] {
        room.write(name, &png);
    }
    room.write("set/notes.txt", "no picture");
    let ran = embed(&room, &["--images", "set"]).ok();
    let expected = [
        "2024/a/1.png",
        "2024/b/1.png",
        "camera.jfif",
        "moving.gif",
        "no_extension",
        "odd.jpg_large",
    ];
    assert_eq!(names(&room), expected);
    assert_eq!(images(&room).len(), expected.len());
    let notes = told(&ran, "note");
    for part in [
        "1 not a picture (notes.txt)",
        "2 hidden",
        "2 left there by macOS",
    ] {
        assert!(notes[0].contains(part), "{notes:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_link_that_leads_back_is_no_endless_walk() {
    let room = Room::new();
    room.picture("set/a.png", [1, 2, 3]);
    std::os::unix::fs::symlink("..", room.path("set/round")).unwrap();
    let ran = embed(&room, &["--images", "set"]).ok();
    assert!(!names(&room).is_empty());
    assert!(
        told(&ran, "warning")[0].contains("link to a folder around it"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_shard_without_captions_got_a_text_row_for_every_picture() {
    let room = Room::new();
    let (red, blue) = (bytes(&room, "red.png"), bytes(&room, "blue.png"));
    tar(&room, "s.tar", &[("0.png", &red), ("1.png", &blue)]);
    let ran = embed(&room, &["--images", "s.tar"]).ok();
    assert_eq!(ran.stdout, "2 pictures in out\n");
    assert_eq!(rows(&room), [("0".into(), None), ("1".into(), None)]);
    assert!(!room.path("out/text_emb").exists());
    assert!(
        told(&ran, "note")[0].contains("no captions"),
        "{}",
        ran.stderr
    );
}

#[test]
fn captions_in_json_were_not_read() {
    let room = Room::new();
    let red = bytes(&room, "red.png");
    let members: [(&str, &[u8]); 7] = [
        ("0.png", &red),
        ("0.json", br#"{"caption": "ein Bar", "score": NaN}"#),
        ("1.json", br#"{"caption": "not this"}"#),
        ("1.png", &red),
        ("1.txt", b"but this"),
        ("2.png", &red),
        ("2.json", br#"{"caption": null}"#),
    ];
    tar(&room, "s.tar", &members);
    let ran = embed(&room, &["--images", "s.tar"]).ok();
    let caption = |text: &str| Some(text.to_owned());
    assert_eq!(
        rows(&room),
        [
            ("0".into(), caption("ein Bar")),
            ("1".into(), caption("but this")),
            ("2".into(), None)
        ]
    );
    assert!(told(&ran, "warning")[0].starts_with("1 of 3 pictures have no caption"));
    let found = texts(&room);
    room.write("texts.txt", "\u{feff}ein Bar\r\nbut this\r\n");
    let again = ["--texts", "texts.txt", "--overwrite"];
    embed(&room, &again).ok();
    let wanted = texts(&room);
    assert_eq!((found.len(), wanted.len()), (2, 2));
    for (found, wanted) in found.iter().zip(&wanted) {
        assert!(dot(found, wanted) > 1.0 - 1e-5);
    }
}

#[test]
fn a_picture_without_a_caption_had_the_row_of_an_empty_text() {
    let room = Room::new();
    room.write(
        "pairs.csv",
        "filepath\ttitle\nred.png\t\nblue.png\ta blue square\n",
    );
    embed(&room, &["--images", "pairs.csv"]).ok();
    assert_eq!(
        rows(&room),
        [
            ("red.png".into(), None),
            ("blue.png".into(), Some("a blue square".into()))
        ]
    );
    assert_eq!((images(&room).len(), texts(&room).len()), (2, 1));
}

#[test]
fn a_column_of_captions_that_is_not_there_went_without_a_word() {
    let room = Room::new();
    room.write("pairs.csv", "filepath\twords\nred.png\ta red square\n");
    let ran = embed(&room, &["--images", "pairs.csv"]).ok();
    let note = &told(&ran, "note")[0];
    assert!(
        note.contains("no column of captions") && note.contains("--csv-caption-key"),
        "{note}"
    );
}

#[test]
fn a_second_run_mixed_with_the_first() {
    let room = Room::new();
    room.write("pairs.csv", "filepath\ttitle\nred.png\tred\n");
    embed(&room, &["--images", "pairs.csv"]).ok();
    let first = images(&room);
    room.picture("set/a.png", [9, 9, 9]);
    let error = embed(&room, &["--images", "set"]).error(1);
    assert!(
        error.starts_with("out: holds embeddings of an earlier run")
            && error.contains("--overwrite"),
        "{error}"
    );
    let error = embed(&room, &["--texts", "pairs.csv"]).error(1);
    assert!(error.contains("earlier run"), "{error}");
    assert_eq!((images(&room), texts(&room).len()), (first, 1));

    embed(&room, &["--images", "set", "--overwrite"]).ok();
    assert_eq!(rows(&room), [("a.png".into(), None)]);
    assert!(!room.path("out/text_emb/text_emb_0.npy").exists());

    // A run that fails leaves what is there.
    room.write("bad/a.png", "");
    embed(&room, &["--images", "bad", "--overwrite"]).error(1);
    assert_eq!(names(&room), ["a.png"]);
}

#[test]
fn pictures_alone_asked_for_a_tokenizer() {
    let room = Room::new();
    let config = String::from_utf8(bytes(&room, "tiny.json")).unwrap();
    let absent = "\"vocab_size\": 49408, \"hf_tokenizer_name\": \"nobody/nothing\"";
    room.write("tiny.json", config.replace("\"vocab_size\": 49408", absent));
    let red = bytes(&room, "red.png");
    tar(&room, "s.tar", &[("0.png", &red)]);
    room.write("set/a.png", &red);
    let offline = |images: &str| {
        let args = [
            &["embed"],
            &super::WEIGHTS[..],
            &["--output", "out", "--overwrite", "--images", images],
        ]
        .concat();
        let output = room.command(&args).env("HF_HUB_OFFLINE", "1").output();
        Ran::from(output.unwrap())
    };
    for images in ["set", "s.tar"] {
        offline(images).ok();
        assert_eq!(super::embed::images(&room).len(), 1);
    }
    tar(&room, "c.tar", &[("0.png", &red), ("0.txt", b"red")]);
    let error = offline("c.tar").error(1);
    assert!(error.contains("nobody/nothing"), "{error}");
}
