#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::super::testing::Collect;
use super::super::{ImageData, Order};
use super::*;

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path
}

fn pairs(spec: &Path) -> Vec<(String, Option<String>)> {
    let table = open(spec).unwrap();
    let all = Collect::pass(&table, &Order::sequential(), 0).unwrap();
    let pair = |sample: &super::super::Sample| (sample.name.clone(), sample.caption.clone());
    all.samples().map(pair).collect()
}

const COCO: &str = r#"{"info": {"year": 2017}, "licenses": [],
    "images": [{"id": 7, "file_name": "a.jpg", "width": 1}, {"id": 8, "file_name": "b.jpg"}, {"id": 9, "file_name": "c.jpg"}],
    "annotations": [{"image_id": 8, "id": 1, "caption": "b \"one\""}, {"image_id": 7, "id": 2, "caption": "a one"},
        {"image_id": 8, "id": 3, "caption": "b two"}, {"image_id": 99, "id": 4, "caption": "nobody's"}]}"#;

#[test]
fn every_annotation_is_a_sample() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "annotations/captions_train2017.json", COCO);
    let picture = write(dir.path(), "train2017/a.jpg", "x");
    let expected = [
        ("b.jpg", Some("b \"one\"")),
        ("a.jpg", Some("a one")),
        ("b.jpg", Some("b two")),
        ("c.jpg", None),
    ];
    let expected = expected.map(|(name, caption)| (name.into(), caption.map(str::to_owned)));
    assert_eq!(pairs(&path), expected);
    // The folder with but one file of captions stands for it.
    assert_eq!(pairs(dir.path()), expected);
    let all = Collect::pass(&open(&path).unwrap(), &Order::sequential(), 0).unwrap();
    let image = &all.samples().nth(1).unwrap().image;
    assert_eq!(*image, ImageData::Path(picture));
    write(dir.path(), "annotations/captions_val2017.json", COCO);
    let error = open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("captions_val2017.json"), "{error}");
}

#[test]
fn pictures_are_looked_for_in_several_places() {
    for place in [
        "train2017/a.jpg",
        "images/train2017/a.jpg",
        "images/a.jpg",
        "a.jpg",
        "annotations/train2017/a.jpg",
        "annotations/a.jpg",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), "annotations/captions_train2017.json", COCO);
        let error = open(&path).unwrap_err().to_string();
        for part in ["captions_train2017.json", ".jpg", "train2017", "images"] {
            assert!(error.contains(part), "{error}");
        }
        let picture = write(dir.path(), place, "x");
        let all = Collect::pass(&open(&path).unwrap(), &Order::sequential(), 0).unwrap();
        let image = &all.samples().nth(1).unwrap().image;
        let ImageData::Path(found) = image else {
            panic!("{image:?}");
        };
        assert_eq!(
            found.canonicalize().unwrap(),
            picture.canonicalize().unwrap()
        );
    }
}

const KARPATHY: &str = r#"{"dataset": "coco", "images": [
    {"filepath": "val2014", "sentids": [1], "filename": "a.jpg", "imgid": 0, "split": "test", "cocoid": 5,
     "sentences": [{"tokens": ["a"], "raw": "A.", "imgid": 0, "sentid": 1}, {"raw": "Again a."}]},
    {"filename": "b.jpg", "split": "train", "sentences": [{"raw": "B."}]},
    {"filename": "c.jpg", "split": "restval", "sentences": []}]}"#;

#[test]
fn a_split_is_named_behind_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "dataset_coco.json", KARPATHY);
    write(dir.path(), "images/val2014/a.jpg", "x");
    write(dir.path(), "images/b.jpg", "x");
    let of = |split: &str| PathBuf::from(format!("{}#{split}", path.display()));
    let pair = |name: &str, caption: Option<&str>| (name.to_owned(), caption.map(str::to_owned));
    assert_eq!(
        pairs(&of("test")),
        [
            pair("val2014/a.jpg", Some("A.")),
            pair("val2014/a.jpg", Some("Again a."))
        ]
    );
    assert_eq!(
        pairs(&of("train+restval")),
        [pair("b.jpg", Some("B.")), pair("c.jpg", None)]
    );
    for spec in [path.clone(), of("dev")] {
        let error = open(&spec).unwrap_err().to_string();
        assert!(error.contains("restval (1 pictures), test (1"), "{error}");
    }
}

#[test]
fn other_json_is_told_what_is_expected() {
    let dir = tempfile::tempdir().unwrap();
    for (text, words) in [
        ("[1]", "expected COCO's captions"),
        (r#"{"images": [{"id": 1}]}"#, "file_name"),
        (r#"{"images": [], "annotations": []}"#, "no captions in it"),
        ("{\"images\": [", "EOF"),
    ] {
        let path = write(dir.path(), "x.json", text);
        let error = open(&path).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("x.json"), "{error}");
    }
    let path = write(dir.path(), "captions_a.json", COCO);
    let spec = PathBuf::from(format!("{}#train", path.display()));
    assert!(open(&spec).unwrap_err().to_string().contains("no splits"));
}
