//! `openclip search` over what `embed` has written.

use std::fs;

use serde_json::Value;

use crate::support::{Ran, Room, read_npy};

/// A folder of vectors of five pictures in two partitions, two of them the same.
fn room() -> Room {
    let room = Room::new();
    room.write("again.png", fs::read(room.path("red.png")).unwrap());
    room.picture("gray.png", [90, 90, 90]);
    room.write(
        "pairs.csv",
        "filepath\ttitle\nred.png\ta red square\ngreen.png\tgrass\nblue.png\t\nagain.png\tred again\ngray.png\tfog\n",
    );
    let args = "embed --model tiny.json --pretrained tiny.safetensors --images pairs.csv --partition-size 3 --output out";
    room.run(&args.split(' ').collect::<Vec<_>>()).ok();
    room
}

fn search(room: &Room, more: &[&str]) -> Ran {
    room.run(&[&["search", "out"], more].concat())
}

fn names(answer: &Value) -> Vec<&str> {
    let hits = answer["hits"].as_array().unwrap().iter();
    hits.map(|hit| hit["image_path"].as_str().unwrap())
        .collect()
}

#[test]
fn a_picture_finds_itself_and_its_like() {
    let room = room();
    let ran = search(&room, &["--image", "red.png", "--top", "3"]).ok();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines[0], "  1.0000  red.png  a red square");
    assert_eq!(lines[1], "  1.0000  again.png  red again");
    assert_eq!(lines.len(), 3);

    let both = search(&room, &["--image", "blue.png", "gray.png", "--json"])
        .ok()
        .json();
    assert_eq!(both[0]["query"]["image"], "blue.png");
    assert_eq!(
        (names(&both[0])[0], names(&both[1])[0]),
        ("blue.png", "gray.png")
    );
    assert_eq!(both[0]["hits"][0]["caption"], Value::Null);
    assert_eq!(both[1]["hits"][0]["row"], 4);
    assert_eq!(names(&both[0]).len(), 5);
}

#[test]
fn texts_and_vectors_are_ranked_exactly() {
    let room = room();
    let args =
        "embed --model tiny.json --pretrained tiny.safetensors --texts words.txt --output words";
    room.write("words.txt", "a red square\nfog\n");
    room.run(&args.split(' ').collect::<Vec<_>>()).ok();
    let words = read_npy(&room.path("words/text_emb/text_emb_0.npy"));
    let rows = [0, 1]
        .map(|at| read_npy(&room.path(&format!("out/img_emb/img_emb_{at}.npy"))))
        .concat();
    let by_text = search(&room, &["--texts", "words.txt", "--json"])
        .ok()
        .json();
    let vectors = room.path("words/text_emb/text_emb_0.npy");
    let by_vector = search(&room, &["--vector", vectors.to_str().unwrap(), "--json"])
        .ok()
        .json();
    for (at, word) in words.iter().enumerate() {
        let mut wanted: Vec<(usize, f32)> = rows
            .iter()
            .map(|row| crate::support::dot(word, row))
            .enumerate()
            .collect();
        wanted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        for answer in [&by_text[at], &by_vector[at]] {
            let hits = answer["hits"].as_array().unwrap();
            for (hit, (_, score)) in hits.iter().zip(&wanted) {
                assert!((hit["score"].as_f64().unwrap() - f64::from(*score)).abs() < 1e-5);
            }
        }
    }
    // Captions are searched as well; a picture without one has no vector there.
    let captions = search(&room, &["--text", "fog", "--in", "text", "--json"])
        .ok()
        .json();
    assert_eq!(captions[0]["hits"].as_array().unwrap().len(), 4);
    assert_eq!(captions[0]["hits"][0]["caption"], "fog");
    assert_eq!(captions[0]["hits"][0]["image_path"], "gray.png");
}

