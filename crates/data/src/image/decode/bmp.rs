//! BMP, and the bitmaps without a file header that ICO and CUR hold.

use super::bits::{unpack, upright};
use super::limits::{Failure, Limits};
use crate::image::picture::{Mode, Picture};

const FILE_HEADER: usize = 14;

/// Compressions, by BMP's numbers.
mod compression {
    pub(super) const NONE: usize = 0;
    pub(super) const RUNS_OF_BYTES: usize = 1;
    pub(super) const RUNS_OF_NIBBLES: usize = 2;
    pub(super) const MASKS: usize = 3;
}

/// The masks of 32 bits that Pillow reads, with the bytes of red, green, blue, and alpha where there is one.
const MASKS: [([usize; 4], &[usize]); 8] = [
    ([0xff_0000, 0xff00, 0xff, 0], &[2, 1, 0]),
    ([0xff00_0000, 0xff_0000, 0xff00, 0], &[3, 2, 1]),
    ([0xff00_0000, 0xff00, 0xff, 0], &[3, 1, 0]),
    ([0xff00_0000, 0xff_0000, 0xff00, 0xff], &[3, 2, 1, 0]),
    ([0xff, 0xff00, 0xff_0000, 0xff00_0000], &[0, 1, 2, 3]),
    ([0xff_0000, 0xff00, 0xff, 0xff00_0000], &[2, 1, 0, 3]),
    ([0xff00_0000, 0xff00, 0xff, 0xff_0000], &[3, 1, 0, 2]),
    ([0; 4], &[2, 1, 0, 3]),
];

/// What holds a bitmap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    /// Nothing, or a file's header.
    None,
    /// An icon or a cursor: the height counts a mask as well, and of 32 bits the last 8 may be alpha.
    Icon { has_alpha: bool },
}

/// A file with its header.
pub(super) fn decode(bytes: &[u8], limits: Limits) -> Result<Picture, Failure> {
    let data = bytes.get(FILE_HEADER..).unwrap_or_default();
    let start = long(bytes, 10).unwrap_or(0);
    bitmap(data, start.checked_sub(FILE_HEADER), Holder::None, limits)
}

/// A bitmap that begins with its information header.
pub(super) fn decode_bare(data: &[u8], holder: Holder, limits: Limits) -> Result<Picture, Failure> {
    bitmap(data, None, holder, limits)
}

/// Whether the fields of an information header make sense.
pub(super) fn is_bare(bytes: &[u8]) -> bool {
    let at = if bytes.first() == Some(&12) { 8 } else { 12 };
    short(bytes, at) == Some(1)
        && matches!(short(bytes, at + 2), Some(1 | 2 | 4 | 8 | 16 | 24 | 32))
}

struct Header {
    width: usize,
    height: usize,
    is_top_down: bool,
    bits: usize,
    compression: usize,
    masks: [usize; 4],
    /// Entries of the palette, and where they are.
    colors: usize,
    entry: usize,
    palette: usize,
}

impl Header {
    fn read(data: &[u8]) -> Option<Self> {
        let length = long(data, 0)?;
        if length == 12 {
            let bits = short(data, 10)?;
            return Some(Self {
                width: short(data, 4)?,
                height: short(data, 6)?,
                is_top_down: false,
                bits,
                compression: compression::NONE,
                masks: [0; 4],
                colors: if bits <= 8 { 1 << bits } else { 0 },
                entry: 3,
                palette: length,
            });
        }
        if !matches!(length, 40 | 52 | 56 | 64 | 108 | 124) {
            return None;
        }
        let height = long(data, 8)? as u32 as i32;
        let (bits, compression) = (short(data, 14)?, long(data, 16)?);
        let has_masks = compression == compression::MASKS;
        let mask = |at| if has_masks { long(data, at) } else { Some(0) };
        let alpha = if length >= 56 { mask(52)? } else { 0 };
        Some(Self {
            width: long(data, 4)?,
            height: height.unsigned_abs() as usize,
            is_top_down: height < 0,
            bits,
            compression,
            masks: [mask(40)?, mask(44)?, mask(48)?, alpha],
            colors: match (bits, long(data, 32)?) {
                (..=8, 0) => 1 << bits,
                (..=8, colors) => colors.min(1 << 16),
                _ => 0,
            },
            entry: 4,
            palette: length + if has_masks && length == 40 { 12 } else { 0 },
        })
    }
}

