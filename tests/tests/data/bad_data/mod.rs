//! Bad input: each costs one clear error or one counted warning, and nothing hangs. The inputs are made here; intact
//! pictures come from the fixture of `pixels.rs`.

mod archives;
mod damaged;
mod pictures;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use openclip_data::error::DataError;
use openclip_data::image::{EvalTransform, Limits, decode};
use openclip_data::loader::{Loader, LoaderOptions, Stats};
use openclip_data::source::csv::{Csv, CsvFormat};
use openclip_data::source::files::Files;
use openclip_data::source::image_folder::ImageFolder;
use openclip_data::source::sharded::Sharded;
use openclip_data::source::shards::Shards;
use openclip_data::source::shuffle::ShuffleSize;
use openclip_data::source::tar;
use openclip_data::source::{Order, ProblemKind, Source};
use openclip_data::tokenizer::Tokenizer;
use openclip_model::config::PreprocessConfig;
use safetensors::SafeTensors;

/// Runs `body` and fails when it takes longer than ten seconds, most of which are for a busy machine.
fn in_time<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || sender.send(body()));
    match receiver.recv_timeout(Duration::from_secs(10)) {
        Ok(value) => value,
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        Err(_) => std::panic::resume_unwind(thread.join().unwrap_err()),
    }
}

/// Warnings of all tests of this process; a test finds its own by the name of its directory.
static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Collector;

impl log::Log for Collector {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        WARNINGS.lock().unwrap().push(record.args().to_string());
    }
    fn flush(&self) {}
}

fn warnings(dir: &Path) -> Vec<String> {
    let dir = dir.to_string_lossy();
    WARNINGS
        .lock()
        .unwrap()
        .iter()
        .filter(|text| text.contains(&*dir))
        .cloned()
        .collect()
}

struct Length;

impl Tokenizer for Length {
    fn context_length(&self) -> usize {
        1
    }
    fn tokenize(&self, text: &str) -> Result<Vec<i32>, DataError> {
        Ok(vec![text.len() as i32])
    }
}

/// One pass in the order of the input, or `num_batches` of training: the samples' names, or the error.
fn load(
    source: impl Source + 'static,
    num_batches: Option<u64>,
) -> (Result<Vec<String>, DataError>, Stats) {
    static LOGGER: Once = Once::new();
    LOGGER.call_once(|| {
        log::set_logger(&Collector).unwrap();
        log::set_max_level(log::LevelFilter::Warn);
    });
    in_time(move || {
        let order = if num_batches.is_some() {
            Order::training(1, 0)
        } else {
            Order::sequential()
        };
        let options = LoaderOptions {
            workers: 2,
            num_batches,
            ..LoaderOptions::new(4, [32, 32], order)
        };
        let view = EvalTransform::new(32, 32, &PreprocessConfig::default()).unwrap();
        let transform = move |bytes: &[u8], _: &mut _, out: &mut [u8]| {
            view.apply(&decode(bytes, Limits::default())?, out)?;
            Ok(Vec::new())
        };
        let mut loader = Loader::start(
            Arc::new(source),
            Arc::new(transform),
            Some(Arc::new(Length)),
            &options,
        )
        .unwrap();
        let names = loader.by_ref().try_fold(Vec::new(), |mut names, batch| {
            names.extend(batch?.names);
            Ok(names)
        });
        (names, loader.stats())
    })
}