#[test]
fn conditions_and_duplicates() {
    let room = room();
    let filtered = search(
        &room,
        &["--image", "red.png", "--filter", "caption~red", "--json"],
    );
    assert_eq!(names(&filtered.ok().json()[0]), ["red.png", "again.png"]);
    let none = search(
        &room,
        &["--image", "red.png", "--filter", "caption=nobody", "--json"],
    );
    assert!(names(&none.ok().json()[0]).is_empty());
    let error = search(&room, &["--image", "red.png", "--filter", "width>3"]).error(1);
    assert!(
        error.contains("--filter width>3") && error.contains("image_path, caption"),
        "{error}"
    );
    let error = search(&room, &["--image", "red.png", "--filter", "width"]).error(2);
    assert!(error.contains("column=value"), "{error}");

    let groups = search(&room, &["--near-duplicates", "0.99999", "--json"])
        .ok()
        .json();
    assert_eq!(groups.as_array().unwrap().len(), 1, "{groups}");
    let rows = groups[0]["rows"].as_array().unwrap();
    let rows: Vec<&str> = rows
        .iter()
        .map(|row| row["image_path"].as_str().unwrap())
        .collect();
    assert_eq!(rows, ["red.png", "again.png"]);
    let text = search(&room, &["--near-duplicates", "0.99999"]).ok().stdout;
    assert!(
        text.starts_with("group 1, cosine 1.0000\n  red.png"),
        "{text}"
    );
}

#[test]
fn what_cannot_be_searched_is_said_in_a_line() {
    let room = room();
    let error = room.run(&["search", "absent", "--text", "x"]).error(1);
    assert!(error.starts_with("absent: "), "{error}");
    room.write("empty/notes.txt", "");
    let error = room.run(&["search", "empty", "--text", "x"]).error(1);
    assert!(error.contains("no vectors of pictures"), "{error}");
    let error = search(&room, &[]).error(2);
    assert!(error.contains("nothing to look for"), "{error}");

    // Vectors of another width, and weights that are others by now.
    room.write("wide.npy", npy("<f4", 1, 3, &[0; 12]));
    let error = search(&room, &["--vector", "wide.npy"]).error(2);
    assert!(
        error.contains("a vector of 3 numbers") && error.contains("have 16"),
        "{error}"
    );
    let other = "convert --model tiny.json --seed 8 --output other.safetensors";
    room.run(&other.split(' ').collect::<Vec<_>>()).ok();
    let error = search(&room, &["--text", "x", "--pretrained", "other.safetensors"]).error(1);
    assert!(
        error.starts_with("out: its vectors are of") && error.contains("others"),
        "{error}"
    );

    // A folder of another program does not say which model it is of.
    fs::remove_file(room.path("out/embed.json")).unwrap();
    let error = search(&room, &["--text", "x"]).error(2);
    assert!(
        error.contains("--model") && error.contains("does not say which model"),
        "{error}"
    );
    let named = [
        "--text",
        "fog",
        "--model",
        "tiny.json",
        "--pretrained",
        "tiny.safetensors",
    ];
    search(&room, &named).ok();
}

#[test]
fn damaged_and_missing_partitions() {
    let room = room();
    let array = room.path("out/img_emb/img_emb_1.npy");
    let whole = fs::read(&array).unwrap();
    let broken = |bytes: &[u8]| {
        fs::write(&array, bytes).unwrap();
        search(&room, &["--image", "red.png"]).error(1)
    };
    let error = broken(&whole[..whole.len() - 4]);
    assert!(
        error.contains("img_emb_1.npy: 124 bytes of numbers"),
        "{error}"
    );
    let error = broken(b"hello");
    assert!(error.contains("img_emb_1.npy: not an .npy file"), "{error}");
    let error = broken(&npy("<f4", 1, 16, &[0; 64]));
    assert!(
        error.contains("1 rows, where partitions/ says 2"),
        "{error}"
    );
    let error = broken(&npy("<f4", 2, 8, &[0; 64]));
    assert!(error.contains("rows of 8 numbers"), "{error}");
    fs::remove_file(&array).unwrap();
    let error = search(&room, &["--image", "red.png"]).error(1);
    assert!(error.contains("img_emb_1.npy: "), "{error}");
    fs::remove_file(room.path("out/partitions/1.json")).unwrap();
    let ran = search(&room, &["--image", "red.png", "--json"]).ok();
    assert!(
        ran.stderr.contains("1 of 2 partitions are there"),
        "{}",
        ran.stderr
    );
    assert_eq!(names(&ran.json()[0]).len(), 3);
    // `embed` makes what is missing.
    let args = "embed --model tiny.json --pretrained tiny.safetensors --images pairs.csv --partition-size 3 --output out";
    room.run(&args.split(' ').collect::<Vec<_>>()).ok();
    assert_eq!(fs::read(&array).unwrap(), whole);
}

