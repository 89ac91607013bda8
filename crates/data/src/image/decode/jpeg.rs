//! JPEG, with the pixels of libjpeg-turbo's defaults (accurate integer DCT, smooth chroma), as Pillow's.

use libjpeg_turbo_rs::{ColorSpace, DecodeLimits, Decoder, PixelFormat};

use super::limits::{Failure, Limits};
use crate::image::picture::{Mode, Picture};

pub(super) fn decode(bytes: &[u8], limits: Limits) -> Result<Picture, Failure> {
    // Without its last marker a file is cut off, even where the pixels are all there; so says Pillow.
    if !bytes.windows(2).rev().any(|pair| pair == [0xff, 0xd9]) {
        return Err(Failure::Damaged(
            "the file ends before its end marker".to_owned(),
        ));
    }
    let bounds = DecodeLimits {
        max_memory: Some(limits.memory() as u64),
        ..DecodeLimits::default()
    };
    let mut decoder = Decoder::new_with_limits(bytes, bounds)?;
    let (width, height) = (decoder.header().width(), decoder.header().height());
    limits.check(width, height)?;
    let (format, mode) = match decoder.jpeg_color_space() {
        ColorSpace::Grayscale => (PixelFormat::Grayscale, Mode::L),
        ColorSpace::Cmyk | ColorSpace::Ycck => (PixelFormat::Cmyk, Mode::Cmyk),
        _ => (PixelFormat::Rgb, Mode::Rgb),
    };
    decoder.set_output_format(format);
    let mut samples = decoder.decode_image()?.into_vec();
    if mode == Mode::Cmyk {
        // Pillow takes every CMYK JPEG for one of Adobe's, which store 0 for full ink.
        samples.iter_mut().for_each(|ink| *ink = !*ink);
    }
    Ok(Picture::new(width, height, mode, samples))
}