fn picture(name: &str) -> Vec<u8> {
    let file = std::fs::read(openclip_tests::fixture("pixels.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    tensors
        .tensor(&format!("file/{name}"))
        .unwrap()
        .data()
        .to_vec()
}

/// A header block of ustar; `size` as it stands in the header.
fn header(name: &[u8], size: &[u8; 12], kind: u8) -> [u8; 512] {
    let mut block = [0; 512];
    block[..name.len()].copy_from_slice(name);
    block[100..108].copy_from_slice(b"0000644\0");
    block[124..136].copy_from_slice(size);
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn octal(size: usize) -> [u8; 12] {
    format!("{size:011o}\0").into_bytes().try_into().unwrap()
}

fn member(tar: &mut Vec<u8>, name: &[u8], kind: u8, bytes: &[u8]) {
    tar.extend(header(name, &octal(bytes.len()), kind));
    tar.extend(bytes);
    tar.resize(tar.len().next_multiple_of(512), 0);
}

/// Members without the end mark, so that archives can be put together.
fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, bytes) in members {
        member(&mut out, name.as_bytes(), b'0', bytes);
    }
    out
}

fn samples(keys: &[&str], image: &[u8]) -> Vec<u8> {
    keys.iter()
        .flat_map(|key| {
            tar(&[
                (&format!("{key}.jpg"), image),
                (&format!("{key}.txt"), b"text"),
            ])
        })
        .collect()
}

/// Writes archives; those of whole blocks get their end mark.
fn shards(dir: &Path, shards: &[&[u8]]) -> Sharded {
    let write = |(at, bytes): (usize, &&[u8])| {
        let path = dir.join(format!("{at}.tar"));
        let is_whole = bytes.len().is_multiple_of(512) && !bytes.starts_with(b"\x1f\x8b");
        let end: &[u8] = if is_whole { &[0; 1024] } else { &[] };
        std::fs::write(&path, [bytes, end].concat()).unwrap();
        path
    };
    source(shards.iter().enumerate().map(write).collect())
}

fn source(paths: Vec<PathBuf>) -> Sharded {
    tar::source(Shards::list(paths), false, ShuffleSize::default()).unwrap()
}

fn csv(dir: &Path, rows: &[(&str, &str)]) -> Csv {
    let row = |(name, text): &(&str, &str)| format!("{}\t{text}\n", dir.join(name).display());
    let rows: String = rows.iter().map(row).collect();
    std::fs::write(dir.join("pairs.tsv"), format!("filepath\ttitle\n{rows}")).unwrap();
    Csv::open(&dir.join("pairs.tsv"), &CsvFormat::default()).unwrap()
}

/// The samples that come through, beside one counted warning of this kind that names the place.
fn one_problem(source: impl Source + 'static, dir: &Path, kind: ProblemKind) -> Vec<String> {
    let before = warnings(dir).len();
    let (names, stats) = load(source, None);
    assert_eq!(stats.problems, [(kind, 1)], "{names:?}");
    let told = warnings(dir);
    assert_eq!(told.len(), before + 1, "{told:?}");
    assert!(told[before].contains(&kind.to_string()), "{told:?}");
    names.unwrap()
}

#[test]
fn missing_captions_and_duplicate_keys_are_told() {
    let (dir, image) = (tempfile::tempdir().unwrap(), picture("png_small"));
    let mut bytes = samples(&["a"], &image);
    bytes.extend(tar(&[("b.jpg", &image), ("b.json", b"{}")]));
    let names = one_problem(
        shards(dir.path(), &[&bytes]),
        dir.path(),
        ProblemKind::MissingCaption,
    );
    assert_eq!(names, ["a"]);
    std::fs::write(dir.path().join("x.png"), &image).unwrap();
    let source = csv(dir.path(), &[("x.png", ""), ("x.png", "y")]);
    assert_eq!(
        one_problem(source, dir.path(), ProblemKind::MissingCaption).len(),
        1
    );
    let bytes = samples(&["a", "a"], &image);
    let names = one_problem(
        shards(dir.path(), &[&bytes]),
        dir.path(),
        ProblemKind::DuplicateKey,
    );
    assert_eq!(names, ["a", "a"], "both are samples, as in OpenCLIP");
}

#[test]
fn tables_and_folders_that_cannot_be_read_are_errors_that_name_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pairs.csv");
    std::fs::write(&path, "picture,words\nx.png,y\n").unwrap();
    let comma = CsvFormat {
        separator: ",".into(),
        ..CsvFormat::default()
    };
    let error = Csv::open(&path, &comma).unwrap_err().to_string();
    for part in ["pairs.csv", "filepath", "picture", "words"] {
        assert!(error.contains(part), "{error}");
    }
    let absent = dir.path().join("absent");
    let errors = [
        Csv::open(&absent, &comma).unwrap_err(),
        Files::directory(&absent).unwrap_err(),
        ImageFolder::open(&absent).unwrap_err(),
    ];
    for error in errors {
        assert!(
            matches!(error, DataError::Io { .. }) && error.to_string().contains("absent"),
            "{error}"
        );
    }
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    assert!(matches!(
        Files::directory(&empty),
        Err(DataError::NoPictures { .. })
    ));
    assert!(matches!(
        ImageFolder::open(&empty),
        Err(DataError::NoClasses { .. })
    ));
}

