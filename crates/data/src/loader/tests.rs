#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::Rng;

use super::*;
use crate::source::csv::{Csv, CsvFormat};
use crate::source::files::Files;
use crate::source::image_folder::ImageFolder;
use crate::source::synthetic::{CAPTION, Synthetic};
use crate::source::testing::{tar, tar_bytes, write_shard, write_shards};
use crate::source::{ImageData, Item, ProblemKind, Sink};

/// Two "tokens": the caption's length and its last byte.
struct Lengths;

impl Tokenizer for Lengths {
    fn context_length(&self) -> usize {
        2
    }
    fn tokenize(&self, text: &str) -> Vec<i32> {
        vec![
            text.len() as i32,
            text.bytes().last().unwrap_or_default().into(),
        ]
    }
}

/// Half of the pixels from the image, half at random. Images that begin with `bad`, and empty ones, fail.
fn transform(bytes: &[u8], rng: &mut StdRng, out: &mut [u8]) -> Result<(), DataError> {
    if bytes.is_empty() || bytes.starts_with(b"bad") {
        return Err(DataError::NoClasses {
            path: "not an image".into(),
        });
    }
    assert!(!bytes.starts_with(b"panic"), "a bug in the decoder");
    let half = out.len() / 2;
    for (pixel, byte) in out.iter_mut().zip(bytes.iter().cycle()).take(half) {
        *pixel = *byte;
    }
    rng.fill(&mut out[half..]);
    Ok(())
}

fn options(batch_size: usize, num_batches: Option<u64>) -> LoaderOptions {
    let order = Order::training(5, 1);
    LoaderOptions {
        num_batches,
        workers: 2,
        ..LoaderOptions::new(batch_size, [2, 4], order)
    }
}

fn start(source: impl Source + 'static, options: &LoaderOptions) -> Loader {
    Loader::start(
        Arc::new(source),
        Arc::new(transform),
        Some(Arc::new(Lengths)),
        options,
    )
    .unwrap()
}

/// All batches, without the times.
fn batches(source: impl Source + 'static, options: &LoaderOptions) -> Vec<Batch> {
    let untimed = |batch: Result<Batch, _>| Batch {
        timing: Timing::default(),
        ..batch.unwrap()
    };
    start(source, options).map(untimed).collect()
}

fn failure(source: impl Source + 'static, options: &LoaderOptions) -> DataError {
    let since = Instant::now();
    let error = start(source, options)
        .find_map(Result::err)
        .expect("the loader should fail");
    assert!(since.elapsed() < Duration::from_secs(5));
    error
}

/// Shards with one sample in five bad, one way or another.
fn bad_shards(dir: &Path) -> Vec<std::path::PathBuf> {
    let paths = write_shards(dir, 3, 12);
    let bad = tar_bytes(&[
        ("a.jpg", b"good"),
        ("a.txt", b"good"),
        ("b.jpg", b"bad"),
        ("b.txt", b"corrupt"),
        ("c.jpg", b"no caption"),
        ("d.txt", b"no image"),
        ("e.jpg", b""),
        ("e.txt", b"zero bytes"),
        ("f.jpg", b"good"),
        ("f.txt", b"good"),
        ("f.jpg", b"twice"),
        ("f.txt", b"twice"),
        ("g.jpg", b"good"),
        ("g.txt", b"\xff"),
    ]);
    std::fs::write(&paths[1], &bad[..bad.len() - 1024 - 512]).unwrap();
    std::fs::remove_file(&paths[2]).unwrap();
    paths
}

/// A CSV of `rows` images, every seventh of which is bad: corrupt, missing or without caption.
fn csv(dir: &Path, rows: usize) -> Csv {
    let mut text = "filepath\ttitle\n".to_owned();
    for row in 0..rows {
        let path = dir.join(format!("{row}.jpg"));
        let (image, caption) = match row % 21 {
            0 => (Some("bad"), "corrupt".to_owned()),
            7 => (None, "missing".to_owned()),
            14 => (Some("x"), String::new()),
            _ => (Some("image"), format!("caption {row}")),
        };
        if let Some(image) = image {
            std::fs::write(&path, format!("{image}{row}")).unwrap();
        }
        text.push_str(&format!("{}\t{caption}\n", path.display()));
    }
    std::fs::write(dir.join("pairs.tsv"), text).unwrap();
    Csv::open(&dir.join("pairs.tsv"), &CsvFormat::default()).unwrap()
}

