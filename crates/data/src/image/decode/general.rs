//! WebP, BMP, TIFF and PPM through the `image` crate. Palettes of BMP and TIFF files are resolved on reading,
//! so such pictures are filtered where Pillow would pick nearest neighbours.

use std::io::Cursor;

use ::image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};

use super::{Failure, Limits, refuse};
use crate::image::picture::{Mode, Picture};

pub(super) fn decode(bytes: &[u8], format: ImageFormat, limits: Limits) -> Result<Picture, Failure> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut bounds = ::image::Limits::default();
    bounds.max_alloc = Some(limits.memory() as u64);
    reader.limits(bounds);
    let decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    refuse(limits.check(width, height))?;
    let is_bilevel = matches!(decoder.original_color_type(), ::image::ExtendedColorType::L1);
    let (mode, samples) = match DynamicImage::from_decoder(decoder)? {
        DynamicImage::ImageLuma8(image) if is_bilevel => (Mode::Bilevel, image.into_raw()),
        DynamicImage::ImageLuma8(image) => (Mode::L, image.into_raw()),
        DynamicImage::ImageLumaA8(image) => (Mode::La, image.into_raw()),
        DynamicImage::ImageRgb8(image) => (Mode::Rgb, image.into_raw()),
        DynamicImage::ImageRgba8(image) => (Mode::Rgba, image.into_raw()),
        DynamicImage::ImageLuma16(image) => {
            (Mode::I16, image.into_raw().into_iter().flat_map(u16::to_le_bytes).collect())
        }
        DynamicImage::ImageLumaA16(image) => (Mode::La, high_bytes(&image)),
        DynamicImage::ImageRgb16(image) => (Mode::Rgb, high_bytes(&image)),
        DynamicImage::ImageRgba16(image) => (Mode::Rgba, high_bytes(&image)),
        other => return Err(Failure::Damaged(format!("{:?} samples are not supported", other.color()))),
    };
    Ok(Picture::new(width, height, mode, samples))
}

fn high_bytes(samples: &[u16]) -> Vec<u8> {
    samples.iter().map(|sample| (sample >> 8) as u8).collect()
}
