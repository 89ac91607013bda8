#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::collections::{HashMap, HashSet};

use super::super::ImageData;
use super::super::testing::{Collect, gzip, tar, tar_bytes, write_shard, write_shards};
use super::super::{Order, ProblemKind, Sample, Source};
use super::*;

fn read(bytes: &[u8]) -> Collect {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.tar");
    std::fs::write(&path, bytes).unwrap();
    Collect::pass(&tar(vec![path]), &Order::sequential(), 0).unwrap()
}

#[test]
fn plain_and_gzip_give_the_same_samples() {
    let long = format!("{}/a.jpg", "d".repeat(150));
    let bytes = tar_bytes(&[
        ("a.jpg", b"image"),
        ("a.txt", b"caption \xc3\xbc"),
        ("a.json", b"{}"),
        (&long, b"2"),
    ]);
    let plain = read(&bytes);
    let [first, second] = &plain.samples().collect::<Vec<_>>()[..] else {
        panic!("{:?}", plain.0)
    };
    assert_eq!(
        (first.name.as_str(), first.caption.as_deref()),
        ("a", Some("caption ü"))
    );
    assert_eq!(first.image, ImageData::Encoded(b"image".to_vec()));
    assert_eq!((second.name.len(), second.caption.as_deref()), (152, None));
    let packed = read(&gzip(&bytes));
    let without_shard = |all: &Collect| -> Vec<_> {
        let of_no_shard = |sample: &Sample| Sample {
            shard: None,
            ..sample.clone()
        };
        all.samples().map(of_no_shard).collect()
    };
    assert_eq!(without_shard(&packed), without_shard(&plain));
    assert_eq!((packed.0.len(), plain.0.len()), (2, 2));
}

#[test]
fn bad_samples_are_told_and_the_others_kept() {
    use ProblemKind::{DuplicateKey, InvalidCaption, MissingImage};
    let all = read(&tar_bytes(&[
        ("a.jpg", b"1"),
        ("a.txt", b"one"),
        ("a.jpg", b"2"),
        ("a.txt", b"again"),
        ("b.txt", b"no image"),
        ("c.jpg", b"3"),
        ("c.txt", b"\xff\xfe"),
        ("d.jpg", b""),
        ("d.txt", b"zero bytes are the decoder's affair"),
    ]));
    assert_eq!(all.names(), ["a", "a", "d"]);
    assert_eq!(all.problems(), [DuplicateKey, MissingImage, InvalidCaption]);
}

#[test]
fn a_shard_cut_anywhere_gives_its_whole_samples_and_one_problem() {
    let dir = tempfile::tempdir().unwrap();
    let paths = write_shards(dir.path(), 2, 3);
    let whole = std::fs::read(&paths[0]).unwrap();
    // Each sample is two members of one header and one block of content.
    for cut in (1..whole.len()).step_by(100) {
        std::fs::write(&paths[0], &whole[..cut]).unwrap();
        let all = Collect::pass(&tar(paths.clone()), &Order::sequential(), 0).unwrap();
        let names = all.names();
        assert!(
            names.ends_with(&["001-000", "001-001", "001-002"]),
            "cut at {cut}: {names:?}"
        );
        let complete = ((cut + 512 - 7) / 2048).min(3);
        assert_eq!(names.len() - 3, complete, "cut at {cut}");
        let samples: Vec<_> = all.samples().collect();
        assert!(
            samples
                .iter()
                .all(|sample| sample.caption.as_deref() == Some(sample.name.as_str())),
            "cut at {cut}"
        );
        assert!(
            all.problems().len() <= 1,
            "cut at {cut}: {:?}",
            all.problems()
        );
        // Inside a header or the seven bytes of content; the members end at multiples of 1024.
        if (1..519).contains(&(cut % 1024)) && cut < 6 * 1024 {
            assert_eq!(all.problems().len(), 1, "cut at {cut}");
        }
    }
    std::fs::write(&paths[0], &gzip(&whole)[..100]).unwrap();
    let all = Collect::pass(&tar(paths), &Order::sequential(), 0).unwrap();
    assert_eq!(all.samples().count(), 3);
    assert_eq!(all.problems().len(), 1);
}

