//! Every format against Pillow (`parity/export_formats.py`), and what damaged files of each come to.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use openclip_data::image::{EvalTransform, Limits, Mode, Picture, decode};
use openclip_model::config::{Interpolation, PreprocessConfig, ResizeMode};
use openclip_tests::formats;
use safetensors::SafeTensors;

/// The largest difference that is allowed, and where it comes from.
fn tolerance(name: &str) -> u8 {
    match name {
        // Wavelets in floating point, which OpenJPEG adds up in another order.
        _ if name.starts_with("jp2_") => 1,
        // Colour profiles compute in 16 bits.
        _ if name.starts_with("tiff_lab") => 1,
        _ => 0,
    }
}

/// What Pillow refuses and is read here, for want of a reason to refuse it.
fn is_more(name: &str) -> bool {
    [
        "tiff_own_grey_extra1",
        "tiff_own_white16_be",
        "tiff_own_twelve_be",
        "tiff_own_big_be",
        "tiff_own_chroma",
    ]
    .iter()
    .any(|start| name.starts_with(start))
}

/// What Pillow reads and is refused here, with the reason that the error gives.
fn refusal(name: &str) -> Option<&'static str> {
    let refused = [("avif_matrix12", "matrix coefficients 12")];
    let found = refused
        .into_iter()
        .find(|(start, _)| name.starts_with(start));
    found.map(|(_, reason)| reason)
}

/// The picture whose pixels another has in truth: Pillow takes every byte of planes of 16 bits for a sample of its own.
fn same_as(name: &str) -> String {
    name.replace("rgb16_planar", "rgb16")
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Bilevel => "1",
        Mode::L => "L",
        Mode::La => "LA",
        Mode::I16 => "I;16",
        Mode::I16Be => "I;16B",
        Mode::I32 => "I",
        Mode::F32 => "F",
        Mode::Palette => "P",
        Mode::Rgb => "RGB",
        Mode::Rgba => "RGBA",
        Mode::Cmyk => "CMYK",
        Mode::YCbCr => "YCbCr",
        Mode::Lab => "LAB",
    }
}

fn difference(found: &[u8], expected: &[u8]) -> Option<u8> {
    let pairs = found.iter().zip(expected);
    (found.len() == expected.len()).then(|| pairs.map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0))
}

/// The picture resized to 11 × 8 in its own mode, interleaved.
fn view(picture: &Picture) -> Vec<u8> {
    let config = PreprocessConfig {
        resize_mode: ResizeMode::Squash,
        interpolation: Interpolation::Bicubic,
        ..PreprocessConfig::default()
    };
    let transform = EvalTransform::new(8, 11, &config).unwrap();
    let mut planes = vec![0; 3 * 88];
    transform.apply(picture, &mut planes).unwrap();
    (0..88)
        .flat_map(|i| [0, 1, 2].map(|channel| planes[88 * channel + i]))
        .collect()
}

