//! TIFF in the mode that Pillow gives it. Of files with several pages, the first.

mod chunks;
mod directory;
mod fax;
mod ycbcr;

use self::chunks::{Layout, photometric};
use self::directory::{Directory, tag};
use super::bits::unpack;
use super::limits::{Failure, Limits};
use crate::image::picture::{Mode, Picture};

/// How alpha is stored, by the tag `ExtraSamples`.
mod alpha {
    pub(super) const UNSPECIFIED: u64 = 0;
    pub(super) const PREMULTIPLIED: u64 = 1;
}

/// Kinds of samples, by the tag `SampleFormat`.
mod sample {
    pub(super) const UNSIGNED: u64 = 1;
    pub(super) const SIGNED: u64 = 2;
    pub(super) const FLOAT: u64 = 3;
}

pub(super) fn decode(bytes: &[u8], limits: Limits) -> Result<Picture, Failure> {
    let directory = Directory::first(bytes)?;
    let layout = layout(&directory)?;
    limits.check(layout.width, layout.height)?;
    let samples = chunks::read(bytes, &directory, &layout, limits)?;
    let picture = picture(samples, &directory, &layout)?;
    let orientation = directory.first_number(tag::ORIENTATION).unwrap_or(1);
    Ok(upright(picture, orientation))
}

fn layout(directory: &Directory<'_>) -> Result<Layout, Failure> {
    let number = |tag, default| directory.first_number(tag).unwrap_or(default);
    let side = |tag| directory.first_number(tag).filter(|&side| side > 0);
    let sides = side(tag::IMAGE_WIDTH).zip(side(tag::IMAGE_LENGTH));
    let (width, height) = sides.ok_or_else(|| Failure::of("no width or height"))?;
    let bits = directory.numbers(tag::BITS_PER_SAMPLE);
    let bits = if bits.is_empty() { vec![1] } else { bits };
    let samples = number(tag::SAMPLES_PER_PIXEL, bits.len());
    let depth = bits[0] as usize;
    if !(1..=16).contains(&samples)
        || !(1..=64).contains(&depth)
        || bits.iter().take(samples).any(|&other| other != bits[0])
    {
        return Err(Failure::of(format!("{samples} samples of {bits:?} bits")));
    }
    let photometric = number(tag::PHOTOMETRIC, 0);
    let compression = number(tag::COMPRESSION, 1);
    let mut layout = Layout {
        width,
        height,
        bits: depth,
        samples,
        compression,
        photometric,
        is_planar: number(tag::PLANAR_CONFIGURATION, 1) == 2 && samples > 1,
        subsampling: (1, 1),
        fill_order: number(tag::FILL_ORDER, 1),
    };
    if photometric == photometric::YCBCR && samples == 3 && !layout.is_jpeg() {
        let factors = directory.numbers(tag::YCBCR_SUBSAMPLING);
        layout.subsampling = match factors[..] {
            [across @ (1 | 2 | 4), down @ (1 | 2 | 4)] => (across as usize, down as usize),
            // Pillow takes what is not compressed for whole pixels.
            [] if layout.is_raw() => (1, 1),
            [] => (2, 2),
            _ => return Err(Failure::of(format!("chroma at every {factors:?} pixels"))),
        };
        if (layout.is_planar || depth != 8) && layout.subsampling != (1, 1) {
            return Err(Failure::of(format!(
                "chroma of another size in planes or of {depth} bits is not supported"
            )));
        }
    }
    Ok(layout)
}