fn bitmap(
    data: &[u8],
    start: Option<usize>,
    holder: Holder,
    limits: Limits,
) -> Result<Picture, Failure> {
    let mut header = Header::read(data).ok_or_else(|| Failure::of("a damaged header"))?;
    if holder != Holder::None {
        header.height /= 2;
    }
    let (width, height, bits) = (header.width, header.height, header.bits);
    limits.check(width, height)?;
    let behind = header.palette + header.entry * header.colors;
    // Pillow looks behind a palette even where the file says that its place is the pixels'.
    let start = start.filter(|&at| at > header.palette || bits > 8);
    let pixels = data.get(start.unwrap_or(behind)..).unwrap_or_default();
    let unsupported = |what: &str, number| Failure::of(format!("{what} {number} is not supported"));
    let new = |mode, samples| Ok(Picture::new(width, height, mode, samples));
    match (bits, header.compression) {
        (1 | 2 | 4 | 8, _) => {
            let samples = match header.compression {
                compression::NONE => {
                    let (rows, line) = rows(pixels, &header)?;
                    unpack(&rows, line, width, bits)
                }
                compression::RUNS_OF_BYTES | compression::RUNS_OF_NIBBLES => {
                    upright(&runs(pixels, &header)?, width, header.is_top_down)
                }
                other => return Err(unsupported("its compression", other)),
            };
            let palette = data.get(header.palette..).unwrap_or_default();
            Ok(indexed(samples, palette, &header))
        }
        (16, compression::NONE) => new(Mode::Rgb, words(pixels, &header, 5)?),
        (16, compression::MASKS) => match header.masks {
            [0xf800, 0x7e0, 0x1f, _] => new(Mode::Rgb, words(pixels, &header, 6)?),
            [0x7c00, 0x3e0, 0x1f, _] => new(Mode::Rgb, words(pixels, &header, 5)?),
            _ => Err(Failure::of("its masks of colours are not supported")),
        },
        (24, compression::NONE | compression::MASKS) => {
            new(Mode::Rgb, picked(pixels, &header, &[2, 1, 0])?)
        }
        (32, compression::NONE) if holder == (Holder::Icon { has_alpha: true }) => {
            new(Mode::Rgba, picked(pixels, &header, &[2, 1, 0, 3])?)
        }
        (32, compression::NONE) => new(Mode::Rgb, picked(pixels, &header, &[2, 1, 0])?),
        (32, compression::MASKS) => {
            let known = MASKS.iter().find(|(masks, _)| *masks == header.masks);
            let (_, order) =
                known.ok_or_else(|| Failure::of("its masks of colours are not supported"))?;
            let mode = if order.len() == 4 {
                Mode::Rgba
            } else {
                Mode::Rgb
            };
            new(mode, picked(pixels, &header, order)?)
        }
        (16 | 24 | 32, other) => Err(unsupported("its compression", other)),
        _ => Err(unsupported("its depth of bits", bits)),
    }
}

/// The rows from top to bottom, and the bytes of each; they end at whole words.
fn rows(pixels: &[u8], header: &Header) -> Result<(Vec<u8>, usize), Failure> {
    let line = (header.width * header.bits).div_ceil(32) * 4;
    let rows = pixels.get(..line * header.height);
    let rows = rows.ok_or_else(|| Failure::of("rows are missing"))?;
    Ok((upright(rows, line, header.is_top_down), line))
}

/// Of every pixel the bytes in `order`.
fn picked(pixels: &[u8], header: &Header, order: &[usize]) -> Result<Vec<u8>, Failure> {
    let (rows, line) = rows(pixels, header)?;
    let size = header.bits / 8;
    let pixels = rows
        .chunks_exact(line.max(1))
        .flat_map(|row| row[..size * header.width].chunks_exact(size));
    Ok(pixels
        .flat_map(|pixel| order.iter().map(|&at| pixel[at]))
        .collect())
}

