//! One epoch: every sample once, or the remainder that is stated, whatever the number of ranks and workers.

use std::collections::BTreeMap;

use super::*;
use crate::source::testing::tar;

/// How often each sample is in the batches of one epoch of training; all ranks together, and the samples of each rank in order.
fn epoch(
    source: &(impl Source + Clone + 'static),
    samples: u64,
    world: usize,
    workers: usize,
) -> (BTreeMap<String, usize>, Vec<Vec<String>>) {
    const BATCH: usize = 3;
    let num_batches = source
        .batches_per_epoch(Some(samples), world, BATCH)
        .unwrap();
    let rank = |rank| {
        let options = LoaderOptions {
            workers,
            order: Order {
                rank,
                world,
                ..Order::training(5, 1)
            },
            ..options(BATCH, Some(num_batches))
        };
        let all = batches(source.clone(), &options);
        assert_eq!(all.len() as u64, num_batches);
        assert!(all.iter().all(|batch| batch.size == BATCH));
        all.into_iter().flat_map(|batch| batch.names).collect()
    };
    let ranks: Vec<Vec<String>> = (0..world).map(rank).collect();
    let mut counts = BTreeMap::new();
    for name in ranks.iter().flatten() {
        *counts.entry(name.clone()).or_default() += 1;
    }
    (counts, ranks)
}

/// Shards are filled up to whole batches: a rank that is through with its samples begins with them again.
#[test]
fn an_epoch_of_shards_has_every_sample_once_and_then_the_first_again() {
    let dir = tempfile::tempdir().unwrap();
    let source = tar(write_shards(dir.path(), 12, 5));
    for world in 1..=4 {
        let mut first = None;
        for workers in 1..=4 {
            let (counts, ranks) = epoch(&source, 60, world, workers);
            let share = 60 / world;
            let mut once: Vec<&String> = ranks.iter().flat_map(|rank| &rank[..share]).collect();
            once.sort_unstable();
            once.dedup();
            assert_eq!(once.len(), 60, "{world} ranks, {workers} workers");
            assert_eq!(counts.len(), 60);
            // 20 samples of each of three ranks make seven batches of three, one sample more.
            let again: usize = counts.values().map(|count| count - 1).sum();
            assert_eq!(again, if world == 3 { 3 } else { 0 });
            assert_eq!(*first.get_or_insert(ranks.clone()), ranks);
        }
    }
}

/// Tables are cut to whole batches: what is left over, and no more, is missing. Ranks that would have fewer than others get some of
/// the first again.
#[test]
fn an_epoch_of_a_table_has_every_sample_once_but_for_the_remainder() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = "filepath\ttitle\n".to_owned();
    let image = dir.path().join("x.jpg");
    std::fs::write(&image, "image").unwrap();
    for row in 0..61 {
        let path = dir.path().join(format!("{row}.jpg"));
        std::fs::copy(&image, &path).unwrap();
        text.push_str(&format!("{}\tcaption {row}\n", path.display()));
    }
    std::fs::write(dir.path().join("pairs.tsv"), text).unwrap();
    let source = Csv::open(&dir.path().join("pairs.tsv"), &CsvFormat::default()).unwrap();
    for world in 1..=4_usize {
        let mut first = None;
        for workers in 1..=4 {
            let (counts, ranks) = epoch(&source, 61, world, workers);
            let shared = 61_usize.next_multiple_of(world);
            let used = shared / world / 3 * 3 * world;
            let total: usize = counts.values().sum();
            assert_eq!(total, used, "{world} ranks, {workers} workers");
            // Those that fill up the ranks occur twice, unless they or their second occurrence are in the remainder.
            assert!(total - counts.len() <= shared - 61);
            assert!(61 - counts.len() <= shared - used + (shared - 61));
            assert_eq!(*first.get_or_insert(ranks.clone()), ranks);
        }
    }
}

#[test]
fn evaluation_has_every_sample_once_on_any_number_of_ranks() {
    let dir = tempfile::tempdir().unwrap();
    let source = tar(write_shards(dir.path(), 7, 5));
    for (world, workers) in (1..=4).flat_map(|world| (1..=4).map(move |workers| (world, workers))) {
        let rank = |rank| {
            let order = Order {
                rank,
                world,
                ..Order::sequential()
            };
            let options = LoaderOptions {
                workers,
                order,
                ..options(4, None)
            };
            batches(source.clone(), &options)
        };
        let all = (0..world).flat_map(rank);
        let mut names: Vec<String> = all.flat_map(|batch| batch.names).collect();
        names.sort_unstable();
        let expected = (0..7).flat_map(|shard| (0..5).map(move |n| format!("{shard:03}-{n:03}")));
        assert_eq!(names, expected.collect::<Vec<_>>());
    }
}
