//! Several models or sets in one call.

use super::*;

#[test]
fn many_models_and_one_table() {
    let room = Room::new();
    folders(&room, "pets");
    names(&room, "pets");
    let ask = [
        "eval",
        "--dataset",
        "pets",
        "--output",
        "out",
        "--pretrained-model",
    ];
    let models = ["tiny.json,tiny.safetensors", "tiny.json,absent.pt"];
    let ran = room.run(&[&ask[..], &models].concat());
    assert_eq!(ran.status, 1);
    assert_eq!(told(&ran, "error: ").len(), 1, "{}", ran.stderr);
    let again = [
        "eval",
        "--dataset",
        "pets",
        "--output",
        "out",
        "--model",
        "tiny.json",
    ];
    room.run(&again).ok();
    room.write("out/half.json", "{\"dataset\": \"pe");
    room.write("out/clip_benchmark.json", CLIP_BENCHMARK);
    let ran = room.run(&["eval", "build", "out", "--output", "table.csv"]);
    assert_eq!(ran.status, 1);
    let errors = told(&ran, "error: ");
    assert!(
        errors.len() == 1 && errors[0].ends_with("half.json: a result that was half written"),
        "{errors:?}"
    );
    let table = fs::read_to_string(room.path("table.csv")).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(
        lines[0],
        "dataset,model,pretrained,task,language,model_fullname,acc1,acc5,mean_per_class_recall"
    );
    assert_eq!(lines.len(), 4, "{table}");
    assert!(
        lines[1].starts_with("cars,ViT-B-32,openai,") && lines[1].ends_with(",0.25,,0.5"),
        "{table}"
    );
    let files: Vec<String> = fs::read_dir(room.path("out"))
        .unwrap()
        .map(|entry| entry.unwrap().path().display().to_string())
        .filter(|path| !path.ends_with("half.json"))
        .collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let build = [&["eval", "build"], &files[..], &["--output", "table.md"]].concat();
    room.run(&build).ok();
    let table = fs::read_to_string(room.path("table.md")).unwrap();
    assert!(
        table.starts_with("| dataset | model |") && table.lines().count() == 5,
        "{table}"
    );
    let build = [&["eval", "build"], &files[..], &["--output", "table.svg"]].concat();
    room.run(&build).ok();
    let picture = fs::read_to_string(room.path("table.svg")).unwrap();
    assert!(
        picture.contains("pets · acc1") && picture.contains("cars · acc1"),
        "{picture}"
    );
    let error = room
        .run(&["eval", "build", "out", "--output", "table.xls"])
        .error(2);
    assert!(error.contains(".csv, .md or .svg"), "{error}");
}

