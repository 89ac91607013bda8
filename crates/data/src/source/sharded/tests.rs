#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::super::keys::{KeyOptions, Keys};
use super::super::testing::{Collect, Resumed, gzip, tar_bytes, write_shards};
use super::super::{ProblemKind, Source, tar};
use super::*;
use crate::storage::Watch;

const SHUFFLE: ShuffleSize = ShuffleSize {
    capacity: 20,
    initial: 6,
    bytes: 1 << 20,
};

/// Archives with what can go wrong in them: repeated keys, samples without an image, members of no sample.
fn odd_shards(dir: &Path) -> Vec<PathBuf> {
    let mut paths = write_shards(dir, 6, 15);
    let odd: [&[(&str, &[u8])]; 2] = [
        &[
            ("a.jpg", b"1"),
            ("a.txt", b"one"),
            ("a.jpg", b"2"),
            ("a.txt", b"again"),
            ("b.txt", b"no image"),
            ("c.jpg", b"3"),
            ("c.txt", b"\xff\xfe"),
            ("d.jpg", b"four"),
            ("d.txt", b"four"),
        ],
        &[
            ("README", b"x"),
            ("._e.jpg", b"5"),
            ("e.jpg", &[5; 2000]),
            ("NOTES", b"y"),
            ("e.txt", b"five"),
            ("f.png", b"6"),
        ],
    ];
    for (at, members) in odd.into_iter().enumerate() {
        let path = dir.join(format!("odd-{at}.tar"));
        std::fs::write(&path, tar_bytes(members)).unwrap();
        paths.insert(at, path);
    }
    paths
}

fn source(paths: &[PathBuf], sampling: bool, index: Option<&Path>) -> Sharded {
    let shards = Shards::list(paths.to_vec());
    let index = index.map(|dir| Arc::new(ShardIndex::open(dir, 0)));
    tar::source(shards, sampling, SHUFFLE)
        .unwrap()
        .with_index(index)
}

#[test]
fn a_pass_is_resumed_at_every_place_with_and_without_an_index() {
    let dir = tempfile::tempdir().unwrap();
    let paths = odd_shards(dir.path());
    let index = dir.path().join("index");
    for (at, order) in [
        Order::training(5, 1),
        Order {
            rank: 1,
            world: 2,
            ..Order::training(6, 0)
        },
        Order::sequential(),
    ]
    .into_iter()
    .enumerate()
    {
        for resampled in [false, true] {
            let index = index.join(format!("{at}-{resampled}"));
            let whole = Collect::pass(&source(&paths, resampled, None), &order, 0)
                .unwrap()
                .0;
            let noted = Collect::pass(&source(&paths, resampled, Some(&index)), &order, 0);
            assert_eq!(noted.unwrap().0, whole);
            for skip in 0..whole.len() {
                for index in [None, Some(index.as_path())] {
                    let source = source(&paths, resampled, index);
                    let rest = Resumed::pass(&source, &order, skip, usize::MAX);
                    assert_eq!(
                        rest,
                        whole[skip..],
                        "{order:?} {resampled} {skip} {index:?}"
                    );
                }
            }
        }
    }
}

/// The run is killed while it reads; what it noted until then serves the next.
#[test]
fn what_was_noted_before_a_kill_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    let paths = odd_shards(dir.path());
    let order = Order::training(1, 1);
    let whole = Collect::pass(&source(&paths, false, None), &order, 0)
        .unwrap()
        .0;
    for stop in [1, 30, 60, 90] {
        let index = dir.path().join(stop.to_string());
        let first = Resumed::pass(&source(&paths, false, Some(&index)), &order, 0, stop);
        for skip in [0, stop / 2, stop] {
            let source = source(&paths, false, Some(&index));
            let rest = Resumed::pass(&source, &order, skip, usize::MAX);
            assert_eq!([&first[..skip], &rest].concat(), whole, "{stop} {skip}");
        }
    }
}

/// Counts what is read of the shards it stands for.
struct Counted {
    inner: Arc<dyn Shard>,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    begun: BTreeSet<String>,
    fetched: usize,
    bytes: u64,
}

impl Shard for Counted {
    fn name(&self) -> Arc<str> {
        self.inner.name()
    }

    fn key(&self) -> String {
        self.inner.key()
    }

    fn identity(&self) -> String {
        self.inner.identity()
    }

    fn version(&self) -> Option<String> {
        self.inner.version()
    }

