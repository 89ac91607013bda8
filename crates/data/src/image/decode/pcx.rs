//! PCX with the modes that Pillow gives it.

use std::io::Cursor;

use ::pcx::Reader;

use super::limits::{Failure, Limits};
use crate::image::picture::{Mode, Picture};

/// A byte that says so, and 256 colours, stand at the end of the file.
const PALETTE: usize = 1 + 3 * 256;

pub(super) fn decode(bytes: &[u8], limits: Limits) -> Result<Picture, Failure> {
    let mut reader = Reader::new(Cursor::new(bytes))?;
    let (width, height) = (usize::from(reader.width()), usize::from(reader.height()));
    limits.check(width, height)?;
    // A run of the encoding is 63 bytes at most.
    Limits::fits(
        bytes.len(),
        64,
        width * height * usize::from(reader.header.bit_depth) / 8,
    )?;
    if !reader.is_paletted() {
        let mut samples = vec![0; 3 * width * height];
        for row in samples.chunks_exact_mut(3 * width) {
            reader.next_row_rgb(row)?;
        }
        return Ok(Picture::new(width, height, Mode::Rgb, samples));
    }
    let mut samples = vec![0; width * height];
    for row in samples.chunks_exact_mut(width) {
        reader.next_row_paletted(row)?;
    }
    let (depth, planes) = (
        reader.header.bit_depth,
        reader.header.number_of_color_planes,
    );
    if (depth, planes) == (1, 1) {
        samples.iter_mut().for_each(|sample| *sample *= 255);
        return Ok(Picture::new(width, height, Mode::Bilevel, samples));
    }
    if depth < 8 {
        return Ok(Picture::indexed(
            width,
            height,
            samples,
            reader.header.palette.as_flattened(),
        ));
    }
    let colors = bytes
        .len()
        .checked_sub(PALETTE)
        .and_then(|at| bytes[at..].strip_prefix(&[12]));
    let is_ramp = |colors: &[u8]| {
        colors
            .iter()
            .enumerate()
            .all(|(i, &color)| usize::from(color) == i / 3)
    };
    Ok(match colors {
        Some(colors) if !is_ramp(colors) => Picture::indexed(width, height, samples, colors),
        _ => Picture::new(width, height, Mode::L, samples),
    })
}
