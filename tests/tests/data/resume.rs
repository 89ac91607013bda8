//! An epoch that is left in its middle and goes on: the same batches from every kind of source, and how much of it is read again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use openclip_data::image::{Augmentation, Decoding, Limits, train_transform};
use openclip_data::loader::{Batch, Loader, LoaderOptions};
use openclip_data::source::Order;
use openclip_data::source::open::{OpenOptions, open};
use openclip_data::source::shard_index::ShardIndex;
use openclip_data::tokenizer::ClipTokenizer;
use openclip_tests::web::{Fault, Web};

const SHARDS: usize = 8;
const SAMPLES: usize = 24;
const BATCH: usize = 7;

/// A picture of its own for every number.
fn picture(n: usize) -> Vec<u8> {
    let pixels = (0..12 * 10 * 3).map(|at| (at * 7 + n * 31) as u8);
    b"P6 12 10 255\n".iter().copied().chain(pixels).collect()
}

fn archive(shard: usize) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: String, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    for n in shard * SAMPLES..(shard + 1) * SAMPLES {
        add(format!("{n:05}.jpg"), &picture(n));
        // Some samples are of no use.
        if n % 17 != 5 {
            add(format!("{n:05}.txt"), format!("number {n}").as_bytes());
        }
    }
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

/// Shards, plain and packed, a table, captions in JSON and a folder with texts.
fn write_all(dir: &Path) {
    let write = |name: String, bytes: Vec<u8>| {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    for shard in 0..SHARDS {
        let bytes = archive(shard);
        write(format!("gz/{shard}.tar.gz"), gzip(&bytes));
        write(format!("tar/{shard}.tar"), bytes);
    }
    let length = (SHARDS * SAMPLES).to_string().into_bytes();
    for folder in ["tar", "gz"] {
        write(format!("{folder}/__len__"), length.clone());
    }
    let mut table = String::from("filepath\ttitle\n");
    let (mut images, mut annotations) = (Vec::new(), Vec::new());
    for n in 0..60 {
        let path = dir.join(format!("folder/{n:03}.ppm"));
        write(format!("folder/{n:03}.ppm"), picture(n));
        write(
            format!("folder/{n:03}.txt"),
            format!("number {n}").into_bytes(),
        );
        table += &format!("{}\tnumber {n}\n", path.display());
        images.push(serde_json::json!({"id": n, "file_name": format!("{n:03}.ppm")}));
        annotations
            .push(serde_json::json!({"image_id": n, "id": n, "caption": format!("number {n}")}));
    }
    write("pairs.tsv".into(), table.into_bytes());
    let coco = serde_json::json!({"images": images, "annotations": annotations});
    write("folder/captions.json".into(), coco.to_string().into_bytes());
}

struct Case {
    name: &'static str,
    data: String,
    resampled: bool,
    factors: Option<&'static str>,
}

/// The batches of an epoch behind `cursor`.
fn batches(
    case: &Case,
    index: Option<PathBuf>,
    workers: usize,
    cursor: u64,
    most: usize,
) -> Vec<Batch> {
    let options = OpenOptions {
        resampled: case.resampled,
        upsampling_factors: case.factors.map(str::to_owned),
        index: index.map(|dir| Arc::new(ShardIndex::open(&dir, 0))),
        ..OpenOptions::default()
    };
    let opened = open(&case.data, &options).unwrap();
    let augmentation = Augmentation {
        scale: (0.3, 1.0),
        erase_prob: 0.5,
        ..Augmentation::default()
    };
    let decoding = Decoding {
        rgb_first: opened.rgb_first,
        fast: false,
        limits: Limits::default(),
    };
    let transform = train_transform([8, 8], augmentation, decoding);
    let options = LoaderOptions {
        workers,
        start_cursor: cursor,
        num_batches: Some(most as u64),
        max_bad_share: 1.0,
        ..LoaderOptions::new(BATCH, [8, 8], Order::training(3, 2))
    };
    let tokenizer = Arc::new(ClipTokenizer::new(16));
    let loader = Loader::start(opened.source, transform.unwrap(), Some(tokenizer), &options);
    loader.unwrap().map(Result::unwrap).collect()
}

fn assert_equal(found: &[Batch], expected: &[Batch], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.names, expected.names, "{what}");
        assert_eq!(found.tokens, expected.tokens, "{what}");
        assert!(found.images == expected.images, "{what}");
        assert_eq!(found.erased, expected.erased, "{what}");
        assert_eq!(found.cursor, expected.cursor, "{what}");
    }
}