#[test]
fn every_format_gives_pillows_pixels() {
    let bytes = formats();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let data = |kind: &str, name: &str| {
        tensors
            .tensor(&format!("{kind}/{name}"))
            .ok()
            .map(|t| t.data())
    };
    let mut problems = Vec::new();
    let mut worst = BTreeMap::new();
    let mut count = 0;
    for key in tensors.names() {
        let Some(name) = key.strip_prefix("file/") else {
            continue;
        };
        count += 1;
        let result = decode(data("file", name).unwrap(), Limits::default());
        let read_as = same_as(name);
        let (picture, expected) = match (result, data("rgb", &read_as)) {
            (Ok(picture), Some(expected)) => (picture, expected),
            (Err(_), None) => continue,
            (Ok(_), None) if is_more(name) => continue,
            (Ok(_), None) => {
                problems.push(format!("{name}: read, and refused by Pillow"));
                continue;
            }
            (Err(error), Some(_))
                if refusal(name).is_some_and(|reason| error.to_string().contains(reason)) =>
            {
                continue;
            }
            (Err(error), Some(_)) => {
                problems.push(format!("{name}: {error}"));
                continue;
            }
        };
        let mode = std::str::from_utf8(data("mode", name).unwrap()).unwrap();
        // Pillow cannot resize PA, and has no conversion of La.
        if !(mode_name(picture.mode()) == mode || mode == "PA" && picture.mode() == Mode::Palette) {
            problems.push(format!("{name}: {:?} for {mode}", picture.mode()));
        }
        let view = data("view", &read_as).map(|expected| difference(&view(&picture), expected));
        let whole = difference(picture.into_rgb().samples(), expected);
        let found = match (whole, view) {
            (Some(whole), None) => Some(whole),
            (Some(whole), Some(Some(view))) => Some(whole.max(view)),
            _ => None,
        };
        let kind = name.split(['_', '/']).next().unwrap();
        let entry: &mut u8 = worst.entry(kind).or_default();
        *entry = (*entry).max(found.unwrap_or(255));
        if found.is_none_or(|found| found > tolerance(name)) {
            problems.push(format!("{name}: {whole:?} whole, {view:?} resized"));
        }
    }
    println!("{count} pictures, largest differences {worst:?}");
    assert!(count > 150, "the fixture is incomplete");
    assert!(
        problems.is_empty(),
        "{} problems: {problems:#?}",
        problems.len()
    );
}

/// Whatever bytes change or are cut off, decoding ends soon with a picture or an error.
fn mutate(rounds: usize, only: Option<&str>) -> (usize, usize) {
    let bytes = formats();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut state = 1_u64;
    let mut next = move |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below.max(1)
    };
    let (mut count, mut read) = (0, 0);
    let limits = Limits::new(1 << 20);
    for _ in 0..rounds {
        for key in tensors.names() {
            let Some(name) = key.strip_prefix("file/") else {
                continue;
            };
            if only.is_some_and(|only| !name.starts_with(only)) {
                continue;
            }
            let mut file = tensors.tensor(key).unwrap().data().to_vec();
            for _ in 0..1 + next(4) {
                let at = next(file.len());
                match next(5) {
                    0 => file[at] ^= 1 << next(8),
                    1 => file[at] = [0, 1, 0x7f, 0x80, 0xff][next(5)],
                    2 => file.truncate(at.max(1)),
                    3 => {
                        let from = next(file.len());
                        file[at] = file[from];
                    }
                    _ => file[at] = next(256) as u8,
                }
            }
            let start = Instant::now();
            let result = decode(&file, limits);
            let took = start.elapsed();
            assert!(took < Duration::from_secs(5), "{name} took {took:?}");
            count += 1;
            read += usize::from(result.is_ok());
        }
    }
    (count, read)
}

#[test]
fn damaged_files_of_every_format_end_with_a_picture_or_an_error() {
    let (count, read) = mutate(3, None);
    assert!(count > 450 && read < count, "{read} of {count} read");
}

#[test]
#[ignore = "takes minutes: OPENCLIP_ROUNDS rounds over all files, or those that begin with OPENCLIP_ONLY"]
fn many_damaged_files_end_with_a_picture_or_an_error() {
    let rounds = std::env::var("OPENCLIP_ROUNDS").map_or(100, |rounds| rounds.parse().unwrap());
    let only = std::env::var("OPENCLIP_ONLY").ok();
    let (count, read) = mutate(rounds, only.as_deref());
    println!("{count} damaged files, {read} of them read");
}

