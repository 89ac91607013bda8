//! The tags of a TIFF's first page.

use crate::image::decode::limits::Failure;

/// Numbers of tags.
pub(super) mod tag {
    pub const IMAGE_WIDTH: u16 = 256;
    pub const IMAGE_LENGTH: u16 = 257;
    pub const BITS_PER_SAMPLE: u16 = 258;
    pub const COMPRESSION: u16 = 259;
    pub const PHOTOMETRIC: u16 = 262;
    pub const FILL_ORDER: u16 = 266;
    pub const STRIP_OFFSETS: u16 = 273;
    pub const ORIENTATION: u16 = 274;
    pub const SAMPLES_PER_PIXEL: u16 = 277;
    pub const ROWS_PER_STRIP: u16 = 278;
    pub const STRIP_BYTE_COUNTS: u16 = 279;
    pub const PLANAR_CONFIGURATION: u16 = 284;
    pub const T4_OPTIONS: u16 = 292;
    pub const PREDICTOR: u16 = 317;
    pub const COLOR_MAP: u16 = 320;
    pub const TILE_WIDTH: u16 = 322;
    pub const TILE_LENGTH: u16 = 323;
    pub const TILE_OFFSETS: u16 = 324;
    pub const TILE_BYTE_COUNTS: u16 = 325;
    pub const EXTRA_SAMPLES: u16 = 338;
    pub const SAMPLE_FORMAT: u16 = 339;
    pub const JPEG_TABLES: u16 = 347;
    pub const YCBCR_COEFFICIENTS: u16 = 529;
    pub const YCBCR_SUBSAMPLING: u16 = 530;
    pub const REFERENCE_BLACK_WHITE: u16 = 532;
}

/// Most tags of a page that are looked at.
const MAX_TAGS: usize = 4096;

pub(super) struct Directory<'a> {
    bytes: &'a [u8],
    pub(super) is_little_endian: bool,
    is_big: bool,
    entries: &'a [u8],
}

impl<'a> Directory<'a> {
    /// The directory of the first page.
    pub(super) fn first(bytes: &'a [u8]) -> Result<Self, Failure> {
        let mut directory = Self {
            bytes,
            is_little_endian: bytes.first() == Some(&b'I'),
            is_big: false,
            entries: &[],
        };
        let cut = || Failure::of("its directory is cut off");
        directory.is_big = directory.number(2, 2) == Some(43);
        let (at, digits, entry) = if directory.is_big {
            (8, 8, 20)
        } else {
            (4, 2, 12)
        };
        let start = directory.number(at, if directory.is_big { 8 } else { 4 });
        let start = start
            .and_then(|start| usize::try_from(start).ok())
            .ok_or_else(cut)?;
        let count = directory
            .number(start, digits)
            .ok_or_else(cut)?
            .min(MAX_TAGS as u64) as usize;
        let entries = bytes.get(start + digits..);
        let entries = entries.and_then(|entries| entries.get(..count * entry));
        directory.entries = entries.ok_or_else(cut)?;
        Ok(directory)
    }

    fn number(&self, at: usize, length: usize) -> Option<u64> {
        let digits = self.bytes.get(at..at.checked_add(length)?)?;
        Some(self.of_digits(digits))
    }

    fn of_digits(&self, digits: &[u8]) -> u64 {
        let push = |value: u64, digit: &u8| value << 8 | u64::from(*digit);
        match self.is_little_endian {
            true => digits.iter().rev().fold(0, push),
            false => digits.iter().fold(0, push),
        }
    }

    /// Kind and bytes of a tag's values.
    fn values(&self, tag: u16) -> Option<(u64, &'a [u8])> {
        let (entry, digits) = if self.is_big { (20, 8) } else { (12, 4) };
        let field = self
            .entries
            .chunks_exact(entry)
            .find(|field| self.of_digits(&field[..2]) == u64::from(tag))?;
        let kind = self.of_digits(&field[2..4]);
        let width = match kind {
            1 | 2 | 6 | 7 => 1,
            3 | 8 => 2,
            4 | 9 | 11 | 13 => 4,
            5 | 10 | 12 | 16 | 17 | 18 => 8,
            _ => return None,
        };
        let count = usize::try_from(self.of_digits(&field[4..4 + digits])).ok()?;
        let length = count.checked_mul(width)?;
        let place = &field[4 + digits..];
        let values = if length <= digits {
            &place[..length]
        } else {
            let at = usize::try_from(self.of_digits(place)).ok()?;
            self.bytes.get(at..at.checked_add(length)?)?
        };
        Some((kind, values))
    }

    /// All values of a tag that holds whole numbers; none without the tag.
    pub(super) fn numbers(&self, tag: u16) -> Vec<u64> {
        let width = |kind| match kind {
            3 => 2,
            4 | 13 => 4,
            16 | 18 => 8,
            _ => 1,
        };
        let values = self
            .values(tag)
            .filter(|(kind, _)| matches!(kind, 1 | 3 | 4 | 7 | 13 | 16 | 18));
        values
            .map(|(kind, bytes)| {
                bytes
                    .chunks_exact(width(kind))
                    .map(|digits| self.of_digits(digits))
                    .collect()
            })
            .unwrap_or_default()
    }

    /// The first value of a tag that holds whole numbers.
    pub(super) fn first_number(&self, tag: u16) -> Option<usize> {
        usize::try_from(*self.numbers(tag).first()?).ok()
    }

    /// All values of a tag that holds fractions.
    pub(super) fn fractions(&self, tag: u16) -> Vec<f32> {
        let values = self.values(tag).filter(|(kind, _)| *kind == 5);
        let fraction = |digits: &[u8]| {
            let (above, below) = (self.of_digits(&digits[..4]), self.of_digits(&digits[4..]));
            if below == 0 {
                0.0
            } else {
                (above as f64 / below as f64) as f32
            }
        };
        values
            .map(|(_, bytes)| bytes.chunks_exact(8).map(fraction).collect())
            .unwrap_or_default()
    }

    /// The bytes of a tag without meaning to TIFF.
    pub(super) fn opaque(&self, tag: u16) -> Option<&'a [u8]> {
        self.values(tag).map(|(_, bytes)| bytes)
    }
}