/// The other columns of a table, and the fields of a shard's `.json`, are there to be asked for.
#[test]
fn columns_of_the_input_go_along() {
    let room = Room::new();
    room.write(
        "pairs.csv",
        "key,filepath,title,width,\"a note\"\n1,red.png,red,640,\"x, y\"\n2,green.png,green,320,\n",
    );
    let mut tar = tar::Builder::new(Vec::new());
    let mut member = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    for (key, picture, json) in [
        (
            "0",
            "red.png",
            r#"{"caption": "red", "width": 640, "exif": {"Model": "X1"}, "ratio": 1}"#,
        ),
        (
            "1",
            "blue.png",
            r#"{"caption": "blue", "width": 320, "ratio": 0.5}"#,
        ),
        ("2", "green.png", "malformed"),
    ] {
        member(
            &format!("{key}.png"),
            &fs::read(room.path(picture)).unwrap(),
        );
        member(&format!("{key}.txt"), picture.as_bytes());
        member(&format!("{key}.json"), json.as_bytes());
    }
    room.write("s.tar", tar.into_inner().unwrap());
    let embed = |images: &str, output: &str, more: &[&str]| {
        let args = [
            "embed",
            "--model",
            "tiny.json",
            "--pretrained",
            "tiny.safetensors",
            "--images",
            images,
            "--output",
            output,
        ];
        room.run(&[&args[..], more].concat()).ok();
    };
    let asked = |dir: &str, filter: &str| {
        let args = [
            "search", dir, "--image", "red.png", "--json", "--filter", filter,
        ];
        room.run(&args).ok().json()[0]["hits"]
            .as_array()
            .unwrap()
            .clone()
    };
    embed("pairs.csv", "table", &["--csv-separator", ",", "--hash"]);
    let hits = asked("table", "width>=500");
    assert_eq!(hits.len(), 1);
    assert_eq!(
        (&hits[0]["a note"], &hits[0]["key"], &hits[0]["width"]),
        (&"x, y".into(), &"1".into(), &"640".into())
    );
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(fs::read(room.path("red.png")).unwrap());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hits[0]["sha256"], digest);

    embed("s.tar", "shard", &[]);
    let hits = asked("shard", "width<=640");
    assert_eq!(hits.len(), 2);
    assert_eq!(
        (&hits[0]["exif.Model"], &hits[0]["caption"]),
        (&"X1".into(), &"red.png".into())
    );
    assert_eq!(
        (&hits[1]["width"], &hits[1]["ratio"]),
        (&320.into(), &0.5.into())
    );
    assert_eq!(asked("shard", "image_path=2")[0]["width"], Value::Null);

    // Rows of a Parquet file bring theirs.
    let tables = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/parity/data/tables"
    );
    embed(&format!("{tables}/img2dataset.parquet"), "rows", &[]);
    let hits = asked("rows", "image_path~.");
    let columns: Vec<&String> = hits[0].as_object().unwrap().keys().collect();
    for column in ["key", "url", "width", "sha256"] {
        assert!(columns.iter().any(|name| *name == column), "{columns:?}");
    }
    assert!(hits[0]["width"].is_i64(), "{}", hits[0]);
}

#[test]
fn a_sheet_shows_what_was_found() {
    let room = room();
    let ran = search(
        &room,
        &["--image", "red.png", "--top", "2", "--sheet", "sheet.png"],
    )
    .ok();
    assert!(ran.stderr.contains("sheet.png"), "{}", ran.stderr);
    let file = fs::File::open(room.path("sheet.png")).unwrap();
    let mut reader = png::Decoder::new(std::io::BufReader::new(file))
        .read_info()
        .unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    let width = info.width as usize;
    // The middle of the first card's picture is the red one.
    let at = |x: usize, y: usize| &pixels[3 * (y * width + x)..][..3];
    let [red, green, blue] = at(48 + 14 + 120, 128 + 14 + 120).try_into().unwrap();
    assert!(
        red > 180_u8 && green < 60_u8 && blue < 80_u8,
        "{red} {green} {blue}"
    );
    fs::remove_file(room.path("out/embed.json")).unwrap();
    let vector = room.path("out/img_emb/img_emb_1.npy");
    let asked = ["--vector", vector.to_str().unwrap(), "--sheet", "sheet.png"];
    let error = search(&room, &asked).error(2);
    assert!(error.contains("--images"), "{error}");
    let named = [&asked[..], &["--images", "pairs.csv"]].concat();
    search(&room, &named).ok();
}

