//! TGA, with Pillow's modes. The format has no mark at its beginning: [`is_tga`] asks every field of the header.

use super::bits::{unpack, upright};
use super::limits::{Failure, Limits};
use crate::image::picture::{Mode, Picture};

const HEADER: usize = 18;
const FOOTER: &[u8] = b"TRUEVISION-XFILE.\0";

struct Header {
    width: usize,
    height: usize,
    mode: Mode,
    /// Bits of a pixel in the file.
    depth: usize,
    is_packed: bool,
    is_mirrored: bool,
    is_top_down: bool,
    /// Entries of the palette that the file leaves out, those it has, and bytes of one.
    map: (usize, usize, usize),
    map_at: usize,
    pixels_at: usize,
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let head: &[u8; HEADER] = bytes.first_chunk()?;
        let short = |at: usize| usize::from(u16::from_le_bytes([head[at], head[at + 1]]));
        let (has_map, kind, depth, flags) = (head[1] == 1, head[2], head[16], head[17]);
        let (mode, map_is_needed) = match (kind & 7, depth) {
            (1, 8) if has_map => (Mode::Palette, true),
            (3, 1) => (Mode::Bilevel, false),
            (3, 8) => (Mode::L, false),
            (3, 16) => (Mode::La, false),
            (2, 24) => (Mode::Rgb, false),
            (2, 16 | 32) => (Mode::Rgba, false),
            _ => return None,
        };
        let map_bits = if has_map { head[7] } else { 0 };
        let is_whole = head[1] <= 1
            && kind & !0x0f == 0
            && matches!(kind & 8, 0 | 8)
            && matches!(flags & 0x0f, 0 | 1 | 8)
            && flags & 0xc0 == 0
            && (!has_map || matches!(map_bits, 15 | 16 | 24 | 32))
            && (!map_is_needed || short(5) > 0);
        let (width, height) = (short(12), short(14));
        if !is_whole || width == 0 || height == 0 {
            return None;
        }
        let map = if has_map {
            (short(3), short(5), usize::from(map_bits).div_ceil(8))
        } else {
            (0, 0, 0)
        };
        let map_at = HEADER + usize::from(head[0]);
        Some(Self {
            width,
            height,
            mode,
            depth: usize::from(depth),
            is_packed: kind & 8 != 0,
            is_mirrored: flags & 0x10 != 0,
            is_top_down: flags & 0x20 != 0,
            map,
            map_at,
            pixels_at: map_at + map.1 * map.2,
        })
    }

    /// Bytes of a row in the file.
    fn line(&self) -> usize {
        (self.width * self.depth).div_ceil(8)
    }
}

/// Whether every field of the header makes sense and the file is as long as it has to be.
pub(super) fn is_tga(bytes: &[u8]) -> bool {
    let Some(header) = Header::parse(bytes) else {
        return false;
    };
    let pixels = header.width * header.height;
    let least = match header.is_packed {
        true => pixels.div_ceil(128) * (1 + header.depth.div_ceil(8)),
        false => header.line() * header.height,
    };
    bytes.len() >= header.pixels_at.saturating_add(least) || bytes.ends_with(FOOTER)
}

