//! Parquet and Arrow files as several tools write them, against `pyarrow` (`tests/parity/export_tables.py`).

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use openclip_data::error::DataError;
use openclip_data::source::columns::Columns;
use openclip_data::source::csv::CsvFormat;
use openclip_data::source::open::{OpenOptions, Opened, open};
use openclip_data::source::shard_index::ShardIndex;
use openclip_data::source::{ImageData, Item, Order, ProblemKind, Sink};
use serde_json::Value;

/// Name, CRC-32 of the picture or where it is, caption.
type Row = (String, Value, Option<String>);

/// Keeps the items behind those that are left out.
#[derive(Default)]
struct Collect {
    left_out: usize,
    items: Vec<Item>,
    most: Option<usize>,
}

impl Sink for Collect {
    fn jump(&mut self, _: usize) -> usize {
        0
    }
    fn is_skipping(&self) -> bool {
        self.left_out > 0
    }
    fn push(&mut self, item: Item) -> ControlFlow<()> {
        if self.left_out > 0 {
            self.left_out -= 1;
            return ControlFlow::Continue(());
        }
        self.items.push(item);
        match self.most {
            Some(most) if self.items.len() >= most => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn file(name: &str) -> String {
    let path: PathBuf = openclip_tests::fixture("tables").join(name);
    path.to_str().unwrap().to_owned()
}

fn items(opened: &Opened) -> Vec<Item> {
    let mut all = Collect::default();
    let pass = opened.source.pass(&Order::sequential(), 0, &mut all);
    assert!(pass.unwrap().is_continue());
    all.items
}

fn opened(spec: &str) -> Result<Opened, DataError> {
    open(spec, &OpenOptions::default())
}

fn row(item: Item) -> Result<Row, (ProblemKind, String)> {
    let sample = match item {
        Item::Problem(problem) => {
            return Err((
                problem.kind,
                format!("{}: {}", problem.place, problem.reason),
            ));
        }
        Item::Sample(sample) => sample,
    };
    let image = match sample.image {
        ImageData::Encoded(bytes) => {
            let mut crc = flate2::Crc::new();
            crc.update(&bytes);
            crc.sum().into()
        }
        ImageData::Path(path) => path.to_str().unwrap().into(),
        ImageData::Remote(place) => place.to_string().into(),
        ImageData::Black => panic!("{}", sample.name),
    };
    Ok((sample.name, image, sample.caption))
}

#[test]
fn rows_are_those_of_pyarrow() {
    let expected = std::fs::read(file("rows.json")).unwrap();
    let expected: BTreeMap<String, Vec<Row>> = serde_json::from_slice(&expected).unwrap();
    assert!(expected.len() >= 20);
    for (name, expected) in expected {
        let opened = opened(&file(&name)).unwrap();
        let samples = opened.source.num_samples(None).unwrap();
        assert_eq!(samples, expected.len() as u64, "{name}");
        let found = items(&opened);
        assert_eq!(found.len(), expected.len(), "{name}: a row is one item");
        for (at, (found, expected)) in found.into_iter().zip(expected).enumerate() {
            match row(found) {
                Ok(found) => assert_eq!(found, expected, "{name}"),
                Err((kind, reason)) => {
                    assert_eq!(expected.1, Value::Null, "{name}: {reason}");
                    assert_eq!(kind, ProblemKind::MissingImage);
                    assert!(
                        reason.contains(&format!("{name}: row {at}: column")),
                        "{reason}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_holds_pictures_is_taken_as_shards_are() {
    for (name, has_pictures) in [
        ("hugging_face.parquet", true),
        ("cache.arrow", true),
        ("laion.parquet", false),
        ("urls.parquet", false),
    ] {
        let opened = opened(&file(name)).unwrap();
        assert_eq!(opened.rgb_first, has_pictures, "{name}");
        assert_eq!(opened.named_by_picture, !has_pictures, "{name}");
        assert!(opened.is_captioned);
    }
}

#[test]
fn a_bad_row_costs_itself() {
    for (name, bad, kind, words) in [
        (
            "broken_text.parquet",
            3..4,
            ProblemKind::InvalidCaption,
            "caption is not UTF-8",
        ),
        (
            "broken_text.arrow",
            3..4,
            ProblemKind::InvalidCaption,
            "caption is not UTF-8",
        ),
        (
            "encrypted_column.parquet",
            0..7,
            ProblemKind::UnreadableImage,
            "row group 0",
        ),
        (
            "damaged.parquet",
            3..6,
            ProblemKind::UnreadableImage,
            "row group 1",
        ),
    ] {
        let found = items(&opened(&file(name)).unwrap());
        assert_eq!(found.len(), 7, "{name}");
        for (at, item) in found.into_iter().enumerate() {
            match row(item) {
                Err((found, reason)) if bad.contains(&at) => {
                    assert_eq!(found, kind, "{name}: {reason}");
                    assert!(reason.contains(words), "{name}: {reason}");
                }
                Err((kind, reason)) => {
                    // img2dataset's failed downloads.
                    let is_null = kind == ProblemKind::MissingImage && at == 2;
                    assert!(name == "damaged.parquet" && is_null, "{name}: {reason}");
                }
                Ok(_) => assert!(!bad.contains(&at), "{name}: row {at}"),
            }
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_or_costs_itself() {
    for (name, words) in [
        ("cut.parquet", "cut off: a parquet file by its first bytes"),
        ("text.parquet", "not a parquet file"),
        ("no_rows.parquet", "no row in it"),
        ("encrypted_footer.parquet", "encrypted"),
        (
            "codec_brotli.parquet",
            "column image is compressed with brotli; snappy, zstd",
        ),
        (
            "wrong_image.parquet",
            "column \"image\" is a list of INT32; expected binary",
        ),
        (
            "wrong_caption.parquet",
            "column \"caption\" is INT64; expected text",
        ),
        (
            "wrong_kind.arrow",
            "column \"caption\" is numbers of a dictionary's entries",
        ),
        (
            "other_columns.parquet",
            "no column \"image\", \"jpg\", \"filepath\", \"url\", \"path\" or \"file_name\"; it has [\"picture\", \"words\", \"n\"]",
        ),
        ("none.parquet", "No such file"),
    ] {
        let error = opened(&file(name))
            .err()
            .unwrap_or_else(|| panic!("{name}"));
        let error = error.to_string();
        assert!(error.contains(name) && error.contains(words), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let list = file("{cut,img2dataset,text}.parquet");
    let found: Vec<_> = items(&opened(&list).unwrap())
        .into_iter()
        .map(row)
        .collect();
    assert_eq!(found.len(), 9);
    for (at, words) in [(0, "cut off"), (8, "not a parquet file")] {
        let (kind, reason) = found[at].as_ref().unwrap_err();
        assert_eq!(*kind, ProblemKind::UnreadableShard);
        assert!(reason.contains(words), "{reason}");
    }
    let found: Vec<_> = items(&opened(&file("cut.arrow")).unwrap());
    let mut found: Vec<_> = found.into_iter().map(row).collect();
    let (kind, reason) = found.pop().unwrap().unwrap_err();
    assert_eq!(kind, ProblemKind::TruncatedShard);
    assert!(reason.contains("after 1 batches"), "{reason}");
    assert_eq!(found.len(), 3, "one whole batch of three rows");
}

#[test]
fn columns_are_those_that_are_named() {
    let named = |image: &str, caption: &str| OpenOptions {
        csv: CsvFormat {
            columns: Columns {
                image: Some(image.into()),
                caption: Some(caption.into()),
                needs_captions: true,
                carried: false,
            },
            ..CsvFormat::default()
        },
        ..OpenOptions::default()
    };
    let other = open(&file("other_columns.parquet"), &named("picture", "words")).unwrap();
    assert_eq!(items(&other).len(), 7);
    let inner = open(&file("hugging_face.parquet"), &named("image.bytes", "text")).unwrap();
    let (name, ..) = row(items(&inner).remove(0)).unwrap();
    assert_eq!(name, "row 0", "the path of the structure is not read");
    let error = open(&file("hugging_face.arrow"), &named("image", "caption")).err();
    let error = error.unwrap().to_string();
    assert!(
        error.contains("no column \"caption\"; it has [\"image\", \"text\", \"n\"]"),
        "{error}"
    );
}

#[test]
fn a_resume_in_mid_epoch_gives_the_items_that_are_left() {
    let spec = file("{pages_v1,img2dataset,lists}.parquet");
    let order = Order::training(3, 1);
    let room = tempfile::tempdir().unwrap();
    let pass = |index: Option<Arc<ShardIndex>>, left_out, most| {
        let options = OpenOptions {
            index,
            ..OpenOptions::default()
        };
        let mut all = Collect {
            left_out,
            most,
            ..Collect::default()
        };
        let source = open(&spec, &options).unwrap().source;
        let _ = source.pass(&order, 0, &mut all).unwrap();
        all.items
    };
    let whole = pass(None, 0, None);
    assert_eq!(whole.len(), 84 + 7 + 7);
    assert_ne!(
        whole,
        pass(None, 0, None)
            .iter()
            .rev()
            .cloned()
            .collect::<Vec<_>>()
    );
    let index = || Some(Arc::new(ShardIndex::open(room.path(), 0)));
    assert_eq!(
        pass(index(), 0, Some(90)),
        whole[..90],
        "a run that is stopped"
    );
    for at in [1, 13, 50, 89, 97] {
        assert_eq!(pass(index(), at, None), whole[at..], "resumed at {at}");
        assert_eq!(
            pass(None, at, None),
            whole[at..],
            "resumed at {at} without an index"
        );
    }
}

#[test]
fn ranks_share_the_row_groups() {
    let spec = file("{img2dataset,lists,hugging_face}.parquet");
    let mut places = Vec::new();
    for rank in 0..3 {
        let order = Order {
            rank,
            world: 3,
            ..Order::training(1, 0)
        };
        let mut all = Collect::default();
        let _ = opened(&spec)
            .unwrap()
            .source
            .pass(&order, 0, &mut all)
            .unwrap();
        places.extend(all.items.into_iter().map(|item| match item {
            Item::Sample(sample) => sample.place(),
            Item::Problem(problem) => problem.place,
        }));
    }
    assert_eq!(places.len(), 21);
    places.sort();
    places.dedup();
    assert_eq!(places.len(), 21, "{places:?}");
}

/// Bytes that are changed end neither the program nor the count of rows: a row is one item, whatever its file has become.
#[test]
fn changed_bytes_cost_rows_at_most() {
    let room = tempfile::tempdir().unwrap();
    let mut numbers = 1_u64;
    let mut random = |below: usize| {
        // Knuth's linear congruential generator.
        numbers = numbers
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (numbers >> 33) as usize % below
    };
    let mut rows_read = 0;
    for name in [
        "img2dataset.parquet",
        "lists.parquet",
        "pages_v2.parquet",
        "file.arrow",
        "lz4.feather",
        "views.arrow",
    ] {
        let whole = std::fs::read(file(name)).unwrap();
        let path = room.path().join(name);
        for _ in 0..150 {
            let mut bytes = whole.clone();
            for _ in 0..=random(4) {
                let at = random(bytes.len());
                bytes[at] = random(256) as u8;
            }
            if random(4) == 0 {
                bytes.truncate(random(bytes.len()));
            }
            std::fs::write(&path, &bytes).unwrap();
            let Ok(opened) = opened(path.to_str().unwrap()) else {
                continue;
            };
            let mut all = Collect {
                most: Some(1000),
                ..Collect::default()
            };
            let _ = opened
                .source
                .pass(&Order::sequential(), 0, &mut all)
                .unwrap();
            let problems = all
                .items
                .iter()
                .filter(|item| matches!(item, Item::Problem(_)))
                .count();
            let samples = opened.source.num_samples(None).unwrap();
            let cut = usize::from(name.ends_with("w") || name.ends_with("r"));
            assert!(all.items.len() <= samples as usize + cut, "{name}");
            assert!(all.items.len() >= (samples as usize).min(1000), "{name}");
            rows_read += all.items.len() - problems;
        }
    }
    assert!(rows_read > 1000, "{rows_read}");
}
