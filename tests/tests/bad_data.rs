//! Bad input: each costs one clear error or one counted warning, and nothing hangs. The inputs are made here; intact
//! pictures come from the fixture of `pixels.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use openclip_data::error::DataError;
use openclip_data::image::{EvalTransform, Limits, decode};
use openclip_data::loader::{Loader, LoaderOptions, Stats};
use openclip_data::source::csv::{Csv, CsvFormat};
use openclip_data::source::files::Files;
use openclip_data::source::image_folder::ImageFolder;
use openclip_data::source::shards::Shards;
use openclip_data::source::shuffle::ShuffleSize;
use openclip_data::source::tar::Tar;
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
    fn tokenize(&self, text: &str) -> Vec<i32> {
        vec![text.len() as i32]
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
            view.apply(&decode(bytes, Limits::default())?, out)
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

/// Members without the two empty blocks at the end, which readers do not need.
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

fn shards(dir: &Path, shards: &[&[u8]]) -> Tar {
    let write = |(at, bytes): (usize, &&[u8])| {
        let path = dir.join(format!("{at}.tar"));
        std::fs::write(&path, bytes).unwrap();
        path
    };
    source(shards.iter().enumerate().map(write).collect())
}

fn source(paths: Vec<PathBuf>) -> Tar {
    Tar::new(Shards::list(paths), false, ShuffleSize::default()).unwrap()
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
fn a_truncated_tar_gives_its_whole_samples() {
    let (dir, image) = (tempfile::tempdir().unwrap(), picture("jpeg_420"));
    let whole = samples(&["a", "b", "c"], &image);
    let good = samples(&["d"], &image);
    let sample = whole.len() / 3;
    for (cut, expected) in [
        (300, &["d"][..]),
        (512 + image.len() / 2, &["d"]),
        (sample - 510, &["d"]),
        (sample - 300, &["a", "d"]),
        (sample + 100, &["a", "d"]),
        (sample + 1000, &["a", "d"]),
        (3 * sample - 510, &["a", "b", "d"]),
    ] {
        let source = shards(dir.path(), &[&whole[..cut], &good]);
        let kind = if cut < 512 {
            ProblemKind::UnreadableShard
        } else {
            ProblemKind::TruncatedShard
        };
        assert_eq!(
            one_problem(source, dir.path(), kind),
            expected,
            "cut at {cut}"
        );
    }
}

#[test]
fn damaged_pictures_cost_themselves_alone() {
    let (dir, image) = (tempfile::tempdir().unwrap(), picture("jpeg_420"));
    let length = image.len();
    let mut bad: Vec<Vec<u8>> = [
        0,
        1,
        2,
        20,
        length / 4,
        length / 2,
        length - 100,
        length - 2,
        length - 1,
    ]
    .map(|cut| image[..cut].to_vec())
    .to_vec();
    let mut corrupt = image.clone();
    corrupt[length / 2..length / 2 + 40].fill(0xff);
    let mut no_tables = image.clone();
    no_tables[2..600].fill(0);
    bad.extend([
        corrupt,
        no_tables,
        b"<html>404</html>".to_vec(),
        vec![0xff; 3000],
    ]);
    for name in [
        "png_rgb",
        "gif",
        "webp_lossy",
        "bmp_grey",
        "tiff_rgb",
        "ppm",
    ] {
        let file = picture(name);
        bad.push(file[..file.len() / 2].to_vec());
    }
    std::fs::write(dir.path().join("good.jpg"), &image).unwrap();
    for (at, bytes) in bad.iter().enumerate() {
        std::fs::write(dir.path().join("bad.jpg"), bytes).unwrap();
        let source = csv(dir.path(), &[("bad.jpg", "x"), ("good.jpg", "y")]);
        let names = one_problem(source, dir.path(), ProblemKind::UndecodableImage);
        assert!(
            names.len() == 1 && names[0].ends_with("good.jpg"),
            "{at}: {names:?}"
        );
        let told = warnings(dir.path());
        assert!(told.iter().all(|text| text.contains("bad.jpg")), "{told:?}");
    }
}

/// Small files whose headers claim pixels by the hundred million: refused before anything is allocated.
#[test]
fn picture_bombs_are_refused_by_their_headers() {
    let patched = |name: &str, at: usize, bytes: &[u8]| {
        let mut file = picture(name);
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let jpeg = picture("jpeg_420");
    let frame = jpeg
        .windows(2)
        .position(|pair| pair == [0xff, 0xc0])
        .unwrap();
    let side = 20_000_u32;
    let short = (side as u16).to_le_bytes();
    let long = side.to_le_bytes();
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    png.extend([side.to_be_bytes(), side.to_be_bytes()].concat());
    png.extend([8, 2, 0, 0, 0]);
    let crc = flate2::Crc::new();
    png.extend(crc_of(crc, &png[12..]));
    png.extend(&picture("png_rgb")[33..]);
    for (name, bomb) in [
        ("PNG", png),
        (
            "JPEG",
            patched("jpeg_420", frame + 5, &[0x4e, 0x20, 0x4e, 0x20]),
        ),
        ("GIF", patched("gif", 6, &[short, short].concat())),
        ("BMP", patched("bmp_rgb", 18, &[long, long].concat())),
        (
            "BMP with a palette",
            patched("bmp_grey", 18, &[long, long].concat()),
        ),
        ("PPM", b"P6 20000 20000 255\n....".to_vec()),
    ] {
        let since = Instant::now();
        let result = in_time(move || decode(&bomb, Limits::default()));
        let is_refused = matches!(
            result,
            Err(DataError::PictureTooLarge {
                width: 20_000,
                height: 20_000,
                ..
            })
        );
        assert!(is_refused, "{name}: {result:?}");
        // Clearing 1.2 GB would take longer than this.
        assert!(
            since.elapsed() < Duration::from_millis(500),
            "{name}: {:?}",
            since.elapsed()
        );
    }
}

fn crc_of(mut crc: flate2::Crc, bytes: &[u8]) -> [u8; 4] {
    crc.update(bytes);
    crc.sum().to_be_bytes()
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
    std::fs::write(&path, "image,text\nx.png,y\n").unwrap();
    let comma = CsvFormat {
        separator: ",".into(),
        ..CsvFormat::default()
    };
    let error = Csv::open(&path, &comma).unwrap_err().to_string();
    for part in ["pairs.csv", "filepath", "image", "text"] {
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
        Err(DataError::NoImages { .. })
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
    std::fs::write(&good, samples(&["a"], &image)).unwrap();
    for bad in ["absent.tar", "folder.png", "pipe"] {
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

#[test]
fn hostile_headers_neither_hang_nor_escape() {
    let (dir, image) = (tempfile::tempdir().unwrap(), picture("png_small"));
    let good = samples(&["good"], &image);
    let minus_one = [0xff; 12];
    let enormous = *b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff";
    let mut long_name = header(b"././@LongLink", &octal(1 << 32), b'L').to_vec();
    long_name.resize(4096, b'x');
    let mut pax = Vec::new();
    member(&mut pax, b"pax", b'x', b"25 size=9999999999999999\n");
    member(&mut pax, b"a.jpg", b'0', &image);
    for (name, bytes) in [
        ("octal", header(b"a.jpg", b"77777777777\0", b'0').to_vec()),
        ("enormous", header(b"a.jpg", &enormous, b'0').to_vec()),
        ("minus one", header(b"a.jpg", &minus_one, b'0').to_vec()),
        (
            "minus sign",
            header(b"a.jpg", b"-0000000001\0", b'0').to_vec(),
        ),
        (
            "no number",
            header(b"a.jpg", b"size?size?!\0", b'0').to_vec(),
        ),
        ("long name", long_name),
        ("size in an extended header", pax),
    ] {
        let (names, stats) = load(shards(dir.path(), &[&bytes, &good]), None);
        assert_eq!(names.unwrap(), ["good"], "{name}");
        assert_eq!(stats.problems.len(), 1, "{name}: {:?}", stats.problems);
        assert!(
            stats.problems[0].0.is_of_shard(),
            "{name}: {:?}",
            stats.problems
        );
    }
    // Names are keys and no paths; links, devices and pipes are passed over.
    let mut odd = Vec::new();
    for kind in [b'1', b'2', b'3', b'4', b'6', b'S', b'?'] {
        member(&mut odd, b"link.jpg", kind, b"");
    }
    odd.extend(samples(
        &["../../up", "/absolute", "a/./b", "sp ace\n"],
        &image,
    ));
    member(&mut odd, b"\xff\xfe.jpg", b'0', &image);
    member(&mut odd, b"\xff\xfe.txt", b'0', b"x");
    let (names, stats) = load(shards(dir.path(), &[&odd]), None);
    assert_eq!(names.unwrap().len(), 5);
    assert_eq!(stats.problems, []);
    // One sample with very many members.
    let many: Vec<u8> = (0..50_000)
        .flat_map(|n| tar(&[(&format!("a.{n}"), b"")]))
        .collect();
    let (names, stats) = load(shards(dir.path(), &[&many, &good]), None);
    assert_eq!(
        (names.unwrap().len(), stats.problems),
        (1, vec![(ProblemKind::MissingImage, 1)])
    );
}

#[test]
fn packed_shards_are_read_and_bombs_in_them_are_bounded() {
    let (dir, image) = (tempfile::tempdir().unwrap(), picture("png_small"));
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let plain = samples(&["a", "b"], &image);
    let packed = gzip(&plain);
    let (names, stats) = load(shards(dir.path(), &[&packed]), None);
    assert_eq!((names.unwrap().len(), stats.problems.len()), (2, 0));
    let source = shards(dir.path(), &[&packed[..packed.len() / 2], &plain]);
    assert!(
        one_problem(source, dir.path(), ProblemKind::TruncatedShard)
            .ends_with(&["a".into(), "b".into()])
    );
    // A member of 300 MB in 300 kB: larger than any picture may be, so it is not unpacked into memory.
    let mut bomb = Vec::new();
    member(&mut bomb, b"bomb.jpg", b'0', &vec![0; 300_000_000]);
    member(&mut bomb, b"bomb.txt", b'0', b"x");
    let bomb = gzip(&bomb);
    assert!(bomb.len() < 2_000_000);
    let names = one_problem(
        shards(dir.path(), &[&bomb, &plain]),
        dir.path(),
        ProblemKind::UnreadableImage,
    );
    assert_eq!(names, ["a", "b"]);
}