fn picture(
    samples: Vec<u8>,
    directory: &Directory<'_>,
    layout: &Layout,
) -> Result<Picture, Failure> {
    let (width, height, bits) = (layout.width, layout.height, layout.bits);
    let line = layout.line(width);
    let formats = directory.numbers(tag::SAMPLE_FORMAT);
    let format = formats.first().copied().unwrap_or(sample::UNSIGNED);
    let extra = directory.numbers(tag::EXTRA_SAMPLES);
    let is_inverted = layout.photometric == photometric::WHITE_IS_ZERO;
    let is_little_endian = directory.is_little_endian;
    let unsupported = || {
        Failure::of(format!(
            "{} samples of {bits} bits (photometric interpretation {}, sample format {format}) are not supported",
            layout.samples, layout.photometric,
        ))
    };
    let new = |mode, samples| Ok(Picture::new(width, height, mode, samples));
    let is_grey = layout.photometric <= photometric::BLACK_IS_ZERO && layout.samples == 1;
    if is_grey && bits > 8 {
        let (mode, samples) =
            deep(samples, line, layout, format, is_little_endian).ok_or_else(unsupported)?;
        return new(mode, samples);
    }
    if bits < 8 {
        let is_palette = layout.photometric == photometric::PALETTE;
        if !matches!(bits, 1 | 2 | 4) || !(is_grey || is_palette && layout.samples == 1) {
            return Err(unsupported());
        }
        let mut samples = unpack(&samples, line, width, bits);
        if is_palette {
            return Ok(Picture::indexed(
                width,
                height,
                samples,
                &palette(directory)?,
            ));
        }
        let white = (1 << bits) - 1;
        for sample in &mut samples {
            *sample = if is_inverted {
                white - *sample
            } else {
                *sample
            } * (255 / white);
        }
        return new(if bits == 1 { Mode::Bilevel } else { Mode::L }, samples);
    }
    let samples = match bits {
        8 => samples,
        // Of two bytes the high one.
        16 => samples
            .into_iter()
            .skip(usize::from(is_little_endian))
            .step_by(2)
            .collect(),
        _ => return Err(unsupported()),
    };
    let samples = interleaved(samples, layout);
    if layout.photometric == photometric::YCBCR && layout.samples == 3 {
        return match (layout.is_jpeg(), layout.is_raw(), layout.subsampling) {
            (true, ..) => new(Mode::Rgb, samples),
            // Only what is not compressed keeps its channels until it has been resized.
            (_, true, (1, 1)) => new(Mode::YCbCr, samples),
            _ => new(Mode::Rgb, ycbcr::to_rgb(&samples, directory)),
        };
    }
    let first_extra = extra.first().copied();
    // Samples beyond the colours: alpha, or nothing to see.
    let keep = |count: usize| -> Vec<u8> {
        let pixels = samples.chunks_exact(layout.samples);
        pixels.flat_map(|pixel| &pixel[..count]).copied().collect()
    };
    match (layout.photometric, layout.samples) {
        (photometric::WHITE_IS_ZERO, 1) => {
            new(Mode::L, samples.iter().map(|sample| !sample).collect())
        }
        (photometric::BLACK_IS_ZERO | photometric::YCBCR, 1) => new(Mode::L, samples),
        (photometric::BLACK_IS_ZERO, 2) if first_extra == Some(alpha::UNSPECIFIED) => {
            new(Mode::L, keep(1))
        }
        (photometric::BLACK_IS_ZERO, 2) => new(Mode::La, samples),
        (photometric::PALETTE, 1..=2) => Ok(Picture::indexed(
            width,
            height,
            keep(1),
            &palette(directory)?,
        )),
        (photometric::RGB, 3) => new(Mode::Rgb, samples),
        (photometric::RGB, 4..) => match first_extra {
            Some(alpha::UNSPECIFIED) => new(Mode::Rgb, keep(3)),
            Some(alpha::PREMULTIPLIED) => new(Mode::Rgba, divided_by_alpha(keep(4))),
            _ => new(Mode::Rgba, keep(4)),
        },
        (photometric::CMYK, 4..) => new(Mode::Cmyk, keep(4)),
        // The file has a* and b* about 0.
        (photometric::LAB, 3) => {
            let pixels = samples.as_chunks::<3>().0.iter();
            let samples = pixels.flat_map(|&[l, a, b]| [l, a ^ 0x80, b ^ 0x80]);
            new(Mode::Lab, samples.collect())
        }
        _ => Err(unsupported()),
    }
}

