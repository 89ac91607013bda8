//! TIFF in the mode that Pillow gives it. Of files with several pages, the first.

use std::io::Cursor;

use tiff::ColorType;
use tiff::decoder::{Decoder, DecodingResult};
use tiff::tags::{ByteOrder, Tag};

use super::bits::unpack;
use super::general;
use super::limits::{Failure, Limits};
use crate::image::picture::{Mode, Picture};

/// How alpha is stored, by the tag `ExtraSamples`.
const ALPHA_UNSPECIFIED: u16 = 0;
const ALPHA_PREMULTIPLIED: u16 = 1;

pub(super) fn decode(bytes: &[u8], limits: Limits) -> Result<Picture, Failure> {
    // The decoder knows no palettes, but decodes their indices when they are called grey.
    let as_grey = palette_as_grey(bytes);
    let mut decoder = Decoder::new(Cursor::new(as_grey.as_deref().unwrap_or(bytes)))?;
    let mut bounds = tiff::decoder::Limits::default();
    bounds.decoding_buffer_size = limits.memory();
    bounds.intermediate_buffer_size = limits.memory();
    decoder = decoder.with_limits(bounds);
    let (width, height) = decoder.dimensions()?;
    let (width, height) = (width as usize, height as usize);
    limits.check(width, height)?;
    let color = decoder.colortype()?;
    let is_readable = matches!(
        color,
        ColorType::Gray(1 | 2 | 4 | 8 | 16 | 32)
            | ColorType::CMYK(8)
            | ColorType::RGB(8 | 16)
            | ColorType::RGBA(8 | 16)
            | ColorType::Multiband {
                bit_depth: 8,
                num_samples: 2,
            }
    );
    if !is_readable {
        return general::decode(bytes, ::image::ImageFormat::Tiff, limits);
    }
    let alpha = decoder
        .find_tag_unsigned_vec::<u16>(Tag::ExtraSamples)?
        .unwrap_or_default();
    let alpha = alpha.first().copied();
    let mut result = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut result)?;
    let is_little_endian = decoder.byte_order() == ByteOrder::LittleEndian;
    let (samples, deep) = match result {
        DecodingResult::U8(samples) => (samples, None),
        DecodingResult::U16(samples) if color == ColorType::Gray(16) && is_little_endian => (
            samples.into_iter().flat_map(u16::to_le_bytes).collect(),
            Some(Mode::I16),
        ),
        DecodingResult::U16(samples) if color == ColorType::Gray(16) => (
            samples.into_iter().flat_map(u16::to_be_bytes).collect(),
            Some(Mode::I16Be),
        ),
        DecodingResult::U16(samples) => (
            samples
                .into_iter()
                .map(|sample| (sample >> 8) as u8)
                .collect(),
            None,
        ),
        DecodingResult::I16(samples) => {
            let wide = samples
                .into_iter()
                .flat_map(|sample| i32::from(sample).to_le_bytes());
            (wide.collect(), Some(Mode::I32))
        }
        DecodingResult::I32(samples) => (
            samples.into_iter().flat_map(i32::to_le_bytes).collect(),
            Some(Mode::I32),
        ),
        DecodingResult::U32(samples) => (
            samples.into_iter().flat_map(u32::to_le_bytes).collect(),
            Some(Mode::I32),
        ),
        DecodingResult::F32(samples) => (
            samples.into_iter().flat_map(f32::to_le_bytes).collect(),
            Some(Mode::F32),
        ),
        _ => {
            return Err(Failure::Damaged(format!(
                "{color:?} of this depth is not supported"
            )));
        }
    };
    if let Some(mode) = deep {
        return Ok(Picture::new(width, height, mode, samples));
    }
    let samples = if layout.planes > 1 {
        interleaved(&samples, layout.planes)
    } else {
        samples
    };
    let line = samples.len() / height.max(1);
    if as_grey.is_some() {
        let indices = match color {
            ColorType::Gray(bits @ (1 | 2 | 4)) => unpack(&samples, line, width, usize::from(bits)),
            ColorType::Gray(8) => samples,
            _ => {
                return Err(Failure::Damaged(format!(
                    "a palette with {color:?} indices"
                )));
            }
        };
        let map = decoder
            .find_tag_unsigned_vec::<u16>(Tag::ColorMap)?
            .unwrap_or_default();
        let channels: Vec<u8> = map.iter().map(|value| (value >> 8) as u8).collect();
        return Ok(Picture::indexed(
            width,
            height,
            indices,
            &interleaved(&channels, 3),
        ));
    }
    let (mode, samples) = match (color, alpha) {
        (ColorType::Gray(1), _) => (Mode::Bilevel, scaled(unpack(&samples, line, width, 1), 255)),
        (ColorType::Gray(2), _) => (Mode::L, scaled(unpack(&samples, line, width, 2), 85)),
        (ColorType::Gray(4), _) => (Mode::L, scaled(unpack(&samples, line, width, 4), 17)),
        (ColorType::Gray(_), _) => (Mode::L, samples),
        (ColorType::CMYK(_), _) => (Mode::Cmyk, samples),
        (ColorType::RGB(_), _) => (Mode::Rgb, samples),
        (ColorType::RGBA(_), Some(ALPHA_UNSPECIFIED)) => (Mode::Rgb, without_last(&samples, 4)),
        (ColorType::RGBA(_), Some(ALPHA_PREMULTIPLIED)) => (Mode::Rgba, divided_by_alpha(samples)),
        (ColorType::RGBA(_), _) => (Mode::Rgba, samples),
        (_, Some(ALPHA_UNSPECIFIED)) => (Mode::L, without_last(&samples, 2)),
        _ => (Mode::La, samples),
    };
    Ok(Picture::new(width, height, mode, samples))
}