#[test]
fn batches_hold_what_the_samples_hold() {
    let dir = tempfile::tempdir().unwrap();
    let source = tar(write_shards(dir.path(), 1, 3));
    let options = LoaderOptions {
        order: Order::sequential(),
        ..options(2, None)
    };
    let all = batches(source, &options);
    let sizes: Vec<_> = all.iter().map(|batch| (batch.size, batch.cursor)).collect();
    assert_eq!(
        sizes,
        [(2, 2), (1, 3)],
        "evaluation keeps the last, smaller batch"
    );
    assert_eq!(all[0].names, ["000-000", "000-001"]);
    assert_eq!(all[0].captions, all[0].names);
    assert_eq!(all[0].tokens, [7, i32::from(b'0'), 7, i32::from(b'1')]);
    assert_eq!(all[0].images.len(), 2 * 3 * 2 * 4);
    assert_eq!(&all[0].images[24..36], b"000-001000-0");
    assert_eq!(all[1].images.len(), 24);
    assert!(all[0].labels.is_empty());
}

#[test]
fn batches_do_not_depend_on_workers_or_prefetch() {
    let dir = tempfile::tempdir().unwrap();
    let source = |which| -> Box<dyn Fn() -> Arc<dyn Source>> {
        let dir = dir.path().join(which);
        std::fs::create_dir(&dir).unwrap();
        if which == "csv" {
            let csv = csv(&dir, 60);
            Box::new(move || Arc::new(csv.clone()))
        } else {
            let paths = bad_shards(&dir);
            Box::new(move || Arc::new(tar(paths.clone())))
        }
    };
    for source in [source("csv"), source("tar")] {
        let run = |workers, prefetch, max_bytes| {
            let options = LoaderOptions {
                workers,
                prefetch,
                max_bytes,
                ..options(4, Some(40))
            };
            let loader = Loader::start(
                source(),
                Arc::new(transform),
                Some(Arc::new(Lengths)),
                &options,
            )
            .unwrap();
            loader
                .map(|batch| Batch {
                    timing: Timing::default(),
                    ..batch.unwrap()
                })
                .collect::<Vec<_>>()
        };
        let one = run(1, 1, usize::MAX);
        assert_eq!(one.len(), 40);
        assert!(one.iter().all(|batch| batch.size == 4));
        assert_eq!(one, run(2, 3, usize::MAX));
        assert_eq!(one, run(7, 1, 100));
    }
}

#[test]
fn recycled_memory_does_not_show() {
    let dir = tempfile::tempdir().unwrap();
    let source = Synthetic { len: 10 };
    let mut loader = start(source, &options(2, Some(20)));
    while let Some(batch) = loader.next() {
        let mut images = batch.unwrap().images;
        assert_eq!(images, [0; 48]);
        images.fill(7);
        loader.recycle(images);
    }
    let paths = write_shards(dir.path(), 2, 9);
    let straight = batches(tar(paths.clone()), &options(4, Some(20)));
    let mut loader = start(tar(paths), &options(4, Some(20)));
    for expected in straight {
        let mut images = loader.next().unwrap().unwrap().images;
        assert_eq!(images, expected.images);
        images.push(1);
        loader.recycle(images);
    }
}

#[test]
fn resuming_at_any_batch_continues_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let table = csv(dir.path(), 50);
    let shards = bad_shards(dir.path());
    let resumes = |run: &dyn Fn(&LoaderOptions) -> Vec<Batch>| {
        let straight = run(&options(5, Some(30)));
        for done in 1..straight.len() {
            let rest = LoaderOptions {
                start_cursor: straight[done - 1].cursor,
                num_batches: Some(30 - done as u64),
                workers: 1 + done % 3,
                ..options(5, None)
            };
            assert_eq!(run(&rest), straight[done..], "after {done} batches");
        }
    };
    // 30 batches of 5 are several passes over either source.
    resumes(&|options| batches(table.clone(), options));
    resumes(&|options| batches(tar(shards.clone()), options));
}

#[test]
fn an_epoch_longer_than_the_source_begins_it_anew() {
    let dir = tempfile::tempdir().unwrap();
    let source = tar(write_shards(dir.path(), 1, 7));
    let all = batches(source, &options(4, Some(7)));
    let names: Vec<_> = all.iter().flat_map(|batch| batch.names.clone()).collect();
    assert_eq!(names.len(), 28);
    for pass in names.chunks(7) {
        let mut pass = pass.to_vec();
        pass.sort();
        pass.dedup();
        assert_eq!(pass.len(), 7, "each pass holds every sample once");
    }
    assert_ne!(names[..7], names[7..14]);
    // The same sample is transformed differently the second time.
    let pixels = |n: usize| &all[n / 4].images[n % 4 * 24 + 12..n % 4 * 24 + 24];
    let again = 7 + names[7..14]
        .iter()
        .position(|name| *name == names[0])
        .unwrap();
    assert_ne!(pixels(0), pixels(again));
}

