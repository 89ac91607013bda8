//! WebP, PPM, QOI, SGI, XBM and DDS of one kind through the `image` crate and its extras.

use std::io::Cursor;

use ::image::codecs::pnm::PnmDecoder;
use ::image::codecs::qoi::QoiDecoder;
use ::image::codecs::webp::WebPDecoder;
use ::image::{DynamicImage, ExtendedColorType, ImageDecoder};
use image_extras::dds::DdsDecoder;
use image_extras::sgi::SgiDecoder;
use image_extras::xbm::XbmDecoder;

use super::limits::{Failure, Limits};
use crate::image::picture::{Mode, Picture};

pub(super) fn webp(bytes: &[u8], limits: Limits) -> Result<Picture, Failure> {
    // The decoder reads what is there; the file says how long it is.
    let length = bytes.get(4..8).and_then(|length| length.first_chunk());
    let length = length.map_or(0, |&length| u32::from_le_bytes(length) as usize);
    if bytes.len() < length.saturating_add(8) {
        return Err(Failure::Damaged("the file ends too early".to_owned()));
    }
    read(WebPDecoder::new(Cursor::new(bytes))?, limits)
}

pub(super) fn qoi(bytes: &[u8], limits: Limits) -> Result<Picture, Failure> {
    read(QoiDecoder::new(Cursor::new(bytes))?, limits)
}

pub(super) fn sgi(bytes: &[u8], limits: Limits) -> Result<Picture, Failure> {
    let mut picture = read(SgiDecoder::new(Cursor::new(bytes))?, limits)?;
    if picture.mode == Mode::I16 {
        // Pillow keeps the upper byte.
        let wide = picture.samples.as_chunks().0.iter();
        picture.samples = wide.map(|&[_, high]| high).collect();
        picture.mode = Mode::L;
    }
    Ok(picture)
}

/// Blocks that leave no choice of arithmetic.
pub(super) fn dds(bytes: &[u8], limits: Limits) -> Result<Picture, Failure> {
    read(DdsDecoder::new(Cursor::new(bytes))?, limits)
}

pub(super) fn xbm(bytes: &[u8], limits: Limits) -> Result<Picture, Failure> {
    let mut picture = read(XbmDecoder::new(Cursor::new(bytes))?, limits)?;
    // X11 paints the bits that are set in black; to Pillow they are white.
    picture.samples.iter_mut().for_each(|bit| *bit = !*bit);
    Ok(picture)
}

pub(super) fn pnm(bytes: &[u8], limits: Limits) -> Result<Picture, Failure> {
    if bytes.starts_with(b"Pf") {
        return float_map(bytes, limits);
    }
    let picture = read(PnmDecoder::new(Cursor::new(bytes))?, limits)?;
    if picture.mode != Mode::I16 {
        return Ok(picture);
    }
    // Pillow reads 16-bit PGM as 32-bit integers.
    let wide = picture.samples.as_chunks().0.iter();
    let samples = wide.flat_map(|&[low, high]| [low, high, 0, 0]).collect();
    Ok(Picture::new(
        picture.width,
        picture.height,
        Mode::I32,
        samples,
    ))
}

fn read(mut decoder: impl ImageDecoder, limits: Limits) -> Result<Picture, Failure> {
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    limits.check(width, height)?;
    let mut bounds = ::image::Limits::default();
    bounds.max_alloc = Some(limits.memory() as u64);
    decoder.set_limits(bounds)?;
    let is_bilevel = decoder.original_color_type() == ExtendedColorType::L1;
    let (mode, samples) = match DynamicImage::from_decoder(decoder)? {
        DynamicImage::ImageLuma8(image) if is_bilevel => (Mode::Bilevel, image.into_raw()),
        DynamicImage::ImageLuma8(image) => (Mode::L, image.into_raw()),
        DynamicImage::ImageLumaA8(image) => (Mode::La, image.into_raw()),
        DynamicImage::ImageRgb8(image) => (Mode::Rgb, image.into_raw()),
        DynamicImage::ImageRgba8(image) => (Mode::Rgba, image.into_raw()),
        DynamicImage::ImageLuma16(image) => {
            let samples = image.into_raw().into_iter().flat_map(u16::to_le_bytes);
            (Mode::I16, samples.collect())
        }
        DynamicImage::ImageLumaA16(image) => (Mode::La, high_bytes(&image)),
        DynamicImage::ImageRgb16(image) => (Mode::Rgb, high_bytes(&image)),
        DynamicImage::ImageRgba16(image) => (Mode::Rgba, high_bytes(&image)),
        other => {
            return Err(Failure::of(format!(
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

/// A PFM of one channel: text for its size and scale, then rows of floating-point numbers from bottom to top.
fn float_map(bytes: &[u8], limits: Limits) -> Result<Picture, Failure> {
    let mut rest = &bytes[2..];
    let mut word = || {
        let start = rest.iter().position(|byte| !byte.is_ascii_whitespace())?;
        let end = rest[start..].iter().position(u8::is_ascii_whitespace)? + start;
        let word = std::str::from_utf8(&rest[start..end]).ok()?;
        rest = &rest[end + 1..];
        Some(word)
    };
    let mut header = || {
        Some((
            word()?.parse().ok()?,
            word()?.parse().ok()?,
            word()?.parse().ok()?,
        ))
    };
    let (width, height, scale): (usize, usize, f32) =
        header().ok_or_else(|| Failure::of("a damaged header"))?;
    limits.check(width, height)?;
    let cut = || Failure::of("rows are missing");
    let rows = rest.get(..4 * width * height).ok_or_else(cut)?;
    let number = |&sample: &[u8; 4]| match scale < 0.0 {
        true => sample,
        false => f32::from_be_bytes(sample).to_le_bytes(),
    };
    let rows = rows.chunks_exact((4 * width).max(1)).rev();
    let samples = rows.flat_map(|row| row.as_chunks().0.iter().flat_map(number));
    Ok(Picture::new(width, height, Mode::F32, samples.collect()))
}