fn scaled(mut samples: Vec<u8>, factor: u8) -> Vec<u8> {
    samples.iter_mut().for_each(|sample| *sample *= factor);
    samples
}

fn without_last(samples: &[u8], channels: usize) -> Vec<u8> {
    samples
        .chunks_exact(channels)
        .flat_map(|pixel| &pixel[..channels - 1])
        .copied()
        .collect()
}

fn divided_by_alpha(mut samples: Vec<u8>) -> Vec<u8> {
    for [r, g, b, alpha] in samples.as_chunks_mut().0 {
        for color in [r, g, b] {
            *color = match *alpha {
                0 => 0,
                255 => *color,
                alpha => (255 * u32::from(*color) / u32::from(alpha)).min(255) as u8,
            };
        }
    }
    samples
}

/// Planes, one after the other, to samples side by side.
fn interleaved(planes: &[u8], count: usize) -> Vec<u8> {
    let length = planes.len() / count;
    (0..length)
        .flat_map(|at| (0..count).map(move |plane| planes[plane * length + at]))
        .collect()
}

/// The file with its first page called grey, if that page has a palette.
fn palette_as_grey(bytes: &[u8]) -> Option<Vec<u8>> {
    const PHOTOMETRIC_INTERPRETATION: u64 = 262;
    const RGB_PALETTE: u64 = 3;
    const BLACK_IS_ZERO: u8 = 1;
    let is_little_endian = bytes.first() == Some(&b'I');
    let number = |at: usize, length: usize| -> Option<u64> {
        let digits = bytes.get(at..at.checked_add(length)?)?.iter();
        let push = |value: u64, digit: &u8| value << 8 | u64::from(*digit);
        Some(if is_little_endian {
            digits.rev().fold(0, push)
        } else {
            digits.fold(0, push)
        })
    };
    let (directory, count_length, entry_length, value_at) = match number(2, 2)? {
        42 => (number(4, 4)?, 2, 12, 8),
        43 => (number(8, 8)?, 8, 20, 12),
        _ => return None,
    };
    let directory = usize::try_from(directory).ok()?;
    let count = number(directory, count_length)?;
    let first = directory.checked_add(count_length)?;
    let mut entries = (0..count.min(4096) as usize).map(|i| first + i * entry_length);
    let entry = entries.find(|&entry| number(entry, 2) == Some(PHOTOMETRIC_INTERPRETATION))?;
    if number(entry + value_at, 2)? != RGB_PALETTE {
        return None;
    }
    let mut changed = bytes.to_vec();
    changed[entry + value_at + usize::from(!is_little_endian)] = BLACK_IS_ZERO;
    Some(changed)
}