    fn begin(&self, draw: Draw) -> Box<dyn Begun + '_> {
        self.log.lock().unwrap().begun.insert(self.key());
        self.inner.begin(draw)
    }

    fn fetch(
        &self,
        extents: &[Extent],
        version: &str,
        draw: &Draw,
        watch: Watch,
    ) -> io::Result<Vec<Item>> {
        let mut log = self.log.lock().unwrap();
        log.fetched += extents.len();
        log.bytes += extents.iter().map(|extent| extent.length).sum::<u64>();
        drop(log);
        self.inner.fetch(extents, version, draw, watch)
    }
}

#[test]
fn a_resume_reads_the_buffer_and_at_most_one_further_shard() {
    let dir = tempfile::tempdir().unwrap();
    let paths = write_shards(dir.path(), 40, 15);
    let order = Order::training(3, 2);
    let index = dir.path().join("index");
    let stop = 400;
    let first = Resumed::pass(&source(&paths, false, Some(&index)), &order, 0, stop);
    let mut counted = source(&paths, false, Some(&index));
    let log = Arc::new(Mutex::new(Log::default()));
    for shard in &mut counted.shards {
        let (inner, log) = (Arc::clone(shard), Arc::clone(&log));
        *shard = Arc::new(Counted { inner, log });
    }
    let next = Resumed::pass(&counted, &order, stop - 1, 2);
    assert_eq!(next[0], first[stop - 1]);
    let log = log.lock().unwrap();
    // The shard at hand when the run ended, and the two that are begun before they are needed.
    assert!(log.begun.len() <= 1 + AHEAD + 1, "{:?}", log.begun);
    assert!(log.fetched <= SHUFFLE.capacity + 15, "{}", log.fetched);
    assert!(log.bytes <= (log.fetched * 2048) as u64);
}

#[test]
fn packed_shards_are_read_again_and_changed_ones_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let mut paths = write_shards(dir.path(), 4, 15);
    let packed = dir.path().join("packed.tar.gz");
    std::fs::write(&packed, gzip(&std::fs::read(&paths[0]).unwrap())).unwrap();
    paths.push(packed);
    let order = Order::training(3, 2);
    let index = dir.path().join("index");
    let whole = Collect::pass(&source(&paths, false, Some(&index)), &order, 0)
        .unwrap()
        .0;
    for skip in [10, 40, 70] {
        let rest = Resumed::pass(&source(&paths, false, Some(&index)), &order, skip, 1000);
        assert_eq!(rest, whole[skip..]);
    }
    // Another archive in the place of one that was noted is read anew.
    let found = |paths: &[PathBuf]| {
        let rest = Resumed::pass(&source(paths, false, Some(&index)), &order, 40, 1000);
        rest.iter().filter(|item| matches!(item, Item::Problem(problem) if problem.kind == ProblemKind::MissingImage)).count()
    };
    assert_eq!(found(&paths), 0);
    for path in &paths[..4] {
        std::fs::write(
            path,
            tar_bytes(&[("x.txt", &b"1"[..]), ("y.txt", b"2")].repeat(20)),
        )
        .unwrap();
    }
    assert!(found(&paths) > 0);
    // Once it was read whole, it is known again.
    let whole = Collect::pass(&source(&paths, false, Some(&index)), &order, 0)
        .unwrap()
        .0;
    let known = ShardIndex::open(&index, 0);
    for shard in &source(&paths, false, None).shards {
        let name = format!("{} ", shard.identity());
        let is_plain = shard.key().ends_with(".tar");
        let found = known.find(&name, shard.version().as_deref());
        assert_eq!(found.is_some(), is_plain, "{name}");
    }
    let rest = Resumed::pass(&source(&paths, false, Some(&index)), &order, 40, 1000);
    assert_eq!(rest, whole[40..]);
}

/// Two addresses may differ in what messages leave out.
#[test]
fn shards_are_told_apart_by_more_than_their_names() {
    let list = ["https://h/get?key=1.tar", "https://h/get?key=2.tar"];
    let shards = Shards::expand(&list.join("::"), None).unwrap();
    let source = tar::source(shards, false, SHUFFLE).unwrap();
    let [one, two] = &source.shards[..] else {
        panic!("two shards")
    };
    assert_eq!(one.name(), two.name());
    assert_ne!(one.identity(), two.identity());
    assert!(!one.identity().contains("1.tar"));
}