/// A TIFF whose samples have no bits, or so many that a small picture would fill the memory.
#[test]
fn a_tiff_with_samples_of_a_senseless_size_is_refused() {
    let bytes = formats();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let file = tensors.tensor("file/tiff_own_white_le").unwrap();
    let field: [u8; 10] = [2, 1, 3, 0, 1, 0, 0, 0, 8, 0];
    let at = file.data().windows(10).position(|bytes| bytes == field);
    for size in [0, 65, u16::MAX] {
        let mut file = file.data().to_vec();
        file[at.unwrap() + 8..][..2].copy_from_slice(&size.to_le_bytes());
        let error = decode(&file, Limits::default()).unwrap_err().to_string();
        assert!(error.contains(&format!("of [{size}] bits")), "{error}");
    }
}

/// A directory of `tags`, all of them short numbers, behind the pixels of a TIFF.
fn tiff(pixels: &[u8], tags: &[(u16, u32)]) -> Vec<u8> {
    let mut file = b"II*\0".to_vec();
    file.extend((8 + pixels.len() as u32).to_le_bytes());
    file.extend(pixels);
    file.extend((tags.len() as u16).to_le_bytes());
    for (tag, value) in tags {
        file.extend([tag.to_le_bytes(), [4, 0]].concat());
        file.extend([1_u32.to_le_bytes(), value.to_le_bytes()].concat());
    }
    file.extend([0; 4]);
    file
}

/// A small file may say that its picture has hundreds of bytes a pixel; none of them is set aside.
#[test]
fn a_tiff_of_many_gigabytes_is_refused_before_it_is_made() {
    let tags = [
        (256, 13_000),
        (257, 13_000),
        (258, 64),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 16),
        (278, 13_000),
        (279, 4),
    ];
    let bits = [64_u16; 16];
    let bits: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
    let mut file = tiff(&bits, &tags);
    // As many depths as samples, which lie where the pixels would.
    let field = 8 + bits.len() + 2 + 2 * 12;
    file[field + 2..field + 12].copy_from_slice(&[3, 0, 16, 0, 0, 0, 8, 0, 0, 0]);
    let started = std::time::Instant::now();
    let error = decode(&file, Limits::default()).unwrap_err().to_string();
    assert!(
        error.contains("more bytes than a picture may take"),
        "{error}"
    );
    assert!(started.elapsed().as_secs() < 2, "{:?}", started.elapsed());
}

/// Tags behind the cut say how the pixels in front of it are packed.
#[test]
fn a_tiff_whose_directory_is_cut_off_is_refused() {
    let tags = [
        (256, 2),
        (257, 2),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, 2),
        (279, 4),
        (317, 2),
    ];
    let file = tiff(&[1, 2, 3, 4], &tags);
    decode(&file, Limits::default()).unwrap();
    let error = decode(&file[..file.len() - 10], Limits::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("directory is cut off"), "{error}");
}

/// A fax page of one row that changes its colour at every pixel, then rows that repeat it: each code is looked up once.
#[test]
fn a_fax_page_of_many_changes_takes_no_time_beyond_its_size() {
    const WIDTH: usize = 1 << 18;
    // Horizontal mode (001) with runs of one white (000111) and one black (010) pixel.
    let row = "001000111010".repeat(WIDTH / 2);
    // Vertical mode without a shift is a single bit.
    let bits = row + &"1".repeat(WIDTH);
    let data: Vec<u8> = bits
        .as_bytes()
        .chunks(8)
        .map(|bits| {
            bits.iter()
                .enumerate()
                .fold(0, |byte, (at, bit)| byte | (bit - b'0') << (7 - at))
        })
        .collect();
    let count = data.len() as u32;
    let tags = [
        (256, WIDTH as u32),
        (257, 2),
        (258, 1),
        (259, 4),
        (262, 0),
        (273, 8),
        (277, 1),
        (278, 2),
        (279, count),
    ];
    let started = std::time::Instant::now();
    let picture = decode(&tiff(&data, &tags), Limits::default()).unwrap();
    let samples = picture.samples();
    assert_eq!(samples[..4], [255, 0, 255, 0]);
    assert_eq!(samples[..WIDTH], samples[WIDTH..]);
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
}