/// Grey of more than 8 bits.
fn deep(
    samples: Vec<u8>,
    line: usize,
    layout: &Layout,
    format: u64,
    is_little_endian: bool,
) -> Option<(Mode, Vec<u8>)> {
    let wide = |number: fn([u8; 2]) -> i32| {
        let numbers = samples.as_chunks().0.iter().map(|&digits| number(digits));
        numbers.flat_map(i32::to_le_bytes).collect()
    };
    Some(match (layout.bits, format) {
        (12, sample::UNSIGNED) => {
            let pairs = samples.chunks_exact(line).flat_map(|row| {
                (0..layout.width).map(|x| {
                    let at = x * 12 / 8;
                    match x % 2 {
                        0 => u16::from(row[at]) << 4 | u16::from(row[at + 1]) >> 4,
                        _ => u16::from(row[at] & 15) << 8 | u16::from(row[at + 1]),
                    }
                })
            });
            (Mode::I16, pairs.flat_map(u16::to_le_bytes).collect())
        }
        (16, sample::UNSIGNED) if is_little_endian => (Mode::I16, samples),
        (16, sample::UNSIGNED) => (Mode::I16Be, samples),
        (16, sample::SIGNED) if is_little_endian => {
            (Mode::I32, wide(|digits| i16::from_le_bytes(digits).into()))
        }
        (16, sample::SIGNED) => (Mode::I32, wide(|digits| i16::from_be_bytes(digits).into())),
        (32, sample::UNSIGNED | sample::SIGNED | sample::FLOAT) => {
            let mode = if format == sample::FLOAT {
                Mode::F32
            } else {
                Mode::I32
            };
            let mut samples = samples;
            if !is_little_endian {
                samples
                    .as_chunks_mut::<4>()
                    .0
                    .iter_mut()
                    .for_each(|digits| digits.reverse());
            }
            (mode, samples)
        }
        _ => return None,
    })
}

/// RGB, one entry after the other; the file has all reds, then all greens, then all blues in 16 bits.
fn palette(directory: &Directory<'_>) -> Result<Vec<u8>, Failure> {
    let map = directory.numbers(tag::COLOR_MAP);
    let length = map.len() / 3;
    if length == 0 {
        return Err(Failure::of("its palette is missing or cut off"));
    }
    let places = (0..length).flat_map(|at| (0..3).map(move |channel| channel * length + at));
    Ok(places.map(|at| (map[at] >> 8) as u8).collect())
}

/// Planes, one after the other, to samples side by side.
fn interleaved(samples: Vec<u8>, layout: &Layout) -> Vec<u8> {
    if !layout.is_planar {
        return samples;
    }
    let count = layout.samples;
    let length = samples.len() / count;
    (0..length)
        .flat_map(|at| (0..count).map(move |plane| plane * length + at))
        .map(|at| samples[at])
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

/// Turned and mirrored as the tag `Orientation` says, which Pillow does for TIFF alone.
fn upright(picture: Picture, orientation: usize) -> Picture {
    if !(2..=8).contains(&orientation) {
        return picture;
    }
    let (width, height) = (picture.width, picture.height);
    let (out_width, out_height) = if orientation > 4 {
        (height, width)
    } else {
        (width, height)
    };
    let bytes = picture.mode.bytes();
    let mut samples = Vec::with_capacity(picture.samples.len());
    for y in 0..out_height {
        for x in 0..out_width {
            let (right, down) = (out_width - 1 - x, out_height - 1 - y);
            let (from_x, from_y) = match orientation {
                2 => (right, y),
                3 => (right, down),
                4 => (x, down),
                5 => (y, x),
                6 => (y, right),
                7 => (down, right),
                _ => (down, x),
            };
            let at = (from_y * width + from_x) * bytes;
            samples.extend_from_slice(&picture.samples[at..at + bytes]);
        }
    }
    Picture {
        width: out_width,
        height: out_height,
        samples,
        ..picture
    }
}
