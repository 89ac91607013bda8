//! `eval --dataset`: CLIP_benchmark's tasks, files and tables.

mod finetuned;
mod many;

use std::fs;

use serde_json::Value;

use crate::support::{Ran, Room};

const COLOURS: [(&str, [u8; 3]); 3] = [
    ("red", [220, 20, 30]),
    ("green", [10, 200, 40]),
    ("blue", [30, 40, 210]),
];

/// Runs `eval` with the room's model.
fn eval(room: &Room, more: &[&str]) -> Ran {
    let weights = [
        "eval",
        "--model",
        "tiny.json",
        "--pretrained",
        "tiny.safetensors",
    ];
    room.run(&[&weights[..], more].concat())
}

/// Two pictures of each colour in folders of their own below `dir`.
fn folders(room: &Room, dir: &str) {
    for (name, colour) in COLOURS {
        for copy in 0..2_u8 {
            let colour = colour.map(|value| value.saturating_add(copy * 9));
            room.picture(&format!("{dir}/{name}_thing/{copy}.png"), colour);
        }
    }
}

fn names(room: &Room, dir: &str) {
    room.write(&format!("{dir}/classnames.txt"), "blue\ngreen\nred\n");
    room.write(
        &format!("{dir}/zeroshot_classification_templates.txt"),
        "a photo of {c}.\n{c}\n",
    );
}

fn record(room: &Room, name: &str) -> Value {
    let text = fs::read(room.path("out").join(name));
    let text = text.unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_slice(&text).unwrap()
}

/// Lines of stderr with a label.
fn told<'a>(ran: &'a Ran, label: &str) -> Vec<&'a str> {
    let lines = ran.stderr.lines();
    lines.filter_map(|line| line.strip_prefix(label)).collect()
}

fn share(record: &Value, metric: &str) -> f64 {
    let value = record["metrics"][metric].as_f64();
    let value = value.unwrap_or_else(|| panic!("{metric} in {record}"));
    assert!((0.0..=1.0).contains(&value), "{metric} in {record}");
    value
}

/// A tar of members.
fn tar(room: &Room, name: &str, members: &[(String, Vec<u8>)]) {
    let mut tar = tar::Builder::new(Vec::new());
    for (member, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, member, &bytes[..]).unwrap();
    }
    room.write(name, tar.into_inner().unwrap());
}

/// Members of three samples: a picture and `found` of each.
fn samples(room: &Room, suffix: &str, found: [&[u8]; 3]) -> Vec<(String, Vec<u8>)> {
    let pictures = COLOURS.iter().zip(found).enumerate();
    pictures
        .flat_map(|(at, ((name, _), found))| {
            let picture = fs::read(room.path(&format!("{name}.png"))).unwrap();
            let key = format!("s{at:07}");
            [
                (format!("{key}.png"), picture),
                (format!("{key}.{suffix}"), found.to_vec()),
            ]
        })
        .collect()
}