#[test]
fn bad_samples_are_counted_by_kind() {
    let dir = tempfile::tempdir().unwrap();
    let options = LoaderOptions {
        order: Order::sequential(),
        ..options(4, None)
    };
    let mut loader = start(tar(bad_shards(dir.path())), &options);
    let good: usize = loader.by_ref().map(|batch| batch.unwrap().size).sum();
    let stats = loader.stats();
    assert_eq!(
        stats.problems,
        [
            (ProblemKind::UnreadableShard, 1),
            (ProblemKind::TruncatedShard, 1),
            (ProblemKind::DuplicateKey, 1),
            (ProblemKind::MissingImage, 1),
            (ProblemKind::MissingCaption, 1),
            (ProblemKind::UndecodableImage, 2),
        ]
    );
    assert_eq!((stats.samples, good, stats.dropped()), (15, 15, 4));

    let mut loader = start(csv(dir.path(), 21), &options);
    assert_eq!(
        loader
            .by_ref()
            .map(|batch| batch.unwrap().size)
            .sum::<usize>(),
        18
    );
    let kinds = [
        ProblemKind::MissingCaption,
        ProblemKind::UnreadableImage,
        ProblemKind::UndecodableImage,
    ];
    assert_eq!(loader.stats().problems, kinds.map(|kind| (kind, 1)));
    assert_eq!(loader.next().map(|batch| batch.is_ok()), None);
}

