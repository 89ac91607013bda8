//! DDS as Pillow reads it: plain samples, and S3TC's blocks with its whole-number arithmetic.

use super::bmp::long;
use super::general;
use super::limits::{Failure, Limits};
use crate::image::picture::{Mode, Picture};

/// Where the pixels begin, and how many bytes the second header adds.
const HEADER: usize = 128;
const SECOND_HEADER: usize = 20;

/// What the pixels are, by the flags of the header.
mod flag {
    pub(super) const ALPHA: usize = 1;
    pub(super) const CODE: usize = 4;
    pub(super) const PALETTE: usize = 0x20;
    pub(super) const RGB: usize = 0x40;
    pub(super) const LUMINANCE: usize = 0x2_0000;
}

/// Blocks of 4 × 4 pixels.
#[derive(Debug, Clone, Copy)]
enum Block {
    Bc1,
    Bc2,
    Bc3,
    Bc4,
    Bc5,
}

pub(super) fn decode(bytes: &[u8], limits: Limits) -> Result<Picture, Failure> {
    let number = |at| long(bytes, at).ok_or_else(|| Failure::of("a damaged header"));
    let (height, width) = (number(12)?, number(16)?);
    limits.check(width, height)?;
    let (flags, bits) = (number(80)?, number(88)?);
    let pixels = bytes.get(HEADER..).unwrap_or_default();
    let new = |mode, samples| Ok(Picture::new(width, height, mode, samples));
    let first = |pixels: &[u8], count: usize| {
        let samples = pixels.get(..count).map(<[u8]>::to_vec);
        samples.ok_or_else(|| Failure::of("pixels are missing"))
    };
    let has = |flag| flags & flag != 0;
    if has(flag::RGB) {
        let masks = [number(92)?, number(96)?, number(100)?, number(104)?];
        let (mode, masks) = match has(flag::ALPHA) {
            true => (Mode::Rgba, &masks[..]),
            false => (Mode::Rgb, &masks[..3]),
        };
        let size = bits / 8;
        if !(1..=4).contains(&size) {
            return Err(Failure::of(format!(
                "pixels of {bits} bits are not supported"
            )));
        }
        let pixels = first(pixels, size * width * height)?;
        return new(mode, masked(&pixels, size, masks));
    }
    if has(flag::LUMINANCE) {
        return match (bits, has(flag::ALPHA)) {
            (8, _) => new(Mode::L, first(pixels, width * height)?),
            (16, true) => new(Mode::La, first(pixels, 2 * width * height)?),
            _ => Err(Failure::of(format!("grey of {bits} bits is not supported"))),
        };
    }
    if has(flag::PALETTE) {
        let palette = first(pixels, 1024)?;
        let colors = palette.as_chunks::<4>().0.iter();
        let colors: Vec<u8> = colors.flat_map(|&[r, g, b, _]| [r, g, b]).collect();
        let samples = first(&pixels[1024..], width * height)?;
        return Ok(Picture::indexed(width, height, samples, &colors));
    }
    if !has(flag::CODE) {
        return Err(Failure::of(format!(
            "the kind of its pixels ({flags:#x}) is not supported"
        )));
    }
    let second = pixels.get(SECOND_HEADER..).unwrap_or_default();
    let (block, pixels) = match &bytes[84..88] {
        b"DXT1" => (Block::Bc1, pixels),
        b"DXT3" => (Block::Bc2, pixels),
        b"DXT5" => (Block::Bc3, pixels),
        b"ATI1" | b"BC4U" => (Block::Bc4, pixels),
        b"ATI2" | b"BC5U" => (Block::Bc5, pixels),
        b"DX10" => match number(HEADER)? {
            27..=29 => return new(Mode::Rgba, first(second, 4 * width * height)?),
            70 | 71 => (Block::Bc1, second),
            73 | 74 => (Block::Bc2, second),
            76 | 77 => (Block::Bc3, second),
            79 | 80 => (Block::Bc4, second),
            82 | 83 => (Block::Bc5, second),
            97..=99 => return general::dds(bytes, limits),
            other => {
                return Err(Failure::of(format!(
                    "DXGI's format {other} is not supported"
                )));
            }
        },
        code => {
            let code = String::from_utf8_lossy(code);
            return Err(Failure::of(format!("its format {code:?} is not supported")));
        }
    };
    let (mode, samples) = blocks(pixels, block, width, height)?;
    new(mode, samples)
}