#[test]
fn shards_that_are_none_are_told_and_passed_over() {
    use ProblemKind::{EmptyShard, UnreadableShard};
    let dir = tempfile::tempdir().unwrap();
    let mut paths = write_shards(dir.path(), 1, 1);
    for (name, bytes) in [
        ("garbage.tar", vec![7; 5000]),
        ("packed.tar", b"BZh91AY&SY".to_vec()),
        ("zero.tar", vec![]),
        (
            "unnamed.tar",
            tar_bytes(&[("README", b"x"), ("__meta__/a.jpg", b"y")]),
        ),
    ] {
        paths.insert(paths.len() - 1, dir.path().join(name));
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    paths.insert(0, dir.path().join("absent.tar"));
    let all = Collect::pass(&tar(paths), &Order::sequential(), 0).unwrap();
    assert_eq!(all.names(), ["000-000"]);
    assert_eq!(
        all.problems(),
        [
            UnreadableShard,
            UnreadableShard,
            UnreadableShard,
            EmptyShard,
            EmptyShard
        ]
    );
}

#[test]
fn a_member_that_claims_too_many_bytes_is_not_read() {
    let mut header = ::tar::Header::new_gnu();
    header.set_path("a.jpg").unwrap();
    header.set_size(1 << 60);
    header.set_cksum();
    let all = read(header.as_bytes());
    assert_eq!(all.samples().count(), 0);
    assert_eq!(all.problems(), [ProblemKind::TruncatedShard]);
}

fn pass(bytes: &[u8]) -> Result<Collect, DataError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.tar");
    std::fs::write(&path, bytes).unwrap();
    Collect::pass(&tar(vec![path]), &Order::sequential(), 0)
}

#[test]
fn members_of_a_sample_stand_together() {
    let image: &[u8] = b"1";
    for members in [
        &["a.jpg", "b.jpg", "a.txt", "b.txt"][..],
        &["a.txt", "b.txt", "a.JPG", "b.jpg"],
        &["a.jpg", "a.txt", "b.jpg", "b.txt", "a.json", "b.json"],
        &["a.jpg", "b.jpg", "b.txt", "a.txt"],
        &["a.jpg", "a.txt", "b.jpg", "c.jpg", "c.txt", "b.txt"],
    ] {
        let members: Vec<_> = members.iter().map(|name| (*name, image)).collect();
        match pass(&tar_bytes(&members)) {
            Err(DataError::ScatteredSample { .. }) => {}
            other => panic!("{members:?}: {:?}", other.map(|all| all.0)),
        }
    }
    // Samples that share a key, as in archives that were written one behind the other.
    for (members, samples) in [
        (
            &["a.jpg", "a.txt", "b.jpg", "b.txt", "a.jpg", "a.txt"][..],
            3,
        ),
        (&["a.jpg", "a.txt", "b.jpg", "a.png", "a.txt"], 3),
        (&["a.jpg", "b.jpg", "a.jpg", "b.png"], 4),
        (&["x/a.jpg", "x/b.jpg", "y/a.txt.jpg", "y/a.jpg"], 3),
    ] {
        let members: Vec<_> = members.iter().map(|name| (*name, image)).collect();
        let all = pass(&tar_bytes(&members)).unwrap();
        assert_eq!(all.samples().count(), samples, "{members:?}");
    }
}

#[test]
fn an_archive_that_ends_without_its_mark_is_told_of() {
    let members = [
        ("a.jpg", &b"1"[..]),
        ("b.jpg", b"2"),
        ("c.jpg", b"3"),
        ("c.txt", b"c"),
    ];
    let whole = tar_bytes(&members);
    for (length, names) in [
        (8 * 512, &["a", "b", "c"][..]),
        // Whether a caption of `c` was to follow cannot be known; `b` has none either.
        (6 * 512, &["a", "b", "c"]),
        (6 * 512 + 100, &["a", "b", "c"]),
    ] {
        let all = read(&whole[..length]);
        assert_eq!(all.names(), names, "{length}");
        assert_eq!(all.problems(), [ProblemKind::TruncatedShard], "{length}");
    }
    assert_eq!(read(&whole[..8 * 512 + 512]).problems(), []);
    // What stands behind the mark and is no archive.
    let all = read(&[&whole[..], &[7; 700]].concat());
    assert_eq!(
        (all.names().len(), all.problems()),
        (3, vec![ProblemKind::TruncatedShard])
    );
}

