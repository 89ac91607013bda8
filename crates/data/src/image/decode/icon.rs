//! ICO, CUR, and the bitmaps without a file header that they hold.

use super::general;
use super::limits::{Failure, Limits};
use super::png;
use crate::image::picture::{Mode, Picture};

const FILE_HEADER: usize = 14;
const ENTRY: usize = 16;

struct Entry {
    width: usize,
    height: usize,
    bits: u16,
    size: usize,
    offset: usize,
}

/// The largest picture; of equal ones that with the fewest colours, as Pillow.
pub(super) fn decode(bytes: &[u8], limits: Limits) -> Result<Picture, Failure> {
    let is_cursor = bytes.get(2) == Some(&2);
    let count = usize::from(short(bytes, 4).unwrap_or(0));
    let entries = bytes
        .get(6..)
        .unwrap_or_default()
        .chunks_exact(ENTRY)
        .take(count);
    let side = |byte: u8| if byte == 0 { 256 } else { usize::from(byte) };
    let entries = entries.filter_map(|entry| {
        let depth = match (short(entry, 6)?, entry[2]) {
            (0, 0) => 256,
            (0, colors) => u16::from(colors).next_power_of_two().trailing_zeros() as u16,
            (bits, _) => bits,
        };
        let found = Entry {
            width: side(entry[0]),
            height: side(entry[1]),
            bits: short(entry, 6)?,
            size: long(entry, 8)?,
            offset: long(entry, 12)?,
        };
        Some((depth, found))
    });
    let best = entries.min_by_key(|(depth, entry)| {
        let depth = if is_cursor { 0 } else { *depth };
        (std::cmp::Reverse(entry.width * entry.height), depth)
    });
    let (_, entry) = best.ok_or_else(|| Failure::of("no picture in it"))?;
    let data = bytes.get(entry.offset..).unwrap_or_default();
    if data.starts_with(b"\x89PNG\r\n\x1a\n") {
        return png::decode(data, limits);
    }
    let bitmap = bitmap(data, true, limits)?;
    // Pillow leaves a cursor's mask alone.
    if is_cursor {
        return Ok(bitmap);
    }
    let (width, height) = (bitmap.width, bitmap.height);
    let alpha = if entry.bits == 32 {
        let start = pixels_at(data).ok_or_else(|| Failure::of("a damaged header"))?;
        let pixels = data.get(start..start.saturating_add(4 * width * height));
        let pixels = pixels.ok_or_else(|| Failure::of("its alpha is cut off"))?;
        upright(
            &pixels
                .iter()
                .skip(3)
                .step_by(4)
                .copied()
                .collect::<Vec<_>>(),
            width,
        )
    } else {
        let line = width.div_ceil(32) * 4;
        let end = entry.offset.saturating_add(entry.size);
        let mask = end
            .checked_sub(line * height)
            .and_then(|start| bytes.get(start..end));
        let mask = mask.ok_or_else(|| Failure::of("its mask is cut off"))?;
        let mut opaque = super::bits::unpack(mask, line, width, 1);
        opaque
            .iter_mut()
            .for_each(|bit| *bit = if *bit == 0 { 255 } else { 0 });
        upright(&opaque, width)
    };
    let colors = bitmap.into_rgb();
    let pixels = colors.samples.as_chunks::<3>().0.iter().zip(alpha);
    let samples = pixels.flat_map(|(&[r, g, b], a)| [r, g, b, a]).collect();
    Ok(Picture::new(width, height, Mode::Rgba, samples))
}

/// A bitmap that begins with its information header.
pub(super) fn decode_dib(bytes: &[u8], limits: Limits) -> Result<Picture, Failure> {
    bitmap(bytes, false, limits)
}

/// Whether the fields of an information header make sense.
pub(super) fn is_dib(bytes: &[u8]) -> bool {
    let (planes, bits) = match bytes.first() {
        Some(12) => (short(bytes, 8), short(bytes, 10)),
        _ => (short(bytes, 12), short(bytes, 14)),
    };
    planes == Some(1) && matches!(bits, Some(1 | 2 | 4 | 8 | 16 | 24 | 32))
}

fn bitmap(data: &[u8], has_mask: bool, limits: Limits) -> Result<Picture, Failure> {
    let damaged = || Failure::of("a damaged header");
    let start = pixels_at(data).ok_or_else(damaged)?;
    let mut file = Vec::with_capacity(FILE_HEADER + data.len());
    file.extend_from_slice(b"BM");
    file.extend((FILE_HEADER as u32 + data.len() as u32).to_le_bytes());
    file.extend([0; 4]);
    file.extend((FILE_HEADER as u32 + start as u32).to_le_bytes());
    file.extend_from_slice(data);
    if has_mask {
        // The height counts the mask as well.
        let at = FILE_HEADER + 8;
        let height = long(&file, at).ok_or_else(damaged)? as u32 as i32 / 2;
        file[at..at + 4].copy_from_slice(&height.to_le_bytes());
    }
    general::bmp(&file, limits)
}

/// Where the pixels begin: behind header, masks of colours, and palette.
fn pixels_at(data: &[u8]) -> Option<usize> {
    let header = long(data, 0)?;
    if header == 12 {
        let bits = short(data, 10)?;
        return Some(header + if bits <= 8 { 3 << bits } else { 0 });
    }
    let (bits, compression, used) = (short(data, 14)?, long(data, 16)?, long(data, 32)?);
    let masks = if header == 40 && compression == 3 {
        12
    } else {
        0
    };
    let colors = match (bits, used) {
        (..=8, 0) => 1 << bits,
        (..=8, used) => used.min(256),
        _ => 0,
    };
    (header <= 1024).then_some(header + masks + 4 * colors)
}

fn upright(samples: &[u8], width: usize) -> Vec<u8> {
    samples
        .chunks_exact(width.max(1))
        .rev()
        .flatten()
        .copied()
        .collect()
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn long(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize)
}
