//! JPEG, with the pixels of libjpeg-turbo's defaults (accurate integer DCT, smooth chroma), as Pillow's.

use libjpeg_turbo_rs::{ColorSpace, ComponentInfo, DecodeLimits, Decoder, PixelFormat};

use super::baseline::{Baseline, check_end_marker, with_room};
use super::limits::{Failure, Limits};
use super::upsample::Plane;
use crate::image::picture::{Mode, Picture};

pub(super) fn decode(bytes: &[u8], limits: Limits) -> Result<Picture, Failure> {
    if let Some(jpeg) = Baseline::open(bytes, limits)?
        && let Some(picture) = with_room(|room| jpeg.picture(room))
    {
        return Ok(picture);
    }
    // Without its last marker a file is cut off, even where the pixels are all there; so says Pillow.
    check_end_marker(bytes)?;
    let mut decoder = open(bytes, limits)?;
    let (width, height) = (decoder.header().width(), decoder.header().height());
    let (format, mode) = match decoder.jpeg_color_space() {
        ColorSpace::Grayscale => (PixelFormat::Grayscale, Mode::L),
        ColorSpace::Cmyk | ColorSpace::Ycck => (PixelFormat::Cmyk, Mode::Cmyk),
        _ => (PixelFormat::Rgb, Mode::Rgb),
    };
    decoder.set_output_format(format);
    let components = &decoder.header().components;
    let is_subsampled = components
        .windows(2)
        .any(|pair| factors_of(&pair[0]) != factors_of(&pair[1]));
    let mut samples = match mode == Mode::Cmyk && is_subsampled {
        // The decoder takes four planes for planes of one size.
        true => four_planes(decoder)?,
        false => decoder.decode_image()?.into_vec(),
    };
    if mode == Mode::Cmyk {
        // Pillow takes every CMYK JPEG for one of Adobe's, which store 0 for full ink.
        samples.iter_mut().for_each(|ink| *ink = !*ink);
    }
    Ok(Picture::new(width, height, mode, samples))
}

/// Reads the header of a file, or of a part of a TIFF.
pub(super) fn open(bytes: &[u8], limits: Limits) -> Result<Decoder<'_>, Failure> {
    let bounds = DecodeLimits {
        max_memory: Some(limits.memory() as u64),
        ..DecodeLimits::default()
    };
    let decoder = Decoder::new_with_limits(bytes, bounds)?;
    limits.check(decoder.header().width(), decoder.header().height())?;
    Ok(decoder)
}

fn factors_of(component: &ComponentInfo) -> (usize, usize) {
    let (across, down) = (component.horizontal_sampling, component.vertical_sampling);
    (usize::from(across).max(1), usize::from(down).max(1))
}

/// Samples of a CMYK picture, as they are stored, whose planes differ in size.
fn four_planes(decoder: Decoder<'_>) -> Result<Vec<u8>, Failure> {
    let (width, height) = (decoder.header().width(), decoder.header().height());
    let factors = decoder.header().components.iter().map(factors_of);
    let factors: Vec<_> = factors.collect();
    let most_across = factors.iter().map(|(across, _)| *across).max().unwrap_or(1);
    let most_down = factors.iter().map(|(_, down)| *down).max().unwrap_or(1);
    let is_ycck = decoder.jpeg_color_space() == ColorSpace::Ycck;
    let raw = decoder.decode_raw()?;
    let mut planes = Vec::with_capacity(4);
    for (index, (across, down)) in factors.into_iter().enumerate() {
        let plane = Plane {
            samples: &raw.planes[index],
            stride: raw.plane_widths[index],
            width: (width * across).div_ceil(most_across),
            height: (height * down).div_ceil(most_down),
        };
        if most_across % across != 0 || most_down % down != 0 {
            return Err(Failure::of(
                "planes whose sizes are no multiples of each other",
            ));
        }
        planes.push(plane.upsampled(most_across / across, most_down / down, width, height));
    }
    let [c, m, y, k] = planes
        .try_into()
        .map_err(|_| Failure::of("CMYK without four planes"))?;
    let inks = c.iter().zip(&m).zip(&y).zip(&k);
    let samples = inks.flat_map(|(((&c, &m), &y), &k)| match is_ycck {
        true => {
            let [r, g, b] = rgb([c, m, y]);
            [!r, !g, !b, k]
        }
        false => [c, m, y, k],
    });
    Ok(samples.collect())
}

/// YCbCr of full range to RGB, in libjpeg's arithmetic.
fn rgb([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let half = 1 << 15;
    let shifts = [
        (91881 * cr + half) >> 16,
        (-22554 * cb - 46802 * cr + half) >> 16,
        (116_130 * cb + half) >> 16,
    ];
    shifts.map(|shift| (y + shift).clamp(0, 255) as u8)
}
