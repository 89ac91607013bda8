//! Bad samples, bad sources and bugs.

use super::*;
use crate::source::ProblemKind;
use crate::source::files::Files;
use crate::source::testing::tar;
use crate::storage::Place;

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

/// Shards of 2,000 samples, of which 30 % are broken in three ways.
fn broken_in_part(dir: &Path) -> Vec<std::path::PathBuf> {
    let shard = |shard: usize| {
        let mut members = Vec::new();
        for n in 0..500 {
            let key = format!("{shard}-{n:03}");
            let image: &[u8] = if n % 10 == 0 { b"bad" } else { b"good" };
            if n % 10 != 3 {
                members.push((format!("{key}.jpg"), image));
            }
            if n % 10 != 6 {
                members.push((format!("{key}.txt"), b"caption"));
            }
        }
        let members: Vec<_> = members
            .iter()
            .map(|(name, bytes)| (name.as_str(), *bytes))
            .collect();
        let path = dir.join(format!("{shard}.tar"));
        std::fs::write(&path, tar_bytes(&members)).unwrap();
        path
    };
    (0..4).map(shard).collect()
}

#[test]
fn thirty_percent_of_broken_samples_are_counted_to_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let paths = broken_in_part(dir.path());
    for workers in [1, 4] {
        for order in [Order::sequential(), Order::training(5, 1)] {
            let options = LoaderOptions {
                workers,
                order,
                max_bad_share: 0.5,
                ..options(16, None)
            };
            let mut loader = start(tar(paths.clone()), &options);
            let good: usize = loader.by_ref().map(|batch| batch.unwrap().size).sum();
            assert_eq!(good, 1400);
            let kinds = [
                ProblemKind::MissingImage,
                ProblemKind::MissingCaption,
                ProblemKind::UndecodableImage,
            ];
            assert_eq!(loader.stats().problems, kinds.map(|kind| (kind, 200)));
            assert_eq!(loader.stats().dropped(), 600);
        }
    }
    // Where training goes round and round, no more than each pass has.
    let options = LoaderOptions {
        order: Order::training(5, 1),
        ..options(14, Some(300))
    };
    let mut loader = start(tar(paths), &options);
    assert!(
        loader
            .by_ref()
            .all(|batch| batch.is_ok_and(|batch| batch.size == 14))
    );
    let stats = loader.stats();
    assert_eq!(stats.samples, 4200);
    assert!((1700..=1800).contains(&stats.dropped()), "{stats:?}");
}

#[test]
fn too_large_a_share_is_an_error_with_reasons_and_examples() {
    let dir = tempfile::tempdir().unwrap();
    let options = LoaderOptions {
        max_bad_share: 0.2,
        ..options(16, Some(1000))
    };
    let error = failure(tar(broken_in_part(dir.path())), &options);
    let DataError::TooManyBadSamples { dropped, total, .. } = &error else {
        panic!("{error}")
    };
    assert!(*total >= 1000 && (0.28..0.5).contains(&(*dropped as f64 / *total as f64)));
    let error = error.to_string();
    for words in [
        "--max-skip 0.2",
        "× missing image, such as ",
        "× missing caption, such as ",
        "× undecodable image, such as ",
        "members: txt",
        "not an image",
    ] {
        assert!(error.contains(words), "{words}: {error}");
    }
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

/// Ended the program.
#[test]
fn a_batch_larger_than_the_memory() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(1 << 60, None);
    let error = failure(tar(write_shards(dir.path(), 1, 3)), &options);
    assert!(matches!(error, DataError::BatchTooLarge { .. }), "{error}");
}

/// Was trained on as a row of zeros, which is a token in some vocabularies.
#[test]
fn a_caption_without_tokens_is_a_counted_bad_sample() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tar");
    let members: [(&str, &[u8]); 4] = [
        ("a.jpg", b"good"),
        ("a.txt", b"good"),
        ("b.jpg", b"good"),
        ("b.txt", b"no token"),
    ];
    std::fs::write(&path, tar_bytes(&members)).unwrap();
    let options = LoaderOptions {
        order: Order::sequential(),
        ..options(4, None)
    };
    let mut loader = start(tar(vec![path]), &options);
    let names: Vec<_> = loader.by_ref().map(|batch| batch.unwrap().names).collect();
    assert_eq!(names.concat(), ["a"]);
    let problems = loader.stats().problems;
    assert_eq!(problems, [(ProblemKind::UntokenizableCaption, 1)]);
    assert_eq!(loader.stats().dropped(), 1);
}

/// Pictures that nobody sends.
struct Silent;

impl Source for Silent {
    fn describe(&self) -> String {
        "silent".into()
    }

    fn num_samples(&self, _: Option<u64>) -> Result<u64, DataError> {
        Ok(4)
    }

    fn batches(&self, samples: u64, _: usize, batch_size: usize) -> u64 {
        samples.div_ceil(batch_size as u64)
    }

    fn fingerprint(&self) -> u32 {
        0
    }

    fn partitions(self: Arc<Self>, _: u64) -> Result<Vec<Arc<dyn Source>>, DataError> {
        Ok(vec![self])
    }

    fn pass(&self, _: &Order, _: u64, sink: &mut dyn Sink) -> Result<ControlFlow<()>, DataError> {
        Ok((0..4).try_for_each(|number| {
            sink.push(Item::Sample(Sample {
                name: format!("{number}.jpg"),
                shard: None,
                image: ImageData::Remote(Place::Pipe("sleep 90".into())),
                caption: Some("x".into()),
                label: None,
                fields: Default::default(),
            }))
        }))
    }
}

#[test]
fn a_picture_that_nobody_sends_does_not_hold_the_end() {
    let loader = start(Silent, &options(4, None));
    // Workers are at it by then.
    std::thread::sleep(Duration::from_millis(300));
    let end = Instant::now();
    drop(loader);
    assert!(end.elapsed() < Duration::from_secs(20));
}