fn npy(values: [i64; 3]) -> Vec<u8> {
    let header = "{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }\n";
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

#[test]
fn a_result_has_clip_benchmarks_name_and_keys() {
    let room = Room::new();
    folders(&room, "sets/pets");
    names(&room, "sets/pets");
    let ask = ["--dataset", "sets/pets", "--output", "out"];
    eval(&room, &ask).ok();
    let name = "sets_pets_tiny.safetensors_tiny.json_en_zeroshot_classification.json";
    let found = record(&room, name);
    for (key, value) in [
        ("dataset", "sets/pets"),
        ("model", "tiny.json"),
        ("pretrained", "tiny.safetensors"),
        ("task", "zeroshot_classification"),
        ("language", "en"),
    ] {
        assert_eq!(found[key], value, "{found}");
    }
    let accuracy = share(&found, "acc1");
    share(&found, "mean_per_class_recall");
    assert!(found["metrics"]["acc5"].is_null(), "three classes: {found}");
    let interval = found["intervals"]["acc1"].as_array().unwrap();
    let [low, high] = [0, 1].map(|side| interval[side].as_f64().unwrap());
    assert!(low <= accuracy && accuracy <= high, "{found}");

    // A whole result is left alone; half of one is none.
    let path = room.path("out").join(name);
    let before = fs::read(&path).unwrap();
    let skip = [&ask[..], &["--skip-existing"]].concat();
    let ran = eval(&room, &skip).ok();
    assert!(
        ran.stderr.contains("left out") && ran.stdout.is_empty(),
        "{}",
        ran.stderr
    );
    fs::write(&path, &before[..before.len() / 2]).unwrap();
    let ran = eval(&room, &skip).ok();
    let warned = told(&ran, "warning: ");
    assert!(
        warned.len() == 1
            && warned[0].contains("half written")
            && warned[0].contains("measured again"),
        "{warned:?}"
    );
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn retrieval_of_a_table_counts_any_caption() {
    let room = Room::new();
    let mut rows = String::from("image,caption\n");
    for k in 0..4 {
        for (name, _) in COLOURS {
            rows += &format!("{name}.png,\"a {name} square, seen {k} times\"\n");
        }
    }
    room.write("flickr.csv", rows);
    let ask = [
        "--dataset",
        "flickr.csv",
        "--task",
        "zeroshot_retrieval",
        "--output",
        "out",
    ];
    eval(&room, &[&ask[..], &["--recall-k", "1", "5", "10"]].concat()).ok();
    let name = "flickr.csv_tiny.safetensors_tiny.json_en_zeroshot_retrieval.json";
    let found = record(&room, name);
    for direction in ["image", "text"] {
        let at = |k| share(&found, &format!("{direction}_retrieval_recall@{k}"));
        assert!(at(1) <= at(5) && at(5) <= at(10), "{found}");
    }
    // Of three pictures every one is among five.
    assert_eq!(share(&found, "image_retrieval_recall@5"), 1.0);
    assert_eq!(found["metrics"].as_object().unwrap().len(), 6);
    // The older flags see the same pairs.
    let other = eval(
        &room,
        &["--val-data", "flickr.csv", "--csv-separator", ",", "--json"],
    );
    let other = other.ok().json();
    for metric in ["image_retrieval_recall@1", "text_retrieval_recall@1"] {
        assert_eq!(other[metric], found["metrics"][metric]);
    }
}

#[test]
fn tars_in_clip_benchmarks_layout() {
    let room = Room::new();
    let classes = samples(&room, "cls", [b"2", b"1", b"0"]);
    tar(&room, "root/wds_vtab-pets/test/0.tar", &classes[..4]);
    tar(&room, "root/wds_vtab-pets/test/1.tar", &classes[4..]);
    room.write("root/wds_vtab-pets/test/nshards.txt", "2\n");
    names(&room, "root/wds_vtab-pets");
    let many = [[1, 0, 0], [0, 1, 1], [0, 0, 0]].map(npy);
    let many = samples(&room, "npy", [&many[0], &many[1], &many[2]]);
    tar(&room, "voc/test/0.tar", &many);
    room.write("voc/dataset_type.txt", "multilabel\n");
    names(&room, "voc");
    let texts = samples(&room, "txt", [b"a red one\na square", b"green", b"blue"]);
    tar(&room, "coco/test/0.tar", &texts);
    room.write("coco/dataset_type.txt", "retrieval\n");
    let sets = ["--dataset", "wds/vtab/pets", "voc", "--dataset", "coco"];
    let ask = ["--dataset-root", "root", "--output", "out"];
    eval(&room, &[&sets[..], &ask].concat()).ok();
    let one = |set: &str, task: &str| {
        record(
            &room,
            &format!("{set}_tiny.safetensors_tiny.json_en_{task}.json"),
        )
    };
    let pets = one("vtab_pets", "zeroshot_classification");
    assert_eq!(pets["dataset"], "wds/vtab/pets");
    share(&pets, "acc1");
    share(
        &one("voc", "zeroshot_classification"),
        "mean_average_precision",
    );
    assert_eq!(
        share(
            &one("coco", "zeroshot_retrieval"),
            "text_retrieval_recall@5"
        ),
        1.0
    );
    // The first of a picture's captions is right.
    let select = [
        "--dataset",
        "coco",
        "--task",
        "image_caption_selection",
        "--output",
        "out",
    ];
    eval(&room, &select).ok();
    let coco = one("coco", "image_caption_selection");
    assert_eq!(share(&coco, "image_acc"), 1.0);
    assert_eq!(share(&coco, "acc"), share(&coco, "text_acc"));
    // Another set of the same name.
    tar(&room, "vtab/pets/test/0.tar", &classes);
    names(&room, "vtab/pets");
    let both = ["--dataset", "wds/vtab/pets", "vtab/pets"];
    let ran = eval(&room, &[&both[..], &ask].concat());
    let errors = told(&ran, "error: ");
    assert!(
        errors.len() == 1 && errors[0].contains("the result of wds/vtab/pets, and vtab/pets has"),
        "{errors:?}"
    );
    // A shard that is counted and not there.
    fs::remove_file(room.path("root/wds_vtab-pets/test/1.tar")).unwrap();
    let ran = eval(&room, &[&["--dataset", "wds/vtab/pets"], &ask[..]].concat());
    let error = ran.error(1);
    assert!(
        error.contains("nshards.txt") && error.contains("1.tar"),
        "{error}"
    );
}

#[test]
fn a_set_that_fails_costs_itself_alone() {
    let room = Room::new();
    folders(&room, "good");
    names(&room, "good");
    room.write("bad.csv", "image,label\nred.png,0\ngreen.png,3\n");
    names(&room, ".");
    folders(&room, "few");
    room.write("few/classnames.txt", "blue\ngreen\n");
    let ask = [
        "--output",
        "out",
        "--dataset",
        "bad.csv",
        "absent",
        "few",
        "good",
    ];
    let ran = eval(&room, &ask);
    assert_eq!(ran.status, 1, "{}", ran.stderr);
    let errors = told(&ran, "error: ");
    let [label, absent, few] = errors[..] else {
        panic!("{errors:?}")
    };
    assert!(
        label.contains("bad.csv") && label.contains("label 3") && label.contains("0 to 2"),
        "{label}"
    );
    assert!(absent.starts_with("absent: no such data set"), "{absent}");
    assert!(few.contains("3 class folders for 2 class names"), "{few}");
    record(
        &room,
        "good_tiny.safetensors_tiny.json_en_zeroshot_classification.json",
    );
    assert_eq!(fs::read_dir(room.path("out")).unwrap().count(), 1);
}

#[test]
fn what_a_set_lacks_is_told_once() {
    let room = Room::new();
    folders(&room, "plain");
    fs::create_dir_all(room.path("plain/white_thing")).unwrap();
    let ran = eval(&room, &["--dataset", "plain", "--json"]).ok();
    let notes = told(&ran, "note: ");
    let templates: Vec<_> = notes
        .iter()
        .filter(|note| note.contains("templates"))
        .collect();
    assert!(
        templates.len() == 1 && templates[0].starts_with("plain: "),
        "{notes:?}"
    );
    let warned = told(&ran, "warning: ");
    assert!(
        warned.len() == 1 && warned[0].contains("white_thing"),
        "{warned:?}"
    );
    let found = &ran.json()[0];
    assert!(found["metrics"]["acc5"].is_null(), "four classes");
    share(found, "mean_per_class_recall");
}

#[test]
fn a_linear_probe_keeps_its_features() {
    let room = Room::new();
    for part in ["train", "test"] {
        folders(&room, &format!("pets/{part}"));
    }
    names(&room, "pets");
    let ask = [
        "--dataset",
        "pets",
        "--task",
        "linear_probe",
        "--output",
        "out",
        "--fewshot-epochs",
        "40",
    ];
    eval(&room, &ask).ok();
    let name = "pets_tiny.safetensors_tiny.json_en_linear_probe.json";
    let found = record(&room, name);
    assert_eq!(
        share(&found, "lp_acc1"),
        1.0,
        "it is tested on what it was trained on"
    );
    assert_eq!(share(&found, "lp_mean_per_class_recall"), 1.0);
    let metrics = &found["metrics"];
    assert!(
        metrics["lp_acc5"].is_null() && metrics["normalized"] == true,
        "{found}"
    );
    assert_eq!(metrics["fewshot_k"], -1);
    // Pictures that cannot be read any more show that the features are from the disk.
    for part in ["train", "test"] {
        for (name, _) in COLOURS {
            for copy in 0..2 {
                room.write(&format!("pets/{part}/{name}_thing/{copy}.png"), "");
            }
        }
    }
    eval(&room, &ask).ok();
    assert_eq!(record(&room, name), found);
    let few = eval(&room, &[&ask[..], &["--fewshot-k", "3"]].concat()).error(1);
    assert!(
        few.contains("has 2 pictures, and --fewshot-k is 3"),
        "{few}"
    );
    let split = eval(&room, &[&ask[..], &["--train-split", "other"]].concat()).error(1);
    assert!(split.contains("no split \"other\""), "{split}");
}

#[test]
fn pairs_of_pairs_and_wrong_captions() {
    let room = Room::new();
    room.write(
        "winoground.csv",
        "image_0,image_1,caption_0,caption_1\nred.png,blue.png,red,blue\ngreen.png,red.png,a green one,a red one\n",
    );
    room.write(
        "crepe.csv",
        "image,caption,negative_caption\nred.png,a red square,a blue square\n",
    );
    let ran = eval(
        &room,
        &["--dataset", "winoground.csv", "crepe.csv", "--json"],
    )
    .ok();
    let found = ran.json();
    for record in found.as_array().unwrap() {
        assert_eq!(record["task"], "image_caption_selection");
        let [image, text, both] = ["image_acc", "text_acc", "acc"].map(|name| share(record, name));
        assert!(both <= image && both <= text, "{record}");
    }
    assert_eq!(found[1]["metrics"]["image_acc"], 1.0);
}

#[test]
fn a_task_that_a_set_is_not_made_for() {
    let room = Room::new();
    folders(&room, "pets");
    let error = eval(
        &room,
        &["--dataset", "pets", "--task", "zeroshot_retrieval"],
    )
    .error(1);
    assert!(
        error.contains("it has classes") && error.contains("zeroshot_classification is"),
        "{error}"
    );
    room.write("pairs.csv", "image,caption\nred.png,red\n");
    let error = eval(&room, &["--dataset", "pairs.csv", "--task", "captioning"]).error(1);
    assert!(error.contains("a model that writes captions"), "{error}");
    let ran = eval(&room, &["--dataset", "pets", "--task", "retrieval"]);
    assert!(
        ran.status == 2 && ran.stderr.contains("zeroshot_retrieval"),
        "{}",
        ran.stderr
    );
}
