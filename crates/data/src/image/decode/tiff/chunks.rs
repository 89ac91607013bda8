//! Strips and tiles to rows of samples.

use std::io::Read;

use flate2::read::ZlibDecoder;
use libjpeg_turbo_rs::PixelFormat;
use ruzstd::decoding::StreamingDecoder;
use weezl::BitOrder;

use super::directory::{Directory, tag};
use super::fax;
use crate::image::decode::jpeg;
use crate::image::decode::limits::{Failure, Limits};

/// Photometric interpretations, by TIFF's numbers.
pub(super) mod photometric {
    pub const WHITE_IS_ZERO: usize = 0;
    pub const BLACK_IS_ZERO: usize = 1;
    pub const RGB: usize = 2;
    pub const PALETTE: usize = 3;
    pub const CMYK: usize = 5;
    pub const YCBCR: usize = 6;
    pub const LAB: usize = 8;
}

/// How the samples lie in the file.
pub(super) struct Layout {
    pub width: usize,
    pub height: usize,
    /// Of a sample, the same for all.
    pub bits: usize,
    /// Samples of a pixel.
    pub samples: usize,
    pub compression: usize,
    pub photometric: usize,
    /// Each channel lies by itself.
    pub is_planar: bool,
    /// Pixels across and down for one sample of chroma; 1 and 1 unless luma and chroma are packed in blocks.
    pub subsampling: (usize, usize),
    pub fill_order: usize,
}

/// Compressions, by TIFF's numbers.
mod compression {
    pub const NONE: usize = 1;
    pub const HUFFMAN: usize = 2;
    pub const FAX3: usize = 3;
    pub const FAX4: usize = 4;
    pub const LZW: usize = 5;
    pub const OLD_JPEG: usize = 6;
    pub const JPEG: usize = 7;
    pub const DEFLATE: usize = 8;
    pub const PACK_BITS: usize = 32773;
    pub const OLD_DEFLATE: usize = 32946;
    pub const LZMA: usize = 34925;
    pub const ZSTD: usize = 50000;
    pub const WEBP: usize = 50001;
}

impl Layout {
    pub(super) fn is_jpeg(&self) -> bool {
        self.compression == compression::JPEG
    }

    pub(super) fn is_raw(&self) -> bool {
        self.compression == compression::NONE
    }

    /// Channels in one chunk, and how many times the chunks cover the picture.
    fn passes(&self) -> (usize, usize) {
        match self.is_planar {
            true => (1, self.samples),
            false => (self.samples, 1),
        }
    }

    /// Bytes of a row `width` pixels wide in a chunk.
    pub(super) fn line(&self, width: usize) -> usize {
        (width * self.passes().0 * self.bits).div_ceil(8)
    }

    /// Bytes of a chunk; its chroma, where it has less, is packed in blocks.
    fn size(&self, width: usize, height: usize) -> usize {
        match self.subsampling {
            (1, 1) => self.line(width) * height,
            (across, down) => width.div_ceil(across) * height.div_ceil(down) * (across * down + 2),
        }
    }
}

/// The whole picture in rows of whole bytes, as the file has them; of planar files plane after plane.
pub(super) fn read(
    bytes: &[u8],
    directory: &Directory<'_>,
    layout: &Layout,
    limits: Limits,
) -> Result<Vec<u8>, Failure> {
    let (width, height) = (layout.width, layout.height);
    let is_tiled = directory.first_number(tag::TILE_WIDTH).is_some();
    let (offsets, counts, chunk_width, chunk_height) = if is_tiled {
        let side = |tag| directory.first_number(tag).filter(|&side| side > 0);
        let sides = side(tag::TILE_WIDTH).zip(side(tag::TILE_LENGTH));
        let (across, down) = sides.ok_or_else(|| Failure::of("tiles of no size"))?;
        (tag::TILE_OFFSETS, tag::TILE_BYTE_COUNTS, across, down)
    } else {
        let rows = directory
            .first_number(tag::ROWS_PER_STRIP)
            .unwrap_or(height);
        (
            tag::STRIP_OFFSETS,
            tag::STRIP_BYTE_COUNTS,
            width,
            rows.clamp(1, height),
        )
    };
    limits.check(chunk_width, chunk_height)?;
    let (offsets, counts) = (directory.numbers(offsets), directory.numbers(counts));
    let (across, down) = (width.div_ceil(chunk_width), height.div_ceil(chunk_height));
    let (_, passes) = layout.passes();
    if offsets.len() < across * down * passes {
        return Err(Failure::of("strips or tiles are missing"));
    }
    let line = layout.line(width);
    // A pixel may have more bytes than any picture of these formats.
    let whole = line.saturating_mul(height).saturating_mul(passes);
    if whole.max(layout.size(chunk_width, chunk_height)) > limits.memory() {
        return Err(Failure::of("samples of more bytes than a picture may take"));
    }
    let mut out = Vec::new();
    for band in 0..down * passes {
        let top = band % down * chunk_height;
        let rows = (height - top).min(chunk_height);
        let stored_rows = if is_tiled { chunk_height } else { rows };
        let start = out.len();
        out.resize(start + line * rows, 0);
        for column in 0..across {
            let index = band * across + column;
            let offset = usize::try_from(offsets[index])?;
            let data = bytes.get(offset..).unwrap_or_default();
            // A count that is missing or wrong matters little to a decoder that knows how much it wants.
            let count = counts
                .get(index)
                .map_or(data.len(), |&count| count as usize);
            let data = &data[..count.min(data.len())];
            let chunk = decode(data, directory, layout, (chunk_width, stored_rows), limits)?;
            let chunk_line = layout.line(chunk_width);
            let left = column * chunk_line;
            let wanted = chunk_line.min(line - left.min(line));
            for (y, row) in chunk.chunks_exact(chunk_line).take(rows).enumerate() {
                let place = start + y * line + left;
                out[place..place + wanted].copy_from_slice(&row[..wanted]);
            }
        }
    }
    Ok(out)
}