#[test]
fn unreadable_files_are_told_and_passed_over() {
    let (dir, image) = (tempfile::tempdir().unwrap(), picture("png_small"));
    std::fs::write(dir.path().join("good.png"), &image).unwrap();
    std::fs::create_dir(dir.path().join("folder.png")).unwrap();
    // Nobody writes to the pipe: opening it would wait for ever.
    let pipe = dir.path().join("pipe");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    for bad in ["absent.png", "folder.png", "pipe"] {
        let source = csv(dir.path(), &[(bad, "x"), ("good.png", "y")]);
        let names = one_problem(source, dir.path(), ProblemKind::UnreadableImage);
        assert!(names[0].ends_with("good.png"), "{names:?}");
    }
    let good = dir.path().join("good.tar");
    std::fs::write(&good, [samples(&["a"], &image), vec![0; 1024]].concat()).unwrap();
    std::os::unix::fs::symlink("/dev/null", dir.path().join("device")).unwrap();
    for bad in ["absent.tar", "folder.png", "device"] {
        let source = source(vec![dir.path().join(bad), good.clone()]);
        assert_eq!(
            one_problem(source, dir.path(), ProblemKind::UnreadableShard),
            ["a"]
        );
    }
}

#[test]
fn a_source_without_a_sample_is_an_error_within_seconds() {
    let (dir, image) = (tempfile::tempdir().unwrap(), picture("png_small"));
    let junk: Vec<u8> = (0..20_000)
        .flat_map(|n| tar(&[(&format!("junk{n}"), b"x")]))
        .collect();
    let no_match = tar(&[("a.png.x", &image), ("a.caption", b"x"), ("b.tiff", b"y")]);
    type Read = Box<dyn Fn() -> (Result<Vec<String>, DataError>, Stats)>;
    let check = |source: Read| {
        let since = Instant::now();
        let error = source().0.unwrap_err();
        assert!(
            matches!(
                error,
                DataError::NoSamples { .. } | DataError::TooManyBadSamples { .. }
            ),
            "{error}"
        );
        assert!(since.elapsed() < Duration::from_secs(5), "{error}");
    };
    for batches in [None, Some(1000)] {
        let path = dir.path().to_owned();
        let (junk, no_match) = (junk.clone(), no_match.clone());
        check(Box::new(move || {
            load(shards(&path, &[&junk, &no_match, b"", b"garbage"]), batches)
        }));
        let path = dir.path().to_owned();
        check(Box::new(move || load(csv(&path, &[]), batches)));
        let path = dir.path().to_owned();
        let rows: Vec<_> = (0..5000)
            .map(|n| (format!("absent-{n}.png"), "x"))
            .collect();
        check(Box::new(move || {
            let rows: Vec<_> = rows
                .iter()
                .map(|(name, text)| (name.as_str(), *text))
                .collect();
            load(csv(&path, &rows), batches)
        }));
    }
}

#[test]
fn mostly_bad_samples_are_an_error_and_a_few_are_not() {
    let (dir, image) = (tempfile::tempdir().unwrap(), picture("png_small"));
    let bad = |every: usize| -> Vec<u8> {
        (0..40)
            .flat_map(|n| {
                samples(
                    &[&format!("{n:02}")],
                    if n % every == 0 { b"bad" } else { &image[..] },
                )
            })
            .collect()
    };
    let (names, stats) = load(shards(dir.path(), &[&bad(4)]), None);
    assert_eq!((names.unwrap().len(), stats.dropped()), (30, 10));
    assert_eq!(
        warnings(dir.path()).len(),
        3,
        "after three only every thousandth is told"
    );
    let mut mostly = bad(1);
    mostly.extend(samples(&["good"], &image));
    let (names, _) = load(shards(dir.path(), &[&mostly]), None);
    let error = names.unwrap_err();
    assert!(
        matches!(
            error,
            DataError::TooManyBadSamples {
                dropped: 40,
                total: 41,
                ..
            }
        ),
        "{error}"
    );
}
