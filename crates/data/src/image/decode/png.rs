//! PNG with its palette and sample depth as stored.

use std::io::{Cursor, ErrorKind};

use png::{BitDepth, ColorType, DecodeOptions, Decoder, DecodingError, Transformations};

use super::bits::unpack;
use super::limits::{Failure, Limits};
use crate::image::picture::{Mode, Picture};

pub(super) fn decode(bytes: &[u8], limits: Limits) -> Result<Picture, Failure> {
    let bounds = png::Limits {
        bytes: limits.memory(),
    };
    if !head_is_intact(bytes) {
        return Err(Failure::of("a wrong checksum before its pixels"));
    }
    let mut options = DecodeOptions::default();
    options.set_ignore_crc(true);
    options.set_ignore_adler32(false);
    // A profile of colours is not looked at, and may be packed to a thousandth of its size.
    options.set_ignore_iccp_chunk(true);
    let mut decoder = Decoder::new_with_options(Cursor::new(bytes), options);
    decoder.set_limits(bounds);
    decoder.set_transformations(Transformations::IDENTITY);
    let header = decoder.read_header_info()?;
    let (width, height) = (header.width as usize, header.height as usize);
    limits.check(width, height)?;
    let mut reader = decoder.read_info()?;
    let Some(length) = reader.output_buffer_size() else {
        return Err(Failure::Damaged("its size overflows".to_owned()));
    };
    let mut samples = vec![0; length];
    let line = if reader.info().interlaced {
        let frame = reader.next_frame(&mut samples)?;
        samples.truncate(frame.buffer_size());
        frame.line_size
    } else {
        // Row by row, so that a file may end after its last row, as Pillow allows.
        let line = length / height.max(1);
        for row in samples.chunks_exact_mut(line.max(1)) {
            if reader.read_row(row)?.is_none() {
                return Err(Failure::Damaged("rows are missing".to_owned()));
            }
        }
        match reader.finish() {
            Err(DecodingError::IoError(error)) if error.kind() == ErrorKind::UnexpectedEof => {}
            end => end?,
        }
        line
    };
    let info = reader.info();
    let depth = info.bit_depth;
    let samples = match depth {
        BitDepth::One | BitDepth::Two | BitDepth::Four => {
            unpack(&samples, line, width, depth as usize)
        }
        BitDepth::Sixteen if info.color_type == ColorType::Grayscale => samples
            .as_chunks()
            .0
            .iter()
            .flat_map(|&[high, low]| [low, high])
            .collect(),
        BitDepth::Sixteen => samples.into_iter().step_by(2).collect(),
        BitDepth::Eight => samples,
    };
    let mode = match (info.color_type, depth) {
        (ColorType::Indexed, _) => {
            let colors = info.palette.as_deref().unwrap_or_default();
            return Ok(Picture::indexed(width, height, samples, colors));
        }
        (ColorType::Grayscale, BitDepth::One) => {
            return Ok(scaled(width, height, Mode::Bilevel, samples, 255));
        }
        (ColorType::Grayscale, BitDepth::Two) => {
            return Ok(scaled(width, height, Mode::L, samples, 85));
        }
        (ColorType::Grayscale, BitDepth::Four) => {
            return Ok(scaled(width, height, Mode::L, samples, 17));
        }
        (ColorType::Grayscale, BitDepth::Sixteen) => Mode::I16,
        (ColorType::Grayscale, BitDepth::Eight) => Mode::L,
        (ColorType::GrayscaleAlpha, _) => Mode::La,
        (ColorType::Rgb, _) => Mode::Rgb,
        (ColorType::Rgba, _) => Mode::Rgba,
    };
    Ok(Picture::new(width, height, mode, samples))
}

/// Whether the checksums of the chunks before the pixels are right. Those of pixels, and what follows, Pillow does not compare.
fn head_is_intact(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(8..).unwrap_or_default();
    while let Some((&length, tail)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(length) as usize;
        let chunk = tail.split_at_checked(length.saturating_add(4));
        let Some((chunk, (stored, next))) =
            chunk.and_then(|(chunk, tail)| Some((chunk, tail.split_first_chunk()?)))
        else {
            return true;
        };
        if chunk.starts_with(b"IDAT") {
            return true;
        }
        if crc32fast::hash(chunk) != u32::from_be_bytes(*stored) {
            return false;
        }
        rest = next;
    }
    true
}

fn scaled(width: usize, height: usize, mode: Mode, mut samples: Vec<u8>, factor: u8) -> Picture {
    samples.iter_mut().for_each(|sample| *sample *= factor);
    Picture::new(width, height, mode, samples)
}
