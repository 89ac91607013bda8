#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::super::Order;
use super::super::testing::Collect;
use super::*;

const GIF: &[u8] = b"GIF89a\x01\x00\x01\x00";

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    dir
}

fn names(files: &Files) -> Vec<String> {
    let all = Collect::pass(files, &Order::sequential(), 0).unwrap();
    all.samples().map(|sample| sample.name.clone()).collect()
}

#[test]
fn a_directory_is_read_to_its_depth_and_sorted() {
    let dir = folder(&[
        ("b.JPG", b"x"),
        ("a.png", b"x"),
        ("notes.txt", b"x"),
        ("d.png/c.webp", b"x"),
        ("d.png/e/f.gif", b"x"),
        ("camera.jfif", b"x"),
        ("no_extension", GIF),
        ("jpg", b"x"),
    ]);
    let files = Files::directory(dir.path()).unwrap();
    assert_eq!(
        names(&files),
        [
            "a.png",
            "b.JPG",
            "camera.jfif",
            "d.png/c.webp",
            "d.png/e/f.gif",
            "no_extension"
        ]
    );
    assert_eq!(
        files.paths().next().unwrap(),
        dir.path().join("a.png"),
        "names are relative, paths lead to the file"
    );
    assert_eq!(files.left_out().count(Reason::NotAPicture), 2);
}

#[test]
fn what_is_left_out_is_counted_by_reason() {
    let dir = folder(&[
        ("a.png", b"x"),
        (".hidden.png", GIF),
        (".cache/b.png", GIF),
        (".cache/c.png", GIF),
        ("._a.png", b"x"),
        ("__MACOSX/a.png", GIF),
        ("sub/.DS_Store", b"x"),
        ("sub/Thumbs.db", b"x"),
        ("sub/data.json", b"{}"),
    ]);
    let files = Files::directory(dir.path()).unwrap();
    assert_eq!(names(&files), ["a.png"]);
    let left_out = files.left_out();
    let counts = [
        (Reason::NotAPicture, 1),
        (Reason::Hidden, 2),
        (Reason::System, 4),
        (Reason::Unreadable, 0),
        (Reason::Loop, 0),
    ];
    for (reason, count) in counts {
        assert_eq!(left_out.count(reason), count, "{reason}: {left_out}");
    }
    assert!(!left_out.loses_pictures());
}

#[cfg(unix)]
#[test]
fn links_are_followed_but_not_in_circles() {
    use std::os::unix::fs::symlink;
    let dir = folder(&[("set/a.png", b"x")]);
    let aside = folder(&[("b.png", b"x")]);
    symlink(aside.path(), dir.path().join("set/aside")).unwrap();
    symlink(dir.path(), dir.path().join("set/round")).unwrap();
    symlink(dir.path().join("absent.png"), dir.path().join("lost.png")).unwrap();
    symlink(dir.path().join("set/a.png"), dir.path().join("again")).unwrap();
    std::fs::write(dir.path().join("set/a.png"), GIF).unwrap();
    let files = Files::directory(dir.path()).unwrap();
    assert_eq!(names(&files), ["again", "set/a.png", "set/aside/b.png"]);
    assert_eq!(
        files.left_out().to_string(),
        "1 unreadable (lost.png), 1 link to a folder around it (set/round)"
    );
    assert!(files.left_out().loses_pictures());
}

#[test]
fn a_directory_without_images_is_an_error_that_says_what_is_there() {
    let dir = folder(&[("notes.txt", b"x"), (".git/a.png", b"x")]);
    let error = Files::directory(dir.path()).unwrap_err().to_string();
    for part in [
        dir.path().to_str().unwrap(),
        "no picture",
        "1 not a picture (notes.txt), 1 hidden (.git)",
    ] {
        assert!(error.contains(part), "{error}");
    }
    assert!(Files::directory(&dir.path().join("absent")).is_err());
}