#[test]
fn extended_headers_override_sizes() {
    let block = |kind: u8, name: &str, size: u64, bytes: &[u8]| -> Vec<u8> {
        let mut header = ::tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_entry_type(::tar::EntryType::new(kind));
        header.set_size(size);
        header.set_cksum();
        let mut block = [header.as_bytes(), bytes].concat();
        block.resize(block.len().next_multiple_of(512), 0);
        block
    };
    let image = vec![9; 600];
    let end = vec![0; 1024];
    // JavaScript's writers leave the size in the header at 0 where it does not fit.
    let local = [
        block(b'x', "pax", 12, b"12 size=600\n"),
        block(b'0', "a.jpg", 0, &image),
        block(b'0', "a.txt", 1, b"a"),
    ];
    let global = [
        block(b'g', "pax", 12, b"12 size=600\n"),
        block(b'0', "a.jpg", 0, &image),
        block(b'x', "pax", 9, b"9 size=1\n"),
        block(b'0', "a.txt", 0, b"a"),
    ];
    // The size of a link is that of the file it stands for.
    let link = [
        block(b'0', "a.jpg", 600, &image),
        block(b'1', "b.other", 600, b""),
        block(b'0', "c.txt", 1, b"a"),
    ];
    for (name, blocks) in [("local", &local[..]), ("global", &global), ("link", &link)] {
        let all = read(&[&blocks.concat()[..], &end].concat());
        let sample = all.samples().next().unwrap();
        assert_eq!(sample.image, ImageData::Encoded(image.clone()), "{name}");
        let last = if name == "link" { None } else { Some("a") };
        assert_eq!(sample.caption.as_deref(), last, "{name}");
        let lost = all
            .problems()
            .iter()
            .filter(|kind| kind.is_of_shard())
            .count();
        assert_eq!(lost, 0, "{name}: {:?}", all.0);
    }
    let endless = block(b'x', "pax", 1 << 40, b"");
    assert_eq!(read(&endless).problems(), [ProblemKind::UnreadableShard]);
}

#[test]
fn maps_of_sparse_files_that_lie_are_told_of() {
    let mut header = ::tar::Header::new_gnu();
    header.set_path("a.jpg").unwrap();
    header.set_entry_type(::tar::EntryType::GNUSparse);
    header.set_size(512);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.set_real_size(1000);
    gnu.sparse[0].set_offset(600);
    gnu.sparse[0].set_length(400);
    let whole = |header: &mut ::tar::Header| {
        header.set_cksum();
        [&header.as_bytes()[..], &[5; 512], &[0; 1024]].concat()
    };
    let all = read(&whole(&mut header));
    let expected = [vec![0; 600], vec![5; 400]].concat();
    assert_eq!(
        all.samples().next().unwrap().image,
        ImageData::Encoded(expected)
    );
    for (offset, length) in [(601, 400), (0, 600), (u64::MAX, 2), (0, u64::MAX)] {
        let gnu = header.as_gnu_mut().unwrap();
        gnu.sparse[0].set_offset(offset);
        gnu.sparse[0].set_length(length);
        let all = read(&whole(&mut header));
        assert_eq!(
            all.problems(),
            [ProblemKind::UnreadableShard],
            "{offset} {length}"
        );
    }
    // Parts without end.
    let gnu = header.as_gnu_mut().unwrap();
    gnu.set_is_extended(true);
    header.set_cksum();
    let mut more = ::tar::GnuExtSparseHeader::new();
    more.set_is_extended(true);
    for part in more.sparse_mut() {
        part.set_offset(0);
        part.set_length(0);
    }
    let parts = more.as_bytes().repeat(30_000);
    let all = read(&[&header.as_bytes()[..], &parts].concat());
    assert_eq!(all.problems(), [ProblemKind::UnreadableShard]);
}

#[test]
fn order_is_a_function_of_seed_epoch_rank_and_world() {
    let dir = tempfile::tempdir().unwrap();
    let source = tar(write_shards(dir.path(), 6, 5));
    let names = |order: Order, pass| -> Vec<String> {
        Collect::pass(&source, &order, pass)
            .unwrap()
            .names()
            .iter()
            .map(|name| (*name).to_owned())
            .collect()
    };
    let base = Order {
        world: 2,
        ..Order::training(1, 1)
    };
    let first = names(base, 0);
    assert_eq!(first, names(base, 0));
    assert_ne!(first, names(Order { seed: 2, ..base }, 0));
    assert_ne!(first, names(Order { epoch: 2, ..base }, 0));

    let other = names(Order { rank: 1, ..base }, 0);
    let union: HashSet<_> = first.iter().chain(&other).collect();
    assert_eq!((first.len(), other.len(), union.len()), (15, 15, 30));

    // A second pass gives the rank's own samples again, in another order.
    let again = names(base, 1);
    assert_ne!(first, again);
    assert_eq!(first.iter().collect::<HashSet<_>>(), again.iter().collect());

    let sequential = names(Order::sequential(), 0);
    assert!(sequential.is_sorted() && sequential.len() == 30);
}

