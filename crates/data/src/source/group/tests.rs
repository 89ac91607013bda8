#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::super::Order;
use super::*;

/// Expected values are those of `webdataset.tariterators.base_plus_ext` and its filter of meta names.
#[test]
fn names() {
    for (name, expected) in [
        ("000.jpg", Some(("000", "jpg"))),
        ("dir/000.JPG", Some(("dir/000", "jpg"))),
        ("./000.Seg.PNG", Some(("./000", "seg.png"))),
        ("a.b/c.d.e", Some(("a.b/c", "d.e"))),
        ("noext", None),
        ("a.b/noext", None),
        (".hidden", None),
        ("a/.hidden", Some(("a/", "hidden"))),
        ("a.b/.hidden", None),
        ("x.", Some(("x", ""))),
        ("__meta__", None),
        ("__meta__/a.jpg", None),
        ("__a.jpg", Some(("__a", "jpg"))),
        ("dir/__meta__/a.jpg", Some(("dir/__meta__/a", "jpg"))),
    ] {
        let expected = expected.map(|(key, suffix): (&str, &str)| (key, suffix.to_owned()));
        assert_eq!(split_name(name), expected, "{name}");
    }
}

/// The items of a group, in the first epoch.
fn items(group: Group, keys: &Keys) -> Vec<Item> {
    let order = Order::training(0, 0);
    let draw = Draw {
        order,
        pass: 0,
        shard: 0,
    };
    group.into_items(&"s.tar".into(), keys, &draw)
}

fn group(members: &[&str]) -> Vec<(String, Vec<ProblemKind>, Option<String>)> {
    let keys = Keys::default();
    let mut grouper = Grouper::new(&keys);
    let mut groups = Vec::new();
    for name in members {
        let (finished, role) = grouper.member(name);
        groups.extend(finished);
        grouper.content(role, name.as_bytes().to_vec());
    }
    groups.extend(grouper.finish());
    let one = |group: Group| {
        let key = group.key.clone();
        let (mut problems, mut image) = (Vec::new(), None);
        for item in items(group, &keys) {
            match item {
                Item::Problem(problem) => problems.push(problem.kind),
                Item::Sample(Sample {
                    image: ImageData::Encoded(bytes),
                    ..
                }) => image = String::from_utf8(bytes).ok(),
                Item::Sample(_) => {}
            }
        }
        (key, problems, image)
    };
    groups.into_iter().map(one).collect()
}

#[test]
fn grouping() {
    use ProblemKind::{DuplicateKey, MissingImage};
    let row = |key: &str, problems: &[ProblemKind], image: &str| {
        (
            key.to_owned(),
            problems.to_vec(),
            (!image.is_empty()).then(|| image.to_owned()),
        )
    };
    assert_eq!(
        group(&["a.jpg", "a.txt", "b.txt", "b.json", "b.png"]),
        [row("a", &[], "a.jpg"), row("b", &[], "b.png")]
    );
    // A repeated suffix starts another sample of the same key.
    assert_eq!(
        group(&["a.jpg", "a.txt", "a.jpg", "a.txt"]),
        [row("a", &[], "a.jpg"), row("a", &[DuplicateKey], "a.jpg")]
    );
    // jpg before png before jpeg before webp, whatever the order of the members; seg.png is no image.
    assert_eq!(
        group(&["a.webp", "a.png", "a.jpeg", "a.seg.png"]),
        [row("a", &[], "a.png")]
    );
    assert_eq!(
        group(&["a.txt", "a.seg.png", "b.jpg"]),
        [row("a", &[MissingImage], ""), row("b", &[], "b.jpg")]
    );
    // Members without key neither start nor end a sample.
    assert_eq!(
        group(&["a.jpg", "README", "__x__/y.jpg", "a.txt"]),
        [row("a", &[], "a.jpg")]
    );
    assert_eq!(group(&["README"]), []);
}

#[test]
fn a_caption_in_a_txt_member_goes_before_one_in_json() {
    let json = r#"{"caption": "in json", "similarity": NaN}"#;
    let caption = |members: &[(&str, &str)]| {
        let keys = Keys::default();
        let mut grouper = Grouper::new(&keys);
        for (name, text) in members {
            let (_, role) = grouper.member(name);
            grouper.content(role, text.as_bytes().to_vec());
        }
        match items(grouper.finish().unwrap(), &keys).pop() {
            Some(Item::Sample(sample)) => Ok(sample.caption),
            other => Err(Box::new(other)),
        }
    };
    let of = |members: &[(&str, &str)]| caption(members).unwrap();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(of(&[("a.jpg", ""), ("a.json", json)]), text("in json"));
    let both = [("a.jpg", ""), ("a.json", json), ("a.txt", "in txt")];
    assert_eq!(of(&both), text("in txt"));
    assert_eq!(of(&[both[0], both[2], both[1]]), text("in txt"));
    assert_eq!(of(&[("a.jpg", ""), ("a.json", r#"{"width": 3}"#)]), None);
    assert_eq!(of(&[("a.jpg", "")]), None);
    let broken = caption(&[("a.jpg", ""), ("a.json", "{")]).unwrap_err();
    assert!(
        matches!(broken.as_ref(), Some(Item::Problem(problem)) if problem.kind == ProblemKind::InvalidCaption),
        "{broken:?}"
    );
}

#[test]
fn suffixes_that_are_asked_for() {
    let flags = |image: &str, text: Option<&str>| {
        Keys::new(&super::super::keys::KeyOptions {
            image_key: Some(image.to_owned()),
            text_key: text.map(str::to_owned),
            needs_caption: true,
            ..Default::default()
        })
        .unwrap()
    };
    let of = |keys: &Keys, members: &[&str]| {
        let mut grouper = Grouper::new(keys);
        for name in members {
            let (_, role) = grouper.member(name);
            grouper.content(role, name.as_bytes().to_vec());
        }
        match items(grouper.finish().unwrap(), keys).pop().unwrap() {
            Item::Sample(Sample {
                image: ImageData::Encoded(bytes),
                caption,
                ..
            }) => Ok((
                String::from_utf8(bytes).unwrap(),
                caption.unwrap_or_default(),
            )),
            Item::Sample(sample) => panic!("{sample:?}"),
            Item::Problem(problem) => Err(problem.to_string()),
        }
    };
    let pair = |image: &str, caption: &str| Ok((image.to_owned(), caption.to_owned()));
    let keys = flags(" .Seg.PNG; tif", Some("caption;TXT"));
    // The earliest of the list wins in either order of the members; jpg is none of them.
    let members = ["a.txt", "a.TIF", "a.seg.png", "a.jpg", "a.Caption"];
    assert_eq!(of(&keys, &members), pair("a.seg.png", "a.Caption"));
    let reversed: Vec<&str> = members.iter().rev().copied().collect();
    assert_eq!(of(&keys, &reversed), pair("a.seg.png", "a.Caption"));
    assert_eq!(of(&keys, &["a.txt", "a.tif"]), pair("a.tif", "a.txt"));
    assert_eq!(
        of(&keys, &["a.jpg", "a.txt"]).unwrap_err(),
        "s.tar: a: missing image (no seg.png, tif; members: jpg, txt)"
    );
    assert_eq!(
        of(&keys, &["a.tif", "a.json"]).unwrap_err(),
        "s.tar: a: missing caption (no text in caption, txt; members: json, tif; those of a sample have to stand together)"
    );
}