/// The parts of each pixel by their masks, stretched to 8 bits.
fn masked(pixels: &[u8], size: usize, masks: &[usize]) -> Vec<u8> {
    let part = |value: u32, mask: u32| {
        let shift = mask.trailing_zeros();
        match mask {
            0 => 0,
            _ => (f64::from((value & mask) >> shift) / f64::from(mask >> shift) * 255.0) as u8,
        }
    };
    let pixels = pixels.chunks_exact(size).map(|pixel| {
        let digits = pixel.iter().rev();
        digits.fold(0, |value, &digit| value << 8 | u32::from(digit))
    });
    pixels
        .flat_map(|value| masks.iter().map(move |&mask| part(value, mask as u32)))
        .collect()
}

fn blocks(
    pixels: &[u8],
    block: Block,
    width: usize,
    height: usize,
) -> Result<(Mode, Vec<u8>), Failure> {
    let (size, mode) = match block {
        Block::Bc1 => (8, Mode::Rgba),
        Block::Bc2 | Block::Bc3 => (16, Mode::Rgba),
        Block::Bc4 => (8, Mode::L),
        Block::Bc5 => (16, Mode::Rgb),
    };
    let across = width.div_ceil(4);
    if pixels.len() < size * across * height.div_ceil(4) {
        return Err(Failure::of("blocks are missing"));
    }
    let channels = mode.bytes();
    let mut out = vec![0; channels * width * height];
    for (index, data) in pixels
        .chunks_exact(size)
        .take(across * height.div_ceil(4))
        .enumerate()
    {
        let (left, top) = (index % across * 4, index / across * 4);
        let texels = texels(data, block);
        for (at, texel) in texels.iter().enumerate() {
            let (x, y) = (left + at % 4, top + at / 4);
            if x < width && y < height {
                let place = channels * (y * width + x);
                out[place..place + channels].copy_from_slice(&texel[..channels]);
            }
        }
    }
    Ok((mode, out))
}

fn texels(data: &[u8], block: Block) -> [[u8; 4]; 16] {
    let with_alpha = |alpha: [u8; 16]| {
        let mut texels = colors(&data[8..], true);
        for (texel, alpha) in texels.iter_mut().zip(alpha) {
            texel[3] = alpha;
        }
        texels
    };
    match block {
        Block::Bc1 => colors(data, false),
        Block::Bc2 => with_alpha(std::array::from_fn(|at| {
            (data[at / 2] >> (4 * (at % 2)) & 15) * 17
        })),
        Block::Bc3 => with_alpha(ramp(data)),
        Block::Bc4 => ramp(data).map(|grey| [grey; 4]),
        Block::Bc5 => {
            let (red, green) = (ramp(data), ramp(&data[8..]));
            std::array::from_fn(|at| [red[at], green[at], 0, 255])
        }
    }
}

/// Two colours of 16 bits and two between them, or one between them and none at all.
fn colors(data: &[u8], is_opaque: bool) -> [[u8; 4]; 16] {
    let color = |at: usize| u16::from_le_bytes([data[at], data[at + 1]]);
    let wide = |color: u16| {
        let [r, g, b] = [color >> 11, color >> 5 & 63, color & 31];
        [r << 3 | r >> 2, g << 2 | g >> 4, b << 3 | b >> 2]
    };
    let (first, second) = (wide(color(0)), wide(color(2)));
    let mix = |a: u16, b: u16| {
        let [red, green, blue] =
            [0, 1, 2].map(|i| ((a * first[i] + b * second[i]) / (a + b)) as u8);
        [red, green, blue, 255]
    };
    let entries = match is_opaque || color(0) > color(2) {
        true => [mix(1, 0), mix(0, 1), mix(2, 1), mix(1, 2)],
        false => [mix(1, 0), mix(0, 1), mix(1, 1), [0; 4]],
    };
    std::array::from_fn(|at| entries[usize::from(data[4 + at / 4] >> (2 * (at % 4)) & 3)])
}

/// Two values and those between them.
fn ramp(data: &[u8]) -> [u8; 16] {
    let (first, second) = (u16::from(data[0]), u16::from(data[1]));
    let steps = if first > second { 7 } else { 5 };
    let value = |index: u16| match index {
        0 => data[0],
        1 => data[1],
        6 if steps == 5 => 0,
        7 if steps == 5 => 255,
        _ => (((steps + 1 - index) * first + (index - 1) * second) / steps) as u8,
    };
    let indices = data[2..8].iter().rev();
    let indices = indices.fold(0_u64, |all, &byte| all << 8 | u64::from(byte));
    std::array::from_fn(|at| value((indices >> (3 * at) & 7) as u16))
}