/// OpenCLIP's `test_wds.py`: 10 and 5 samples, drawn 10,000 times with replacement.
#[test]
fn resampling_weighs_shards() {
    let dir = tempfile::tempdir().unwrap();
    for (shard, samples) in [(0, 10), (1, 5)] {
        write_shard(
            &dir.path().join(format!("{shard:03}.tar")),
            (0..samples).map(|i| format!("{shard:03}_{i}")),
        );
    }
    let pattern = |names: &[&str]| {
        names
            .iter()
            .map(|name| format!("{}/{name}", dir.path().display()))
            .collect::<Vec<_>>()
            .join("::")
    };
    let (one, braces, both) = (
        pattern(&["000.tar"]),
        pattern(&["00{0..1}.tar"]),
        pattern(&["000.tar", "001.tar"]),
    );
    for (pattern, factors, expected) in [
        (&one, None, [1.0 / 10.0, 0.0]),
        (&braces, None, [1.0 / 15.0, 1.0 / 15.0]),
        (&both, Some("1::1"), [1.0 / 15.0, 1.0 / 15.0]),
        (&both, Some("1::2"), [1.0 / 20.0, 1.0 / 10.0]),
    ] {
        let shards = Shards::expand(pattern, factors).unwrap();
        let source = super::source(shards, true, ShuffleSize::default()).unwrap();
        let mut counts = HashMap::<String, usize>::new();
        let mut draws = 0;
        for pass in 0.. {
            for name in Collect::pass(&source, &Order::training(0, 0), pass)
                .unwrap()
                .names()
            {
                *counts.entry(name.to_owned()).or_default() += 1;
                draws += 1;
            }
            if draws >= 10_000 {
                break;
            }
        }
        for (shard, samples) in [(0, 10), (1, 5)] {
            for i in 0..samples {
                let count = counts
                    .get(&format!("{shard:03}_{i}"))
                    .copied()
                    .unwrap_or_default() as f64;
                let expected = expected[shard] * draws as f64;
                assert!(
                    (count - expected).abs() <= 0.2 * expected,
                    "{factors:?} {shard}_{i}: {count}, not {expected}"
                );
            }
        }
    }
}

#[test]
fn ranks_draw_for_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let shards = Shards::list(write_shards(dir.path(), 4, 1));
    let source = super::source(shards, true, ShuffleSize::default()).unwrap();
    let draws = |rank| {
        let order = Order {
            rank,
            world: 8,
            ..Order::training(0, 0)
        };
        let names = |pass| {
            let shards = source.shards_of_pass(&order, pass).unwrap();
            shards.iter().map(|shard| shard.name()).collect::<Vec<_>>()
        };
        (0..10).flat_map(names).collect::<Vec<_>>()
    };
    assert_eq!(draws(0).len(), 40);
    assert_eq!(draws(0), draws(0));
    assert_ne!(draws(0), draws(1));
}

#[test]
fn settings_that_cannot_work_are_errors() {
    let paths = || vec!["a.tar".into(), "b.tar".into()];
    let order = Order {
        world: 3,
        ..Order::training(0, 0)
    };
    let error = Collect::pass(&tar(paths()), &order, 0).err().unwrap();
    assert!(
        matches!(
            error,
            DataError::TooFewShards {
                shards: 2,
                world: 3,
                ..
            }
        ),
        "{error}"
    );
    let weighted = Shards::expand("a::b", Some("1::2")).unwrap();
    let error = source(weighted, false, ShuffleSize::default())
        .err()
        .unwrap();
    assert!(
        matches!(error, DataError::UpsamplingNeedsResampling),
        "{error}"
    );
    assert!(source(Shards::list(vec![]), false, ShuffleSize::default()).is_err());

    let source = tar(paths());
    assert_eq!(source.batches_per_epoch(Some(100), 2, 8).unwrap(), 7);
    assert!(matches!(
        source.batches_per_epoch(None, 1, 8),
        Err(DataError::UnknownLength { .. })
    ));
    assert!(source.batches_per_epoch(Some(0), 1, 8).is_err());
}
