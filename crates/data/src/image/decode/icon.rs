//! ICO and CUR.

use super::bits::{unpack, upright};
use super::bmp::{self, Holder, long, short};
use super::limits::{Failure, Limits};
use super::png;
use crate::image::picture::{Mode, Picture};

const FILE_HEADER: usize = 6;
const ENTRY: usize = 16;

#[derive(Clone, Copy)]
struct Entry {
    width: usize,
    height: usize,
    /// Bits of a pixel as the entry has it, and as it orders pictures of one size.
    bits: usize,
    depth: usize,
    size: usize,
    offset: usize,
}

impl Entry {
    fn read(bytes: &[u8]) -> Option<Self> {
        let side = |at: usize| match bytes[at] {
            0 => 256,
            side => usize::from(side),
        };
        let bits = short(bytes, 6)?;
        Some(Self {
            width: side(0),
            height: side(1),
            bits,
            depth: match (bits, usize::from(bytes[2])) {
                (0, 0 | 1) => 256,
                (0, colors) => colors.next_power_of_two().trailing_zeros() as usize,
                (bits, _) => bits,
            },
            size: long(bytes, 8)?,
            offset: long(bytes, 12)?,
        })
    }
}

/// The largest picture; of equal ones that with the fewest colours, as Pillow.
pub(super) fn decode(bytes: &[u8], limits: Limits) -> Result<Picture, Failure> {
    let is_cursor = bytes.get(2) == Some(&2);
    let count = short(bytes, 4).unwrap_or(0);
    let entries = bytes.get(FILE_HEADER..).unwrap_or_default();
    let entries = entries
        .chunks_exact(ENTRY)
        .take(count)
        .filter_map(Entry::read);
    let best = if is_cursor {
        entries.reduce(|best, entry| {
            let is_larger = entry.width > best.width && entry.height > best.height;
            if is_larger { entry } else { best }
        })
    } else {
        entries.min_by_key(|entry| (std::cmp::Reverse(entry.width * entry.height), entry.depth))
    };
    let entry = best.ok_or_else(|| Failure::of("no picture in it"))?;
    let data = bytes.get(entry.offset..).unwrap_or_default();
    if is_cursor {
        return cursor(data, entry, limits);
    }
    if data.starts_with(b"\x89PNG\r\n\x1a\n") {
        return png::decode(data, limits);
    }
    let has_alpha = entry.bits == 32;
    let bitmap = bmp::decode_bare(data, Holder::Icon { has_alpha }, limits)?;
    if has_alpha && bitmap.mode == Mode::Rgba {
        return Ok(bitmap);
    }
    let (width, height) = (bitmap.width, bitmap.height);
    let line = width.div_ceil(32) * 4;
    let end = entry.offset.saturating_add(entry.size);
    let mask = end
        .checked_sub(line * height)
        .and_then(|start| bytes.get(start..end));
    let mask = mask.ok_or_else(|| Failure::of("its mask is cut off"))?;
    let mask = upright(&unpack(mask, line, width, 1), width, false);
    let colors = bitmap.into_rgb();
    let pixels = colors.samples.as_chunks::<3>().0.iter().zip(mask);
    let samples = pixels.flat_map(|(&[r, g, b], hidden)| [r, g, b, 255 * (1 - hidden)]);
    Ok(Picture::new(width, height, Mode::Rgba, samples.collect()))
}

/// Pillow heeds the mask of black and white alone, and alpha where the bitmap follows upon a single entry.
fn cursor(data: &[u8], entry: Entry, limits: Limits) -> Result<Picture, Failure> {
    let has_alpha = entry.offset == FILE_HEADER + ENTRY;
    let bitmap = bmp::decode_bare(data, Holder::Icon { has_alpha }, limits)?;
    if bitmap.mode != Mode::Bilevel {
        return Ok(bitmap);
    }
    let both = bmp::decode_bare(data, Holder::None, limits)?;
    let (mask, colors) = both.samples.split_at(bitmap.samples.len());
    let pixels = mask.iter().zip(colors);
    let samples = pixels.flat_map(|(&hidden, &grey)| match hidden {
        0 => [grey, 255],
        _ => [0, 0],
    });
    Ok(Picture::new(
        bitmap.width,
        bitmap.height,
        Mode::La,
        samples.collect(),
    ))
}
