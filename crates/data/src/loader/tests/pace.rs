//! How far ahead a loader works, what takes its time, and what is told of a long wait.

use super::*;
use crate::loader::Stage;
use crate::source::testing::{tar, write_shard};

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
fn times_are_counted_by_stage() {
    let dir = tempfile::tempdir().unwrap();
    write_shard(&dir.path().join("a.tar"), (0..8).map(|n| n.to_string()));
    let slow = |_: &[u8], _: &mut StdRng, _: &mut [u8]| {
        std::thread::sleep(Duration::from_millis(5));
        Ok(Vec::new())
    };
    let source = Arc::new(tar(vec![dir.path().join("a.tar")]));
    let mut loader = Loader::start(source, Arc::new(slow), None, &options(4, Some(2))).unwrap();
    let first = loader.next().unwrap().unwrap().timing;
    assert!(first.transform >= Duration::from_millis(20), "{first:?}");
    assert!(first.waits.start >= Duration::from_millis(5), "{first:?}");
    assert_eq!(first.waits.behind_start(), Duration::ZERO, "{first:?}");
    assert!(
        first.source > Duration::ZERO && first.tokenize < first.transform,
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
    fn num_samples(&self, _: Option<u64>) -> Result<u64, DataError> {
        Ok(4)
    }
    fn batches(&self, _: u64, _: usize, _: usize) -> u64 {
        2
    }
    fn fingerprint(&self) -> u32 {
        0
    }
    fn partitions(self: Arc<Self>, _: u64) -> Result<Vec<Arc<dyn Source>>, DataError> {
        Ok(vec![self])
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
                fields: Default::default(),
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
        Ok(Vec::new())
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

/// Takes so many milliseconds for a picture.
fn slow(ms: u64) -> impl Fn(&[u8], &mut StdRng, &mut [u8]) -> Result<Vec<Erasure>, DataError> {
    move |_, _, _| {
        std::thread::sleep(Duration::from_millis(ms));
        Ok(Vec::new())
    }
}

#[test]
fn waits_are_counted_by_what_was_missing() {
    let dir = tempfile::tempdir().unwrap();
    write_shard(&dir.path().join("a.tar"), (0..32).map(|n| n.to_string()));
    let source = Arc::new(tar(vec![dir.path().join("a.tar")]));
    let mut loader = Loader::start(source, Arc::new(slow(10)), None, &options(4, Some(8))).unwrap();
    assert_eq!(loader.by_ref().count(), 8);
    let Timing { waits, queues, .. } = loader.stats().timing;
    // 7 batches of 4 samples of 10 ms on two threads.
    assert_eq!(waits.longest().0, Stage::Decoding, "{waits:?}");
    assert!(waits.longest().1 >= Duration::from_millis(80), "{waits:?}");
    assert!(waits.start >= Duration::from_millis(20), "{waits:?}");
    assert_eq!((queues.visits, queues.batches), (7, 0));
    assert!(queues.samples > 7, "{queues:?}");

    let options = LoaderOptions {
        order: Order::sequential(),
        ..options(1, None)
    };
    let mut loader = start(Slow(Duration::from_millis(150)), &options);
    assert_eq!(loader.by_ref().count(), 4);
    let waits = loader.stats().timing.waits;
    assert_eq!(waits.longest().0, Stage::Source, "{waits:?}");
    assert!(waits.longest().1 >= Duration::from_millis(100), "{waits:?}");
}

#[test]
fn a_caller_that_is_slower_finds_batches_and_waits_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    write_shard(&dir.path().join("a.tar"), (0..32).map(|n| n.to_string()));
    let source = Arc::new(tar(vec![dir.path().join("a.tar")]));
    let options = LoaderOptions {
        prefetch: 3,
        ..options(4, Some(8))
    };
    let mut loader = Loader::start(source, Arc::new(slow(0)), None, &options).unwrap();
    while loader.next().is_some() {
        std::thread::sleep(Duration::from_millis(30));
    }
    let Timing { waits, queues, .. } = loader.stats().timing;
    assert!(
        waits.behind_start() < Duration::from_millis(30),
        "{waits:?}"
    );
    // Seven visits, of which the first five or so find three batches.
    assert!(queues.batches >= 10, "{queues:?}");
}