#[test]
fn a_source_without_samples_is_an_error_not_a_wait() {
    let dir = tempfile::tempdir().unwrap();
    let shard = |name: &str, members: &[(&str, &[u8])]| {
        std::fs::write(dir.path().join(name), tar_bytes(members)).unwrap();
        tar(vec![dir.path().join(name)])
    };
    let wrong_names = shard("names.tar", &[("README", b"x"), ("LICENSE", b"y")]);
    let no_captions = shard("captions.tar", &[("a.jpg", b"x"), ("a.json", b"{}")]);
    let other_images = shard("images.tar", &[("a.tiff", b"x"), ("a.txt", b"y")]);
    let absent = tar((0..1000)
        .map(|n| dir.path().join(format!("absent-{n}.tar")))
        .collect());
    std::fs::write(dir.path().join("empty.tsv"), "filepath\ttitle\n").unwrap();
    let no_rows = Csv::open(&dir.path().join("empty.tsv"), &CsvFormat::default()).unwrap();
    let options = options(4, Some(10));
    for (error, word) in [
        (failure(wrong_names, &options), "shard without samples"),
        (failure(no_captions, &options), "missing caption"),
        (failure(other_images, &options), "missing image"),
        (failure(absent, &options), "16 × unreadable shard"),
        (failure(no_rows.clone(), &options), "nothing at all"),
        (
            failure(
                no_rows.clone(),
                &LoaderOptions {
                    num_batches: None,
                    ..options.clone()
                },
            ),
            "nothing at all",
        ),
        (
            failure(
                no_rows,
                &LoaderOptions {
                    start_cursor: 7,
                    ..options.clone()
                },
            ),
            "nothing at all",
        ),
    ] {
        assert!(matches!(error, DataError::NoSamples { .. }), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn mostly_bad_samples_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<_> = (0..30)
        .map(|n| dir.path().join(format!("{n}.jpg")))
        .collect();
    for (n, path) in paths.iter().enumerate() {
        std::fs::write(path, if n % 3 == 0 { "good" } else { "bad" }).unwrap();
    }
    let options = LoaderOptions {
        order: Order::sequential(),
        ..options(4, None)
    };
    let run = |options: &LoaderOptions| {
        let files = Files::list(paths.clone());
        let mut loader =
            Loader::start(Arc::new(files), Arc::new(transform), None, options).unwrap();
        (loader.by_ref().find_map(Result::err), loader.stats())
    };
    let (error, _) = run(&options);
    assert!(
        matches!(
            error,
            Some(DataError::TooManyBadSamples {
                dropped: 20,
                total: 30,
                ..
            })
        ),
        "{error:?}"
    );
    let (error, _) = run(&LoaderOptions {
        bad_share_after: 10,
        ..options.clone()
    });
    assert!(
        matches!(
            error,
            Some(DataError::TooManyBadSamples {
                dropped: 7,
                total: 11,
                ..
            })
        ),
        "{error:?}"
    );
    let (error, stats) = run(&LoaderOptions {
        max_bad_share: 0.7,
        ..options
    });
    assert!(error.is_none(), "{error:?}");
    assert_eq!((stats.samples, stats.dropped()), (10, 20));
}

#[test]
fn sources_without_captions_need_no_tokenizer() {
    let dir = tempfile::tempdir().unwrap();
    for class in ["cat", "dog"] {
        std::fs::create_dir(dir.path().join(class)).unwrap();
        std::fs::write(dir.path().join(class).join("1.png"), class).unwrap();
    }
    let folder = Arc::new(ImageFolder::open(dir.path()).unwrap());
    let options = LoaderOptions {
        order: Order::sequential(),
        ..options(4, None)
    };
    let all: Vec<_> = Loader::start(folder, Arc::new(transform), None, &options)
        .unwrap()
        .collect();
    let [Ok(batch)] = &all[..] else {
        panic!("{all:?}")
    };
    assert_eq!(
        (batch.size, &batch.labels[..], &batch.tokens[..]),
        (2, &[0, 1][..], &[][..])
    );
    assert_eq!(batch.captions, ["", ""]);

    let all = batches(Synthetic { len: 3 }, &options);
    assert_eq!(all[0].images, [0; 72], "synthetic images are black");
    assert_eq!(all[0].captions, [CAPTION; 3]);
}

#[test]
fn resuming_past_the_end_of_evaluation_gives_nothing() {
    let options = LoaderOptions {
        start_cursor: 3,
        order: Order::sequential(),
        ..options(2, None)
    };
    assert!(batches(Synthetic { len: 3 }, &options).is_empty());
    assert_eq!(
        batches(Synthetic { len: 4 }, &options)[0].names,
        ["synthetic-3"]
    );
    assert!(
        batches(
            Synthetic { len: 4 },
            &LoaderOptions {
                num_batches: Some(0),
                ..options
            }
        )
        .is_empty()
    );
}

/// Pushes as many samples as it may, and counts them.
struct Endless {
    pushed: Arc<AtomicUsize>,
    image: &'static [u8],
    panics: bool,
}

impl Source for Endless {
    fn describe(&self) -> String {
        "an endless source".into()
    }
    fn batches_per_epoch(&self, _: Option<u64>, _: usize, _: usize) -> Result<u64, DataError> {
        Ok(u64::MAX)
    }
    fn pass(&self, _: &Order, _: u64, sink: &mut dyn Sink) -> Result<ControlFlow<()>, DataError> {
        assert!(!self.panics, "a bug in the source");
        loop {
            let image = ImageData::Encoded(self.image.to_vec());
            let sample = Sample {
                name: "endless".into(),
                shard: None,
                image,
                caption: Some("x".into()),
                label: None,
            };
            if sink.push(Item::Sample(sample)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            self.pushed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn endless(image: &'static [u8], panics: bool) -> (Endless, Arc<AtomicUsize>) {
    let pushed = Arc::new(AtomicUsize::new(0));
    (
        Endless {
            pushed: Arc::clone(&pushed),
            image,
            panics,
        },
        pushed,
    )
}

#[test]
fn a_loader_that_nobody_reads_stands_still_and_drops_at_once() {
    for taken in [0, 1, 5] {
        let (source, pushed) = endless(b"image", false);
        let mut loader = start(source, &options(4, Some(1_000_000)));
        for _ in 0..taken {
            loader.next().unwrap().unwrap();
        }
        std::thread::sleep(Duration::from_millis(50));
        let under_way = pushed.load(Ordering::Relaxed) - 4 * taken;
        // 16 under way, two batches waiting, one at the door, one being filled.
        assert!(under_way <= 16 + 4 * 4, "{under_way} samples ahead");
        let since = Instant::now();
        drop(loader);
        assert!(since.elapsed() < Duration::from_secs(1));
    }
    // Dropping while all threads are busy.
    for _ in 0..20 {
        let (source, _) = endless(b"image", false);
        drop(start(source, &options(4, None)));
    }
}

#[test]
fn bytes_under_way_are_bounded() {
    let (source, pushed) = endless(&[1; 1000], false);
    let options = LoaderOptions {
        max_bytes: 3100,
        prefetch: 1,
        ..options(1, Some(1_000_000))
    };
    let _loader = start(source, &options);
    std::thread::sleep(Duration::from_millis(50));
    // Three of 1025 bytes under way, one batch waiting, one at the door.
    assert!(pushed.load(Ordering::Relaxed) <= 3 + 2);
}

#[test]
fn a_panic_is_an_error_not_a_hang() {
    let options = options(4, Some(10));
    let (source, _) = endless(b"panic", false);
    let error = failure(source, &options).to_string();
    assert!(
        error.contains("endless") && error.contains("a bug in the decoder"),
        "{error}"
    );
    let (source, _) = endless(b"image", true);
    let error = failure(source, &options).to_string();
    assert!(
        error.contains("an endless source") && error.contains("a bug in the source"),
        "{error}"
    );
}

#[test]
fn an_error_of_the_source_reaches_the_caller() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(4, Some(10));
    options.order.world = 2;
    let error = failure(tar(write_shards(dir.path(), 1, 3)), &options);
    assert!(matches!(error, DataError::TooFewShards { .. }), "{error}");
}

#[test]
fn times_are_counted_by_stage() {
    let dir = tempfile::tempdir().unwrap();
    write_shard(&dir.path().join("a.tar"), (0..8).map(|n| n.to_string()));
    let slow = |_: &[u8], _: &mut StdRng, _: &mut [u8]| {
        std::thread::sleep(Duration::from_millis(5));
        Ok(())
    };
    let source = Arc::new(tar(vec![dir.path().join("a.tar")]));
    let mut loader = Loader::start(source, Arc::new(slow), None, &options(4, Some(2))).unwrap();
    let first = loader.next().unwrap().unwrap().timing;
    assert!(first.transform >= Duration::from_millis(20), "{first:?}");
    assert!(first.wait >= Duration::from_millis(5), "{first:?}");
    assert!(
        first.read > Duration::ZERO && first.tokenize < first.transform,
        "{first:?}"
    );
    assert_eq!(loader.by_ref().count(), 1);
    let total = loader.stats();
    assert!(
        total.timing.transform >= Duration::from_millis(40),
        "{total:?}"
    );
    assert_eq!(
        total.bytes, 16,
        "one byte of image and one of caption in each"
    );
}

/// A source whose third item takes its time.
struct Slow(Duration);

impl Source for Slow {
    fn describe(&self) -> String {
        "a slow source".into()
    }
    fn batches_per_epoch(&self, _: Option<u64>, _: usize, _: usize) -> Result<u64, DataError> {
        Ok(2)
    }
    fn pass(&self, _: &Order, _: u64, sink: &mut dyn Sink) -> Result<ControlFlow<()>, DataError> {
        for row in 0..4 {
            if row == 2 {
                std::thread::sleep(self.0);
            }
            let sample = Sample {
                name: format!("row {row}"),
                image: ImageData::Encoded(vec![row; 4]),
                caption: Some("caption".into()),
                label: None,
                shard: None,
            };
            if sink.push(Item::Sample(sample)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

#[test]
fn a_wait_that_takes_long_says_what_for_as_often_as_it_has_doubled() {
    let options = LoaderOptions {
        order: Order::sequential(),
        stall_after: Duration::from_millis(50),
        ..options(2, None)
    };
    let mut loader = start(Slow(Duration::from_millis(280)), &options);
    for batch in loader.by_ref() {
        batch.unwrap();
    }
    let stalls = loader.stats().stalls;
    // At 50, 100 and 200 ms; a busy machine may see fewer.
    assert!(!stalls.is_empty() && stalls.len() <= 3, "{stalls:?}");
    for stall in &stalls {
        assert_eq!(
            (stall.stage, stall.place.as_str()),
            (Stage::Source, "a slow source")
        );
    }
    assert!(
        stalls[0]
            .to_string()
            .ends_with(" s: the loader is reading a slow source")
    );
}

#[test]
fn a_decoder_that_takes_long_is_told_from_the_source() {
    let slow = |bytes: &[u8], _: &mut StdRng, out: &mut [u8]| {
        if bytes[0] == 1 {
            std::thread::sleep(Duration::from_millis(150));
        }
        out.fill(0);
        Ok(())
    };
    let options = LoaderOptions {
        order: Order::sequential(),
        stall_after: Duration::from_millis(60),
        ..options(2, None)
    };
    let source = Arc::new(Slow(Duration::ZERO));
    let mut loader =
        Loader::start(source, Arc::new(slow), Some(Arc::new(Lengths)), &options).unwrap();
    for batch in loader.by_ref() {
        batch.unwrap();
    }
    let stalls = loader.stats().stalls;
    assert!(!stalls.is_empty(), "no stall");
    assert_eq!(
        (stalls[0].stage, stalls[0].place.as_str()),
        (Stage::Decoding, "row 1")
    );
}
