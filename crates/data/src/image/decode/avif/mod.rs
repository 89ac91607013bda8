//! AVIF: the container by `zenavif-parse`, the pictures by `re_rav1d`, the colours by [`yuv`].
//!
//! Rotation, mirroring and clean aperture are left alone, as Pillow does.

mod frame;
mod yuv;

use zenavif_parse::{AvifParser, ColorInformation, DecodeConfig, Unstoppable};

use self::frame::{Frame, Layout};
use super::limits::{Failure, Limits};
use crate::image::picture::{Mode, Picture};

const BRANDS: [&[u8; 4]; 2] = [b"avif", b"avis"];

/// Whether a file of the ISO base media format names AVIF among its brands.
pub(super) fn is_avif(bytes: &[u8]) -> bool {
    let is_brand = |brand: &[u8]| BRANDS.iter().any(|name| *name == brand);
    let Some(&length) = bytes.first_chunk() else {
        return false;
    };
    let end = (u32::from_be_bytes(length) as usize)
        .clamp(12, 256)
        .min(bytes.len());
    match bytes.get(8..12) {
        Some(major) if is_brand(major) => true,
        Some(b"mif1" | b"msf1") => bytes[12..end].chunks_exact(4).any(is_brand),
        _ => false,
    }
}

pub(super) fn decode(bytes: &[u8], limits: Limits) -> Result<Picture, Failure> {
    // The parser knows the format by its first brand alone.
    let renamed = (!BRANDS.iter().any(|brand| bytes[8..].starts_with(*brand))).then(|| {
        let mut renamed = bytes.to_vec();
        renamed[8..12].copy_from_slice(b"avif");
        renamed
    });
    let bytes = renamed.as_deref().unwrap_or(bytes);
    let config = DecodeConfig::unlimited()
        .with_max_grid_tiles(1 << 12)
        .lenient(true);
    let file = AvifParser::from_bytes_with_config(bytes, &config, &Unstoppable)?;
    let is_sequence = bytes[8..].starts_with(b"avis") && file.animation_info().is_some();
    let (mut color, alpha) = if is_sequence {
        let first = file.frame(0)?;
        let alpha = first
            .alpha_data
            .map(|data| Frame::decode(&data, limits))
            .transpose()?;
        (Frame::decode(&first.data, limits)?, alpha)
    } else if let Some(grid) = file.grid_config() {
        let (width, height) = (grid.output_width as usize, grid.output_height as usize);
        limits.check(width, height)?;
        if file.alpha_data().is_some() {
            return Err(Failure::of("a grid of tiles with alpha is not supported"));
        }
        let tiles = (0..file.grid_tile_count()).map(|index| {
            let data = file.tile_data(index)?;
            Frame::decode(&data, limits)
        });
        let tiles = tiles.collect::<Result<Vec<_>, Failure>>()?;
        let columns = usize::from(grid.columns);
        (Frame::of_tiles(&tiles, columns, (width, height))?, None)
    } else {
        let alpha = file.alpha_data().transpose()?;
        let alpha = alpha.map(|data| Frame::decode(&data, limits)).transpose()?;
        (Frame::decode(&file.primary_data()?, limits)?, alpha)
    };
    // The container's word counts for more than the stream's.
    if let Some(ColorInformation::Nclx {
        matrix_coefficients,
        full_range,
        ..
    }) = file.color_info()
    {
        color.matrix = *matrix_coefficients;
        color.is_full_range = *full_range;
    }
    picture(&color, alpha.as_ref(), file.premultiplied_alpha())
}

fn picture(
    color: &Frame,
    alpha: Option<&Frame>,
    is_premultiplied: bool,
) -> Result<Picture, Failure> {
    let (width, height) = (color.width, color.height);
    let Some(alpha) = alpha else {
        return Ok(match color.layout {
            Layout::Grey => Picture::new(width, height, Mode::L, yuv::luma(color)),
            _ => Picture::new(width, height, Mode::Rgb, yuv::rgb(color)?),
        });
    };
    if (alpha.width, alpha.height) != (width, height) {
        return Err(Failure::of("its alpha has another size"));
    }
    let alpha = yuv::luma(alpha);
    // Grey with alpha as well.
    let samples = yuv::rgb(color)?;
    let mut out = Vec::with_capacity(4 * width * height);
    for (pixel, &alpha) in samples.chunks_exact(3).zip(&alpha) {
        out.extend(pixel.iter().map(|&sample| match is_premultiplied {
            true => yuv::divided_by_alpha(sample, alpha),
            false => sample,
        }));
        out.push(alpha);
    }
    Ok(Picture::new(width, height, Mode::Rgba, out))
}