/// Pixels of 16 bits, `green_bits` of them for green.
fn words(pixels: &[u8], header: &Header, green_bits: u16) -> Result<Vec<u8>, Failure> {
    let bytes = picked(pixels, header, &[0, 1])?;
    let words = bytes
        .as_chunks()
        .0
        .iter()
        .map(|&pair| u16::from_le_bytes(pair));
    let part = |word: u16, at: u16, bits: u16| {
        let peak = (1 << bits) - 1;
        ((word >> at & peak) * 255 / peak) as u8
    };
    Ok(words
        .flat_map(|word| {
            [
                part(word, 5 + green_bits, 5),
                part(word, 5, green_bits),
                part(word, 0, 5),
            ]
        })
        .collect())
}

/// Indices from runs, row after row as the file has them.
fn runs(pixels: &[u8], header: &Header) -> Result<Vec<u8>, Failure> {
    let is_nibbles = header.compression == compression::RUNS_OF_NIBBLES;
    let (width, length) = (header.width, header.width * header.height);
    let mut out: Vec<u8> = Vec::new();
    let mut x = 0;
    let mut rest = pixels;
    while let [count, value, ref tail @ ..] = *rest
        && out.len() < length
    {
        rest = tail;
        let count = usize::from(count);
        match (count, value) {
            (0, 0) => {
                out.resize(out.len().next_multiple_of(width), 0);
                x = 0;
            }
            (0, 1) => break,
            (0, 2) => {
                let [right, up, ref tail @ ..] = *rest else {
                    break;
                };
                rest = tail;
                let skipped = usize::from(right) + usize::from(up) * width;
                out.resize((out.len() + skipped).min(length), 0);
                x = out.len() % width;
            }
            (0, literal) => {
                let wanted = usize::from(literal).min(length - out.len());
                let bytes = if is_nibbles {
                    wanted.div_ceil(2)
                } else {
                    wanted
                };
                let Some((literals, tail)) = rest.split_at_checked(bytes) else {
                    break;
                };
                if is_nibbles {
                    let nibbles = literals.iter().flat_map(|byte| [byte >> 4, byte & 15]);
                    out.extend(nibbles.take(wanted));
                } else {
                    out.extend_from_slice(literals);
                }
                x += usize::from(literal);
                // Literals end at whole words.
                rest = tail.get(bytes % 2..).unwrap_or_default();
            }
            _ => {
                let count = count.min(width.saturating_sub(x));
                out.extend((0..count).map(|at| match (is_nibbles, at % 2) {
                    (false, _) => value,
                    (true, 0) => value >> 4,
                    (true, _) => value & 15,
                }));
                x += count;
            }
        }
    }
    if out.len() < length {
        return Err(Failure::of("rows are missing"));
    }
    out.truncate(length);
    Ok(out)
}

/// Pillow drops a palette that is a ramp of grey, or black and white.
fn indexed(mut samples: Vec<u8>, palette: &[u8], header: &Header) -> Picture {
    let (width, height) = (header.width, header.height);
    let entries = palette.chunks_exact(header.entry).take(header.colors);
    let colors: Vec<[u8; 3]> = entries
        .map(|color| [color[2], color[1], color[0]])
        .collect();
    let step = if header.colors == 2 { 255 } else { 1 };
    let is_ramp = colors.len() == header.colors
        && colors
            .iter()
            .enumerate()
            .all(|(at, color)| color.iter().all(|&part| usize::from(part) == at * step));
    if !is_ramp {
        return Picture::indexed(width, height, samples, colors.as_flattened());
    }
    if header.colors > 2 {
        return Picture::new(width, height, Mode::L, samples);
    }
    for sample in &mut samples {
        *sample = if *sample == 0 { 0 } else { 255 };
    }
    Picture::new(width, height, Mode::Bilevel, samples)
}

pub(super) fn short(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?).into())
}

pub(super) fn long(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize)
}