/// Samples chosen by other members are other samples.
#[test]
fn what_is_known_under_other_keys_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let paths = write_shards(dir.path(), 2, 15);
    let index = Arc::new(ShardIndex::open(&dir.path().join("index"), 0));
    let of = |image_key: &str| {
        let keys = Keys::new(&KeyOptions {
            image_key: Some(image_key.into()),
            ..KeyOptions::default()
        });
        let shards = Shards::list(paths.clone());
        let source = tar::with_keys(shards, keys.unwrap(), false, SHUFFLE).unwrap();
        source.with_index(Some(Arc::clone(&index)))
    };
    let order = Order::training(3, 0);
    let none = Collect::pass(&of("gif"), &order, 0).unwrap();
    assert_eq!(none.samples().count(), 0);
    let whole = Collect::pass(&of("jpg"), &order, 0).unwrap().0;
    assert_eq!(whole.len(), 30);
    assert_eq!(Resumed::pass(&of("jpg"), &order, 12, 1000), whole[12..]);
}

/// Every sample once, or a few more so that all ranks have equally many: whatever the number of ranks.
#[test]
fn ranks_share_all_samples() {
    let dir = tempfile::tempdir().unwrap();
    let paths = write_shards(dir.path(), 12, 7);
    for world in 1..=4 {
        let mut names = Vec::new();
        for rank in 0..world {
            let order = Order {
                rank,
                world,
                ..Order::training(9, 0)
            };
            let all = Collect::pass(&source(&paths, false, None), &order, 0).unwrap();
            names.extend(all.names().iter().map(|name| (*name).to_owned()));
        }
        assert_eq!(names.len(), 84);
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 84);
    }
}

/// A shard that is known and never read.
struct Known(usize);

impl Shard for Known {
    fn name(&self) -> Arc<str> {
        format!("shards/{:06}.tar", self.0).into()
    }

    fn key(&self) -> String {
        self.name().to_string()
    }

    fn identity(&self) -> String {
        self.key()
    }

    fn version(&self) -> Option<String> {
        Some("1".into())
    }

    fn begin(&self, _: Draw) -> Box<dyn Begun + '_> {
        panic!("{} is read", self.name())
    }

    fn fetch(&self, _: &[Extent], _: &str, _: &Draw, _: Watch) -> io::Result<Vec<Item>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// What the index of many shards takes: run with `--ignored --nocapture`.
#[test]
#[ignore = "a measure of time and memory"]
#[allow(clippy::print_stdout)]
fn an_index_of_many_shards() {
    use std::time::Instant;
    let dir = tempfile::tempdir().unwrap();
    let (shards, samples) = (100_000, 1_000_u64);
    let start = Instant::now();
    let index = ShardIndex::open(dir.path(), 0);
    let sample = |at| {
        let image = super::super::ImageData::Encoded(vec![0; 100]);
        let sample = super::super::Sample {
            name: String::new(),
            shard: None,
            image,
            caption: None,
            label: None,
            fields: Default::default(),
        };
        (Item::Sample(sample), at * 52_736)
    };
    let items: Vec<_> = (0..samples).map(sample).collect();
    for at in 0..shards {
        let name = format!("{} ", Known(at).identity());
        let mut recorder = index.recorder(&name);
        recorder.begin(Some("1"));
        for (item, start) in &items {
            let (start, length) = (*start, 52_736);
            recorder.note(item, Extent { start, length });
        }
        index.add(&name, recorder);
    }
    drop(index);
    let bytes = std::fs::metadata(dir.path().join("rank-0.index"))
        .unwrap()
        .len();
    println!(
        "{shards} shards noted: {bytes} bytes in {:?}",
        start.elapsed()
    );
    let start = Instant::now();
    let index = Arc::new(ShardIndex::open(dir.path(), 0));
    println!("opened in {:?}", start.elapsed());
    let all = (0..shards).map(|at| Arc::new(Known(at)) as Arc<dyn Shard>);
    let source = Sharded::new(
        all.collect(),
        String::new(),
        Sampling::default(),
        ShuffleSize::default(),
    );
    let source = source.unwrap().with_index(Some(index));
    let start = Instant::now();
    let mut end = Resumed {
        skip: shards * samples as usize,
        most: 1,
        items: Vec::new(),
    };
    let _ = source.pass(&Order::training(0, 0), 0, &mut end).unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM"));
    println!(
        "repeated in {:?}; {}",
        start.elapsed(),
        peak.unwrap_or_default()
    );
}
