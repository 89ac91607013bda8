//! What is in the batches, whatever the number of threads and wherever a run goes on.

use super::*;
use crate::source::image_folder::ImageFolder;
use crate::source::synthetic::{CAPTION, Synthetic};
use crate::source::testing::tar;

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
    let names = all[0].names.iter().cloned().map(Some);
    assert_eq!(all[0].captions, names.collect::<Vec<_>>());
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
    assert_eq!(batch.captions, [None, None]);

    let all = batches(Synthetic { len: 3 }, &options);
    assert_eq!(all[0].images, [0; 72], "synthetic images are black");
    assert_eq!(all[0].captions, vec![Some(CAPTION.to_owned()); 3]);
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