#[test]
fn an_index_finds_the_same_until_the_vectors_change() {
    let room = room();
    let exact = search(&room, &["--image", "red.png", "gray.png", "--json"])
        .ok()
        .json();
    let ran = room.run(&["index", "out"]).ok();
    assert_eq!(ran.stdout, "5 rows in out/index/img_emb.index\n");
    let ran = search(&room, &["--image", "red.png", "gray.png", "--json"]).ok();
    assert_eq!((ran.json(), ran.stderr.as_str()), (exact.clone(), ""));

    let path = room.path("out/index/img_emb.index");
    let whole = fs::read(&path).unwrap();
    let told = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let ran = search(&room, &["--image", "red.png", "gray.png", "--json"]).ok();
        assert_eq!(ran.json(), exact);
        ran.stderr
    };
    assert!(told(&whole[..whole.len() - 4]).contains("img_emb.index: damaged: "));
    assert!(told(b"hello").contains("no index"));
    fs::write(&path, &whole).unwrap();
    let record = room.path("out/partitions/1.json");
    let text = fs::read_to_string(&record).unwrap();
    let sum = text
        .split_once("\"crc32\":")
        .unwrap()
        .1
        .split(',')
        .next()
        .unwrap();
    fs::write(&record, text.replacen(sum.trim_end_matches('}'), "1", 1)).unwrap();
    let stale = search(&room, &["--image", "red.png"]).ok().stderr;
    assert!(
        stale.contains("made of other vectors") && stale.contains("openclip index"),
        "{stale}"
    );
    assert_eq!(
        search(&room, &["--image", "red.png", "--exact"])
            .ok()
            .stderr,
        ""
    );
    let error = room.run(&["index", "out"]).error(1);
    assert!(
        error.contains("img_emb_1.npy: its values are not those"),
        "{error}"
    );
}

/// What clip-retrieval's libraries have written is searched as NumPy does.
#[test]
fn folders_of_numpy_and_pandas() {
    let room = Room::empty();
    let data = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/parity/data/embeddings"
    );
    let wanted: Value =
        serde_json::from_slice(&fs::read(format!("{data}/found.json")).unwrap()).unwrap();
    let queries = format!("{data}/queries.npy");
    for kind in ["image", "text"] {
        let args = ["search", data, "--vector", &queries, "--in", kind, "--json"];
        let found = room.run(&args).ok().json();
        for (at, answer) in found.as_array().unwrap().iter().enumerate() {
            let hits = answer["hits"].as_array().unwrap();
            let rows: Vec<&Value> = hits.iter().map(|hit| &hit["row"]).collect();
            let expected: Vec<&Value> = wanted[kind]["rows"][at]
                .as_array()
                .unwrap()
                .iter()
                .collect();
            assert_eq!(rows, expected);
            for (hit, score) in hits
                .iter()
                .zip(wanted[kind]["scores"][at].as_array().unwrap())
            {
                // Sums of 24 products in f32.
                let difference = hit["score"].as_f64().unwrap() - score.as_f64().unwrap();
                assert!(difference.abs() < 1e-6, "{difference}");
            }
        }
        let first = &found[0]["hits"][0];
        let row = first["row"].as_u64().unwrap();
        assert_eq!(first["image_path"], format!("pictures/{row}.jpg"));
        assert_eq!(
            (&first["width"], &first["ok"]),
            (&Value::from(100 * row), &Value::from(row.is_multiple_of(2)))
        );
        assert_eq!(first["tags"][1], "all");
    }
    let asked = |filter: &str| {
        let args = [
            "search", data, "--vector", &queries, "--json", "--filter", filter,
        ];
        let found = room.run(&args).ok().json();
        let hits = found[0]["hits"].as_array().unwrap().iter();
        let mut rows: Vec<u64> = hits.map(|hit| hit["row"].as_u64().unwrap()).collect();
        rows.sort_unstable();
        rows
    };
    let wide: Vec<u64> = wanted["wide"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row.as_u64().unwrap())
        .collect();
    assert_eq!(asked("width>=400"), wide);
    assert_eq!(asked("score<=0.5"), [1, 2, 4]);
    assert_eq!(asked("ok=true"), [0, 2, 4, 6, 8]);
    assert_eq!(asked("tags=t3"), [3]);
}

/// An `.npy` file as NumPy writes it.
fn npy(descr: &str, rows: usize, width: usize, data: &[u8]) -> Vec<u8> {
    let header =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {width}), }}");
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend(format!("{header:117}\n").bytes());
    bytes.extend(data);
    bytes
}