fn decode(
    data: &[u8],
    directory: &Directory<'_>,
    layout: &Layout,
    (width, height): (usize, usize),
    limits: Limits,
) -> Result<Vec<u8>, Failure> {
    let size = layout.size(width, height);
    let reversed = (layout.fill_order == 2 && !layout.is_jpeg()).then(|| {
        data.iter()
            .map(|byte| byte.reverse_bits())
            .collect::<Vec<_>>()
    });
    let data = reversed.as_deref().unwrap_or(data);
    let fax = |encoding| fax::decode(data, width, height, encoding);
    let (mut samples, has_predictor) = match layout.compression {
        compression::NONE => (data.to_vec(), false),
        compression::HUFFMAN => (fax(fax::Encoding::Huffman), false),
        compression::FAX3 => {
            let options = directory.first_number(tag::T4_OPTIONS).unwrap_or(0);
            let has_two_dimensions = options & 1 != 0;
            (fax(fax::Encoding::Group3 { has_two_dimensions }), false)
        }
        compression::FAX4 => (fax(fax::Encoding::Group4), false),
        compression::LZW => (lzw(data, size)?, true),
        compression::JPEG => (jpeg(data, directory, layout, limits)?, false),
        compression::DEFLATE | compression::OLD_DEFLATE => {
            (inflate(ZlibDecoder::new(data), size)?, true)
        }
        compression::ZSTD => (inflate(StreamingDecoder::new(data)?, size)?, true),
        compression::PACK_BITS => (pack_bits(data, size), false),
        other => {
            let name = match other {
                compression::OLD_JPEG => "old-style JPEG".to_owned(),
                compression::LZMA => "LZMA".to_owned(),
                compression::WEBP => "WebP".to_owned(),
                other => format!("{other}"),
            };
            return Err(Failure::of(format!(
                "its compression ({name}) is not supported"
            )));
        }
    };
    if samples.len() < size {
        return Err(Failure::of("rows are missing"));
    }
    samples.truncate(size);
    let predictor = directory
        .first_number(tag::PREDICTOR)
        .filter(|_| has_predictor);
    match predictor {
        Some(2) => undo_differences(&mut samples, layout, width, directory.is_little_endian)?,
        Some(3) => undo_planes(&mut samples, layout, width, directory.is_little_endian)?,
        _ => {}
    }
    Ok(match layout.subsampling {
        (1, 1) => samples,
        factors => whole_pixels(&samples, factors, (width, height)),
    })
}

/// Luma and chroma side by side, from blocks of many samples of luma and one of each chroma.
fn whole_pixels(
    samples: &[u8],
    (across, down): (usize, usize),
    (width, height): (usize, usize),
) -> Vec<u8> {
    let size = across * down;
    let blocks = width.div_ceil(across);
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    pixels
        .flat_map(|(x, y)| {
            let block = &samples[(y / down * blocks + x / across) * (size + 2)..][..size + 2];
            [
                block[y % down * across + x % across],
                block[size],
                block[size + 1],
            ]
        })
        .collect()
}

/// Reads up to `size` bytes; a stream that ends before is short.
fn inflate(stream: impl Read, size: usize) -> Result<Vec<u8>, Failure> {
    let mut samples = Vec::new();
    stream.take(size as u64).read_to_end(&mut samples)?;
    Ok(samples)
}

