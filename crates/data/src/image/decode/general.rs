//! WebP, BMP, PPM and the rarer kinds of TIFF through the `image` crate.

use std::io::Cursor;

use ::image::codecs::bmp::BmpDecoder;
use ::image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};

use super::bits::unpack;
use super::limits::{Failure, Limits};
use crate::image::picture::{Mode, Picture};

pub(super) fn decode(
    bytes: &[u8],
    format: ImageFormat,
    limits: Limits,
) -> Result<Picture, Failure> {
    if format == ImageFormat::Bmp
        && let Some(picture) = indexed_bmp(bytes, limits)?
    {
        return Ok(picture);
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut bounds = ::image::Limits::default();
    bounds.max_alloc = Some(limits.memory() as u64);
    reader.limits(bounds);
    let decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    limits.check(width, height)?;
    let is_bilevel = matches!(
        decoder.original_color_type(),
        ::image::ExtendedColorType::L1
    );
    let (mode, samples) = match DynamicImage::from_decoder(decoder)? {
        DynamicImage::ImageLuma8(image) if is_bilevel => (Mode::Bilevel, image.into_raw()),
        DynamicImage::ImageLuma8(image) => (Mode::L, image.into_raw()),
        DynamicImage::ImageLumaA8(image) => (Mode::La, image.into_raw()),
        DynamicImage::ImageRgb8(image) => (Mode::Rgb, image.into_raw()),
        DynamicImage::ImageRgba8(image) => (Mode::Rgba, image.into_raw()),
        // Pillow reads 16-bit PGM as 32-bit integers.
        DynamicImage::ImageLuma16(image) if format == ImageFormat::Pnm => {
            let wide = image
                .into_raw()
                .into_iter()
                .flat_map(|v| u32::from(v).to_le_bytes());
            (Mode::I32, wide.collect())
        }
        DynamicImage::ImageLuma16(image) => (
            Mode::I16,
            image
                .into_raw()
                .into_iter()
                .flat_map(u16::to_le_bytes)
                .collect(),
        ),
        DynamicImage::ImageLumaA16(image) => (Mode::La, high_bytes(&image)),
        DynamicImage::ImageRgb16(image) => (Mode::Rgb, high_bytes(&image)),
        DynamicImage::ImageRgba16(image) => (Mode::Rgba, high_bytes(&image)),
        other => {
            return Err(Failure::Damaged(format!(
                "{:?} samples are not supported",
                other.color()
            )));
        }
    };
    Ok(Picture::new(width, height, mode, samples))
}

fn high_bytes(samples: &[u16]) -> Vec<u8> {
    samples.iter().map(|sample| (sample >> 8) as u8).collect()
}

/// A BMP with a palette; `None` for all others.
fn indexed_bmp(bytes: &[u8], limits: Limits) -> Result<Option<Picture>, Failure> {
    let mut decoder = BmpDecoder::new(Cursor::new(bytes))?;
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    limits.check(width, height)?;
    let Some(palette) = decoder.get_palette().map(<[_]>::to_vec) else {
        return Ok(None);
    };
    let mut samples = match packed_bmp(bytes, width, height) {
        Some(samples) => samples,
        None => {
            decoder.set_indexed_color(true);
            let mut samples = vec![0; width * height];
            decoder.read_image(&mut samples)?;
            samples
        }
    };
    // Pillow drops a palette that is a ramp of grey.
    let is_ramp = |last: usize| {
        palette
            .iter()
            .enumerate()
            .all(|(i, color)| color.iter().all(|&c| usize::from(c) == i * last))
    };
    Ok(Some(match palette.len() {
        2 if is_ramp(255) => {
            samples.iter_mut().for_each(|sample| *sample *= 255);
            Picture::new(width, height, Mode::Bilevel, samples)
        }
        length if length > 2 && is_ramp(1) => Picture::new(width, height, Mode::L, samples),
        _ => Picture::indexed(width, height, samples, palette.as_flattened()),
    }))
}

/// The indices of an uncompressed BMP with several pixels in a byte, which the `image` crate does not give.
fn packed_bmp(bytes: &[u8], width: usize, height: usize) -> Option<Vec<u8>> {
    let short = |at| Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let long = |at| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let (start, header, bits, compression) = (long(10)? as usize, long(14)?, short(28)?, long(30)?);
    if header < 40 || !matches!(bits, 1 | 2 | 4) || compression != 0 {
        return None;
    }
    let bits = usize::from(bits);
    let line = (width * bits).div_ceil(32) * 4;
    let packed = bytes.get(start..start.checked_add(line * height)?)?;
    let mut samples = unpack(packed, line, width, bits);
    let is_bottom_up = long(22)? as i32 > 0;
    if is_bottom_up {
        samples = samples
            .chunks_exact(width)
            .rev()
            .flatten()
            .copied()
            .collect();
    }
    Some(samples)
}