pub(super) fn decode(bytes: &[u8], limits: Limits) -> Result<Picture, Failure> {
    let header = Header::parse(bytes).ok_or_else(|| Failure::of("a damaged header"))?;
    let (width, height) = (header.width, header.height);
    limits.check(width, height)?;
    let data = bytes.get(header.pixels_at..).unwrap_or_default();
    let size = header.line() * height;
    let pixel = header.depth.div_ceil(8);
    let rows = match header.is_packed {
        true => unpacked(data, size, pixel)?,
        false => data
            .get(..size)
            .ok_or_else(|| Failure::of("rows are missing"))?
            .to_vec(),
    };
    let rows = in_order(rows, header.line(), pixel, &header);
    let samples = match (header.mode, header.depth) {
        (Mode::Bilevel, _) => {
            let mut bits = unpack(&rows, header.line(), width, 1);
            bits.iter_mut().for_each(|bit| *bit *= 255);
            if header.is_mirrored {
                bits.chunks_exact_mut(width).for_each(<[u8]>::reverse);
            }
            bits
        }
        (Mode::Rgb, _) => rows
            .as_chunks()
            .0
            .iter()
            .flat_map(|&[b, g, r]| [r, g, b])
            .collect(),
        (Mode::Rgba, 16) => rows
            .as_chunks()
            .0
            .iter()
            .copied()
            .flat_map(from_15_bits)
            .collect(),
        (Mode::Rgba, _) => {
            let opaque = has_no_alpha(bytes);
            let turned = |&[b, g, r, a]: &[u8; 4]| [r, g, b, if opaque { 255 } else { a }];
            rows.as_chunks().0.iter().flat_map(turned).collect()
        }
        _ => rows,
    };
    if header.mode != Mode::Palette {
        return Ok(Picture::new(width, height, header.mode, samples));
    }
    let (first, count, entry) = header.map;
    let map = bytes.get(header.map_at..header.map_at + count * entry);
    let map = map.ok_or_else(|| Failure::of("its palette is cut off"))?;
    let mut colors = vec![0; 3 * first];
    for color in map.chunks_exact(entry) {
        match *color {
            [low, high] => colors.extend_from_slice(&from_15_bits([low, high])[..3]),
            [b, g, r, ..] => colors.extend_from_slice(&[r, g, b]),
            _ => {}
        }
    }
    Ok(Picture::indexed(width, height, samples, &colors))
}

/// Five bits a colour. The highest bit is set where the pixel is transparent.
fn from_15_bits([low, high]: [u8; 2]) -> [u8; 4] {
    let pixel = u32::from(u16::from_le_bytes([low, high]));
    let color = |shift: u32| ((pixel >> shift & 31) * 255 / 31) as u8;
    [
        color(10),
        color(5),
        color(0),
        if pixel >> 15 == 0 { 255 } else { 0 },
    ]
}

/// The extension at the end of the file can say that the fourth channel is no alpha.
fn has_no_alpha(bytes: &[u8]) -> bool {
    let attributes = || {
        let footer = bytes.len().checked_sub(26)?;
        let at = u32::from_le_bytes(*bytes[footer..].first_chunk()?) as usize;
        (at > 0).then(|| bytes.get(at.checked_add(494)?).copied())?
    };
    bytes.ends_with(FOOTER) && attributes() == Some(0)
}

/// Undoes the run lengths, up to `size` bytes.
fn unpacked(data: &[u8], size: usize, pixel: usize) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::with_capacity(size.min(data.len().saturating_mul(128)));
    let mut rest = data;
    while out.len() < size {
        let cut = || Failure::of("rows are missing");
        let (&packet, tail) = rest.split_first().ok_or_else(cut)?;
        let count = usize::from(packet & 0x7f) + 1;
        let stored = if packet & 0x80 != 0 {
            pixel
        } else {
            count * pixel
        };
        let (pixels, tail) = tail.split_at_checked(stored).ok_or_else(cut)?;
        for _ in 0..count * pixel / stored {
            out.extend_from_slice(pixels);
        }
        rest = tail;
    }
    out.truncate(size);
    Ok(out)
}

/// Rows from top to bottom, pixels from left to right.
fn in_order(mut rows: Vec<u8>, line: usize, pixel: usize, header: &Header) -> Vec<u8> {
    if header.is_mirrored && header.depth >= 8 {
        for row in rows.chunks_exact_mut(line) {
            row.reverse();
            row.chunks_exact_mut(pixel).for_each(<[u8]>::reverse);
        }
    }
    upright(&rows, line, header.is_top_down)
}

#[cfg(test)]
mod tests {
    use super::is_tga;

    #[test]
    fn nothing_else_is_taken_for_tga() {
        let mut file = vec![0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 24, 0x20];
        assert!(!is_tga(&file), "its pixels are missing");
        file.extend([1, 2, 3, 4, 5, 6]);
        assert!(is_tga(&file));
        for (at, value) in [(1, 2), (2, 4), (12, 0), (16, 23), (17, 0x60), (17, 7)] {
            let mut other = file.clone();
            other[at] = value;
            assert!(!is_tga(&other), "byte {at} is {value}");
        }
        let mut state = 7_u32;
        for length in [30, 500, 70_000] {
            for _ in 0..200 {
                let noise = (0..length).map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                });
                assert!(!is_tga(&noise.collect::<Vec<_>>()));
            }
        }
    }
}