#[test]
fn every_source_goes_on_where_it_was_left() {
    let dir = tempfile::tempdir().unwrap();
    write_all(dir.path());
    let served = (0..SHARDS).map(|shard| (format!("tar/{shard}.tar"), archive(shard)));
    let length = (
        "tar/__len__".to_owned(),
        (SHARDS * SAMPLES).to_string().into_bytes(),
    );
    let web = Web::new(served.chain([length]));
    let whole_files =
        Web::new((0..SHARDS).map(|shard| (format!("tar/{shard}.tar"), archive(shard))));
    whole_files.always("tar", Fault::IgnoreRange);
    let path = |name: &str| dir.path().join(name).display().to_string();
    let tables = openclip_tests::fixture("tables");
    let table = |name: &str| tables.join(name).display().to_string();
    let case = |name, data| Case {
        name,
        data,
        resampled: false,
        factors: None,
    };
    let cases = [
        case("tar", path("tar/{0..7}.tar")),
        case("gzip", path("gz/{0..7}.tar.gz")),
        case("a command", format!("pipe:cat {}", path("tar/{0..7}.tar"))),
        case("web server", web.url("tar/{0..7}.tar")),
        case(
            "web server without ranges",
            whole_files.url("tar/{0..7}.tar"),
        ),
        case("table", path("pairs.tsv")),
        case("COCO", path("folder/captions.json")),
        case("folder", path("folder")),
        case("parquet", table("hugging_face.parquet")),
        case("arrow", table("cache.arrow")),
        case(
            "shards and a table",
            format!("{}::{}", path("tar/{0..7}.tar"), path("pairs.tsv")),
        ),
        Case {
            resampled: true,
            factors: Some("1::3"),
            ..case(
                "drawn shards",
                format!("{}::{}", path("tar/{0..4}.tar"), path("tar/{5..7}.tar")),
            )
        },
        Case {
            resampled: true,
            factors: Some("2::1"),
            ..case(
                "drawn shards and a table",
                format!("{}::{}", path("tar/{0..7}.tar"), path("pairs.tsv")),
            )
        },
    ];
    for (at, case) in cases.iter().enumerate() {
        let index = dir.path().join(format!("index-{at}"));
        // More than one pass, so that the epoch begins the source anew.
        let most = 36;
        let whole = batches(case, None, 3, 0, most);
        assert_eq!(whole.len(), most, "{}", case.name);
        // A run that stops somewhere notes what it read until then.
        let first = batches(case, Some(index.clone()), 1, 0, 20);
        assert_equal(&first, &whole[..20], case.name);
        for (done, workers) in [(1, 2), (11, 1), (20, 4), (29, 2)] {
            let cursor = whole[done - 1].cursor;
            for index in [None, Some(index.clone())] {
                let what = format!("{} behind {done} batches, {workers} workers", case.name);
                let rest = batches(case, index, workers, cursor, most - done);
                assert_equal(&rest, &whole[done..], &what);
            }
        }
    }
}

/// What a resume takes from a server that has ranges: the samples in the buffer, and the shards that follow.
#[test]
fn a_resume_reads_little_again() {
    let dir = tempfile::tempdir().unwrap();
    let shards = 200;
    let names = || (0..shards).map(|shard| format!("{shard:03}.tar"));
    let web = Web::new(names().enumerate().map(|(at, name)| (name, archive(at))));
    let case = Case {
        name: "web server",
        data: web.url("{000..199}.tar"),
        resampled: false,
        factors: None,
    };
    let index = dir.path().join("index");
    let size = archive(0).len() as u64;
    // All shards are read by then, and the buffer holds what is left.
    let done = 600;
    let first = batches(&case, Some(index.clone()), 2, 0, done);
    let before = web.sent();
    assert!(before > 80 * size);
    let cursor = first[done - 1].cursor;
    let again = batches(&case, Some(index.clone()), 2, cursor, 1);
    let indexed = web.sent() - before;
    let plain = batches(&case, None, 2, cursor, 1);
    let read = web.sent() - before - indexed;
    assert_equal(&again, &plain, "with and without an index");
    let held = (shards * SAMPLES) as u64 - cursor;
    let samples = held * size / SAMPLES as u64;
    println!("{indexed} bytes with an index, {read} without, {samples} of the buffer");
    assert!(indexed <= samples + 3 * size, "{indexed}");
    assert!(read > 80 * size, "{read}");
}
