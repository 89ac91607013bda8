//! JPEG 2000, as a file or as a bare codestream.

use hayro_jpeg2000::{ComponentData, DecodeSettings, DecoderContext, Image};

use super::baseline::check_end_marker;
use super::limits::{Failure, Limits};
use crate::image::picture::{Mode, Picture};

/// Codes of the box `colr`.
const CMYK: u32 = 12;

pub(super) fn decode(bytes: &[u8], limits: Limits) -> Result<Picture, Failure> {
    let settings = DecodeSettings {
        resolve_palette_indices: false,
        ..DecodeSettings::default()
    };
    let image = Image::new(bytes, &settings)?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    limits.check(width, height)?;
    // No marker can stand in the coded data, so that the last one is missing where the file was cut off.
    check_end_marker(bytes)?;
    let header = header_boxes(bytes);
    let mut context = DecoderContext::default();
    let decoded = image.decode(&mut context)?;
    let channels = decoded.components();
    if channels
        .iter()
        .any(|channel| channel.samples().len() != width * height)
    {
        return Err(Failure::of("channels of several sizes"));
    }
    let interleave = |count: usize| -> Vec<u8> {
        let mut samples = vec![0; count * width * height];
        for (channel, plane) in channels.iter().take(count).enumerate() {
            let places = samples.iter_mut().skip(channel).step_by(count);
            for (place, sample) in places.zip(in_8_bits(plane)) {
                *place = sample;
            }
        }
        samples
    };
    let (mode, count) = match (channels, header.color) {
        ([indices, ..], _) if let Some(colors) = &header.palette => {
            let indices = indices
                .samples()
                .iter()
                .map(|&index| index.round() as u8)
                .collect();
            return Ok(Picture::indexed(width, height, indices, colors));
        }
        ([grey], _) if grey.bit_depth() > 8 => {
            let shift = 16_u8.saturating_sub(grey.bit_depth());
            let wide = grey
                .samples()
                .iter()
                .map(|&sample| (sample.round() as u16) << shift);
            let samples = wide.flat_map(u16::to_le_bytes).collect();
            return Ok(Picture::new(width, height, Mode::I16, samples));
        }
        ([_], _) => (Mode::L, 1),
        ([_, _], _) => (Mode::La, 2),
        ([_, _, _], _) => (Mode::Rgb, 3),
        ([_, _, _, _], Some(CMYK)) => (Mode::Cmyk, 4),
        ([_, _, _, _], _) => (Mode::Rgba, 4),
        _ => {
            return Err(Failure::of(format!(
                "{} channels are not supported",
                channels.len()
            )));
        }
    };
    Ok(Picture::new(width, height, mode, interleave(count)))
}

/// Pillow shifts samples of more than 8 bits down, with rounding, and those of fewer bits up.
fn in_8_bits(plane: &ComponentData) -> impl Iterator<Item = u8> {
    let depth = u32::from(plane.bit_depth());
    let (down, up) = (depth.saturating_sub(8), 8_u32.saturating_sub(depth));
    let half = if down > 0 { 1 << (down - 1) } else { 0 };
    plane
        .samples()
        .iter()
        .map(move |&sample| (((sample.round() as i64 + half) >> down) << up).clamp(0, 255) as u8)
}

/// What the boxes say about colours.
#[derive(Default)]
struct Header {
    color: Option<u32>,
    /// RGB, one entry after the other.
    palette: Option<Vec<u8>>,
}

fn header_boxes(bytes: &[u8]) -> Header {
    let mut header = Header::default();
    let inner = boxes(bytes).find(|(kind, _)| *kind == b"jp2h");
    for (kind, body) in boxes(inner.map_or(&[], |(_, body)| body)) {
        match (kind, body) {
            (b"colr", [1, _, _, code @ ..]) => {
                header.color = code.first_chunk().map(|&code| u32::from_be_bytes(code));
            }
            (b"pclr", &[high, low, columns, ref rest @ ..]) => {
                let columns = usize::from(columns);
                let count = usize::from(u16::from_be_bytes([high, low]));
                let depths = rest.get(..columns).unwrap_or_default();
                let entries = rest.get(columns..).unwrap_or_default();
                if columns > 0 && depths.iter().all(|depth| depth & 0x7f < 8) {
                    let colors = entries.chunks_exact(columns).take(count);
                    let color = |entry: &[u8]| match *entry {
                        [r, g, b, ..] => [r, g, b],
                        _ => [entry[0]; 3],
                    };
                    header.palette = Some(colors.flat_map(color).collect());
                }
            }
            _ => {}
        }
    }
    header
}

/// Kind and content of the boxes that follow each other in `bytes`.
fn boxes(mut bytes: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let (&length, rest) = bytes.split_first_chunk::<4>()?;
        let (kind, rest) = rest.split_first_chunk::<4>()?;
        let (length, rest) = match u32::from_be_bytes(length) {
            0 => (rest.len(), rest),
            1 => {
                let (&length, rest) = rest.split_first_chunk()?;
                (
                    usize::try_from(u64::from_be_bytes(length))
                        .ok()?
                        .checked_sub(16)?,
                    rest,
                )
            }
            length => (length.checked_sub(8)? as usize, rest),
        };
        let (body, next) = rest.split_at(length.min(rest.len()));
        bytes = next;
        Some((kind, body))
    })
}
