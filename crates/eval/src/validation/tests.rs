#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::fs;

use openclip_data::source::Item;
use openclip_data::source::table::Table;

use super::*;

fn folders(root: &Path, names: impl IntoIterator<Item = String>) {
    for name in names {
        fs::create_dir_all(root.join(&name)).unwrap();
        fs::write(root.join(&name).join("a.JPEG"), b"x").unwrap();
    }
}

/// The name of the class that each picture counts as, by its folder.
fn classes(set: &ZeroShot) -> Vec<(String, String)> {
    let pair = |index| {
        let Item::Sample(sample) = set.folder.item(index) else {
            panic!("no sample")
        };
        let folder = Path::new(&sample.name).parent().unwrap();
        let folder = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let class = set.prompts.classes[sample.label.unwrap()].clone();
        (folder, class)
    };
    (0..set.folder.len()).map(pair).collect()
}

#[test]
fn a_part_of_imagenet_is_scored_among_its_own_classes() {
    let dir = tempfile::tempdir().unwrap();
    let ids = ["n02123394", "n01498041", "n15075141"];
    folders(dir.path(), ids.map(str::to_owned));
    let set = ZeroShot::open("imagenet-zeroshot-val", dir.path(), None).unwrap();
    assert_eq!(
        set.prompts.classes,
        ["stingray", "Persian cat", "toilet paper"]
    );
    assert_eq!(set.prompts.templates.len(), 80);
    let expected = [
        ("n01498041", "stingray"),
        ("n02123394", "Persian cat"),
        ("n15075141", "toilet paper"),
    ];
    let expected = expected.map(|(id, name)| (id.to_owned(), name.to_owned()));
    assert_eq!(classes(&set), expected);
}

/// As `imagenetv2_pytorch` labels its pictures: by the number that the folder is named by.
#[test]
fn folders_of_the_second_version_are_classes_by_number() {
    let dir = tempfile::tempdir().unwrap();
    let names = Prompts::imagenet().unwrap().classes;
    let check = |set: &ZeroShot| {
        let found = classes(set);
        assert_eq!(found.len(), 1000);
        for (folder, class) in found {
            assert_eq!(class, names[folder.parse::<usize>().unwrap()], "{folder}");
        }
    };
    let numbers = || (0..1000).map(|class| class.to_string());
    for place in [
        "",
        "ImageNetV2-matched-frequency",
        "imagenetv2-matched-frequency-format-val",
    ] {
        let root = dir.path().join(format!("at-{place}"));
        folders(&root.join(place), numbers());
        let set = ZeroShot::imagenet_v2(&root, None).unwrap();
        assert_eq!(set.name, "imagenetv2-zeroshot-val");
        check(&set);
    }
    // The same folders where ImageNet's are expected: as words they stand in another order.
    let root = dir.path().join("at-");
    check(&ZeroShot::open("imagenet-zeroshot-val", &root, None).unwrap());
    folders(&root, ["1000".to_owned()]);
    let error = ZeroShot::imagenet_v2(&root, None)
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("\"1000\"") && error.contains("0 to 999"),
        "{error}"
    );
}

#[test]
fn files_beside_the_folders_name_the_classes() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("train");
    folders(&root, ["a", "b"].map(str::to_owned));
    let found = || {
        let prompts = ZeroShot::open("set", &root, None).unwrap().prompts;
        (prompts.classes.join(" "), prompts.templates.len())
    };
    assert_eq!(found(), ("a b".into(), 80));
    // Above a part of a set, and in the folder itself, which comes first.
    fs::write(dir.path().join("classnames.txt"), "ape\nbee\n").unwrap();
    let templates = "zeroshot_classification_templates.txt";
    fs::write(dir.path().join(templates), "one {c}\n").unwrap();
    assert_eq!(found(), ("ape bee".into(), 1));
    fs::write(root.join("classnames.txt"), "ant\nbat\n").unwrap();
    assert_eq!(found(), ("ant bat".into(), 1));
    fs::write(root.join("classnames.txt"), "ant\n").unwrap();
    let error = ZeroShot::open("set", &root, None).err().unwrap();
    let error = error.to_string();
    assert!(
        error.contains("2 class folders for 1 class names"),
        "{error}"
    );
    // What is above another folder is another set's.
    let other = dir.path().join("pets");
    folders(&other, ["a", "b"].map(str::to_owned));
    let set = ZeroShot::open("set", &other, None).unwrap();
    assert_eq!(set.prompts.classes, ["a", "b"]);
}
