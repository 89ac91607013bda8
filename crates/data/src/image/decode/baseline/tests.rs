#![allow(clippy::panic, clippy::unwrap_used)]

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use libjpeg_turbo_rs::{Decoder, PixelFormat};

use super::{Baseline, Room};
use crate::image::decode::Limits;
use crate::image::picture::Mode;
use crate::image::resample::{Lines, Rect};

struct Random(u32);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as usize % end
    }
}

/// Shades with noise over them, from none to more than a photograph has.
fn file(random: &mut Random, sampling: Option<SamplingFactor>, size: [usize; 2]) -> Vec<u8> {
    let noise = 1 + random.below(120);
    let channels = if sampling.is_some() { 3 } else { 1 };
    let mut pixels = Vec::new();
    for i in 0..size[0] * size[1] * channels {
        let (x, y) = (i / channels % size[0], i / channels / size[0]);
        let shade = (x * (3 + i % channels) + 2 * y) % 200;
        pixels.push((shade + random.below(noise)).min(255) as u8);
    }
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, [5, 50, 90, 100][random.below(4)]);
    if let Some(sampling) = sampling {
        encoder.set_sampling_factor(sampling);
    }
    let has_restarts = random.below(3) == 0;
    if has_restarts {
        encoder.set_restart_interval(1 + random.below(6) as u16);
    }
    // With colours it writes several scans then; with restarts its tables lack what the first block behind a mark may need.
    let is_grey = channels == 1 && !has_restarts;
    encoder.set_optimized_huffman_tables(is_grey && random.below(2) == 0);
    let kind = if channels == 3 {
        ColorType::Rgb
    } else {
        ColorType::Luma
    };
    encoder
        .encode(&pixels, size[0] as u16, size[1] as u16, kind)
        .unwrap();
    bytes
}

/// libjpeg-turbo-rs's pixels.
fn other(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut decoder = Decoder::new(bytes).ok()?;
    decoder.set_output_format(match decoder.header().components.len() {
        1 => PixelFormat::Grayscale,
        _ => PixelFormat::Rgb,
    });
    Some(decoder.decode_image().ok()?.into_vec())
}

const SAMPLINGS: [Option<SamplingFactor>; 5] = [
    None,
    Some(SamplingFactor::F_1_1),
    Some(SamplingFactor::F_2_1),
    Some(SamplingFactor::F_1_2),
    Some(SamplingFactor::F_2_2),
];

#[test]
fn pictures_are_those_of_libjpeg() {
    let mut random = Random(7);
    let mut room = Room::default();
    for case in 0..300 {
        let sampling = SAMPLINGS[case % SAMPLINGS.len()];
        let size = [0, 1].map(|_| 5 + random.below([30, 130][case % 2]));
        let bytes = file(&mut random, sampling, size);
        let jpeg = Baseline::open(&bytes, Limits::default())
            .ok()
            .flatten()
            .unwrap();
        let picture = jpeg.picture(&mut room);
        let picture =
            picture.unwrap_or_else(|| panic!("{case}: {sampling:?}, {size:?} is not read"));
        let mode = if sampling.is_some() {
            Mode::Rgb
        } else {
            Mode::L
        };
        assert_eq!(
            ([picture.width, picture.height], picture.mode),
            (size, mode)
        );
        assert!(
            picture.samples == other(&bytes).unwrap(),
            "{case}: {sampling:?}, {size:?}"
        );
    }
}

/// Rows of any part are those of the whole picture, whatever was decoded before.
#[test]
fn parts_are_those_of_the_picture() {
    let mut random = Random(5);
    let mut room = Room::default();
    for case in 0..600 {
        let sampling = SAMPLINGS[case % SAMPLINGS.len()];
        let size = [0, 1].map(|_| 5 + random.below([30, 130][case % 2]));
        let bytes = file(&mut random, sampling, size);
        let whole = other(&bytes).unwrap();
        let jpeg = Baseline::open(&bytes, Limits::default())
            .ok()
            .flatten()
            .unwrap();
        let [left, top] = size.map(|side| random.below(side));
        let wanted = Rect {
            left,
            top,
            width: 1 + random.below(size[0] - left),
            height: 1 + random.below(size[1] - top),
        };
        let mut lines = jpeg.lines(wanted, &mut room).unwrap();
        let (channels, columns) = (lines.channels(), lines.columns());
        assert!(columns.start <= left && columns.end >= left + wanted.width);
        let mut part = vec![0; wanted.height * columns.len() * channels];
        lines.write(top, &mut part);
        for (y, row) in (top..).zip(part.chunks_exact(columns.len() * channels)) {
            let samples = wanted.width * channels;
            let found = &row[(left - columns.start) * channels..][..samples];
            let expected = &whole[(y * size[0] + left) * channels..][..samples];
            assert!(
                found == expected,
                "{case}: {sampling:?}, {size:?}, {wanted:?}, row {y}"
            );
        }
    }
}

/// What is damaged is left to libjpeg-turbo-rs, unless it is read alike.
#[test]
fn damaged_pictures_are_those_of_libjpeg() {
    let mut random = Random(11);
    let mut room = Room::default();
    let (mut read, mut left) = (0, 0);
    for case in 0..1500 {
        let sampling = SAMPLINGS[case % SAMPLINGS.len()];
        let size = [0, 1].map(|_| 8 + random.below(60));
        let mut bytes = file(&mut random, sampling, size);
        for _ in 0..1 + case % 3 {
            let at = 2 + random.below(bytes.len() - 4);
            bytes[at] = random.below(256) as u8;
        }
        if case % 5 == 0 {
            let length = bytes.len();
            bytes.truncate(length - random.below(length / 2));
            bytes.extend([0xff, 0xd9]);
        }
        let limits = Limits::new(1 << 20);
        let Ok(Some(jpeg)) = Baseline::open(&bytes, limits) else {
            continue;
        };
        match jpeg.picture(&mut room) {
            Some(picture) => {
                assert!(
                    Some(picture.samples) == other(&bytes),
                    "{case}: {sampling:?}, {size:?}"
                );
                read += 1;
            }
            None => left += 1,
        }
    }
    assert!(read > 100 && left > 100, "{read} read, {left} left");
}