fn lzw(data: &[u8], size: usize) -> Result<Vec<u8>, Failure> {
    let mut decoder = weezl::decode::Decoder::with_tiff_size_switch(BitOrder::Msb, 8);
    let mut samples = Vec::new();
    let mut buffer = vec![0; 1 << 14];
    let mut rest = data;
    while samples.len() < size {
        let result = decoder.decode_bytes(rest, &mut buffer);
        samples.extend_from_slice(&buffer[..result.consumed_out]);
        rest = &rest[result.consumed_in..];
        match result.status? {
            weezl::LzwStatus::Ok => {}
            weezl::LzwStatus::NoProgress | weezl::LzwStatus::Done => break,
        }
    }
    Ok(samples)
}

fn pack_bits(data: &[u8], size: usize) -> Vec<u8> {
    let mut samples = Vec::new();
    let mut rest = data;
    while samples.len() < size {
        rest = match *rest {
            [] => break,
            [128, ref tail @ ..] => tail,
            [count @ 0..128, ref tail @ ..] => {
                let (literal, tail) = tail.split_at((usize::from(count) + 1).min(tail.len()));
                samples.extend_from_slice(literal);
                tail
            }
            [count, ref tail @ ..] => {
                let Some((&byte, tail)) = tail.split_first() else {
                    break;
                };
                samples.resize(samples.len() + 257 - usize::from(count), byte);
                tail
            }
        };
    }
    samples
}

/// A JPEG whose tables stand apart, in the colours that the file says; luma and chroma become RGB.
fn jpeg(
    data: &[u8],
    directory: &Directory<'_>,
    layout: &Layout,
    limits: Limits,
) -> Result<Vec<u8>, Failure> {
    const START: [u8; 2] = [0xff, 0xd8];
    // Adobe's marker says whether three channels are luma and chroma.
    let is_luma = layout.photometric == photometric::YCBCR;
    let mut file = START.to_vec();
    file.extend_from_slice(&[0xff, 0xee, 0, 14]);
    file.extend_from_slice(b"Adobe\0\x64\0\0\0\0");
    file.push(u8::from(is_luma));
    if let Some(tables) = directory.opaque(tag::JPEG_TABLES) {
        let tables = tables.strip_prefix(&START).unwrap_or(tables);
        file.extend_from_slice(tables.strip_suffix(&[0xff, 0xd9]).unwrap_or(tables));
    }
    file.extend_from_slice(data.strip_prefix(&START).unwrap_or(data));
    let mut decoder = jpeg::open(&file, limits)?;
    let (channels, _) = layout.passes();
    decoder.set_output_format(match channels {
        1 => PixelFormat::Grayscale,
        3 => PixelFormat::Rgb,
        4 => PixelFormat::Cmyk,
        _ => {
            return Err(Failure::of(format!(
                "JPEG with {channels} channels is not supported"
            )));
        }
    });
    Ok(decoder.decode_image()?.into_vec())
}

/// Adds up samples that were stored as differences from the pixel before.
fn undo_differences(
    samples: &mut [u8],
    layout: &Layout,
    width: usize,
    is_little_endian: bool,
) -> Result<(), Failure> {
    let (channels, _) = layout.passes();
    let bytes = layout.bits / 8;
    if !layout.bits.is_multiple_of(8) || !matches!(bytes, 1 | 2 | 4 | 8) {
        return Err(Failure::of(format!("differences of {} bits", layout.bits)));
    }
    let step = channels * bytes;
    for row in samples.chunks_exact_mut(layout.line(width).max(1)) {
        for at in (step..row.len()).step_by(bytes) {
            // The sum of whole numbers, its lowest byte first.
            let mut carry = 0;
            for digit in 0..bytes {
                let digit = if is_little_endian {
                    digit
                } else {
                    bytes - 1 - digit
                };
                let sum = u16::from(row[at + digit]) + u16::from(row[at - step + digit]) + carry;
                row[at + digit] = sum as u8;
                carry = sum >> 8;
            }
        }
    }
    Ok(())
}

/// Floating-point rows whose bytes lie in planes, the highest first, as differences.
fn undo_planes(
    samples: &mut [u8],
    layout: &Layout,
    width: usize,
    is_little_endian: bool,
) -> Result<(), Failure> {
    let (channels, _) = layout.passes();
    let bytes = layout.bits / 8;
    if bytes == 0 {
        return Err(Failure::of(format!(
            "floating-point differences of {} bits",
            layout.bits
        )));
    }
    for row in samples.chunks_exact_mut(layout.line(width).max(1)) {
        for at in channels..row.len() {
            row[at] = row[at].wrapping_add(row[at - channels]);
        }
        let planes = row.to_vec();
        let count = row.len() / bytes;
        for (at, sample) in row.chunks_exact_mut(bytes).enumerate() {
            for (digit, byte) in sample.iter_mut().enumerate() {
                let digit = if is_little_endian {
                    bytes - 1 - digit
                } else {
                    digit
                };
                *byte = planes[digit * count + at];
            }
        }
    }
    Ok(())
}