#[test]
fn a_suite_measures_what_is_there_and_resumes() {
    let room = Room::new();
    let classes = samples(&room, "cls", [b"2", b"1", b"0"]);
    tar(&room, "sets/wds_mnist_test/test/0.tar", &classes);
    room.write("sets/wds_mnist_test/test/nshards.txt", "1");
    tar(&room, "sets/wds_cars/test/0.tar", &classes);
    // Two regions, of which one has a picture of each class but one.
    let mut grouped = samples(&room, "cls", [b"2", b"1", b"0"]);
    for (at, region) in [[1, 2, 2], [0, 2, 1], [1, 2, 0]].into_iter().enumerate() {
        grouped.insert(3 * at + 2, (format!("s{at:07}.npy"), npy(region)));
    }
    tar(&room, "sets/wds_wilds-fmow_test/test/0.tar", &grouped);
    names(&room, "sets/wds_wilds-fmow_test");
    for (name, colour) in COLOURS {
        room.picture(&format!("sets/winogavil/images/{name}.jpg"), colour);
    }
    room.write(
        "sets/winogavil/winogavil.csv",
        "cue,candidates,associations\nfire,\"['red', 'green', 'blue']\",\"['red']\"\nsea,\"['blue', \"\"green\"\"]\",\"['blue', 'green']\"\n",
    );
    let ask = [
        "--suite", "datacomp", "--root", "sets", "--output", "out", "--json",
    ];
    let ran = eval(&room, &ask);
    assert_eq!(ran.status, 1, "{}", ran.stderr);
    let errors = told(&ran, "error: ");
    assert!(
        errors.len() == 1 && errors[0].starts_with("cars: needs classnames.txt"),
        "{errors:?}"
    );
    let missing = told(&ran, "warning: ");
    let missing = missing
        .iter()
        .find(|line| line.contains("of 38 sets are not in sets"))
        .unwrap();
    assert!(
        missing.contains("34 of 38")
            && missing.contains("ImageNet 1k, ")
            && missing.contains("--download"),
        "{missing}"
    );
    let found = ran.json()[0].clone();
    let score = |name: &str| {
        let sets = found["sets"].as_array().unwrap().iter();
        sets.clone()
            .find(|set| set["name"] == name)
            .unwrap_or_else(|| panic!("{name} in {found}"))
            .clone()
    };
    assert_eq!(score("MNIST")["metric"], "acc1");
    assert_eq!(score("FMoW")["metric"], "acc_worst_region");
    let fmow = record(
        &room,
        "wilds_fmow_tiny.safetensors_tiny.json_en_zeroshot_classification.json",
    );
    assert!(
        share(&fmow, "acc_worst_region") <= share(&fmow, "acc1"),
        "{fmow}"
    );
    let wino = record(
        &room,
        "misc_winogavil_tiny.safetensors_tiny.json_en_image_association.json",
    );
    assert!(
        share(&wino, "avg_jaccard_score") >= 0.5,
        "both pictures of the second word are right: {wino}"
    );
    assert!(
        wino["metrics"]["jaccard_score_10-12"].is_null() && score("WinoGAViL")["value"].is_null()
    );
    let averages = found["averages"].as_array().unwrap();
    let all = averages.last().unwrap();
    assert_eq!(
        (&all["name"], &all["measured"], &all["sets"]),
        (&"All 38".into(), &2.into(), &38.into())
    );
    let mean = ["MNIST", "FMoW"].map(|name| score(name)["value"].as_f64().unwrap());
    assert!((all["value"].as_f64().unwrap() - (mean[0] + mean[1]) / 2.0).abs() < 1e-9);
    // What is measured is not measured again.
    for set in ["wds_mnist_test", "wds_wilds-fmow_test"] {
        room.write(&format!("sets/{set}/test/0.tar"), "no tar");
    }
    fs::remove_dir_all(room.path("sets/wds_cars")).unwrap();
    let again = eval(&room, &ask).ok().json();
    assert_eq!(again[0]["sets"], found["sets"]);
    let lines = eval(&room, &ask[..6]).ok().stdout;
    assert!(
        lines.contains("  All 38 ") && lines.contains("2 of 38 sets"),
        "{lines}"
    );
    let error = eval(&room, &["--suite", "datacomp", "--dataset", "x"]);
    assert_eq!(error.status, 2);
    let error = eval(&room, &["--suite", "absent"]).error(1);
    assert!(
        error.contains("no such suite") && error.contains("datacomp"),
        "{error}"
    );
}

/// As CLIP_benchmark writes it, with the value that JSON has not.
const CLIP_BENCHMARK: &str = r#"{"dataset": "cars", "model": "ViT-B-32", "pretrained": "openai", "task": "zeroshot_classification",
 "metrics": {"acc1": 0.25, "acc5": NaN, "mean_per_class_recall": 0.5}, "language": "en"}"#;

#[test]
fn eight_bits_say_what_they_change() {
    let room = Room::new();
    folders(&room, "pets");
    let ask = ["--dataset", "pets", "--precision", "int8"];
    let ran = eval(&room, &ask).ok();
    let notes = told(&ran, "note: ");
    let change = notes.iter().find(|note| note.contains("8 bits beside f32"));
    let change = change.unwrap_or_else(|| panic!("{notes:?}"));
    assert!(
        change.starts_with("pets: ") && change.contains("on 6 pictures"),
        "{change}"
    );
    let own = eval(&room, &["--zeroshot", "pets", "--precision", "int8"]).ok();
    assert!(own.stderr.contains("on 6 pictures"), "{}", own.stderr);
    let exact = eval(&room, &["--zeroshot", "pets"]).ok();
    assert!(!exact.stderr.contains("8 bits"), "{}", exact.stderr);
}
