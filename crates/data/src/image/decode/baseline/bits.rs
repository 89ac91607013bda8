//! Bits of a scan, and blocks of coefficients.

use libjpeg_turbo_rs::common::huffman_table::HuffmanTable;

use super::steps::{AC_BITS, Coded, DC_BITS, LAST};

/// Coefficients of a block in rows. What is behind the 64 takes steps that lead out of the block.
pub(super) type Coefficients = [i16; 256];

/// Where the coefficients of a scan stand in rows.
static PLACES: [u8; 256] = {
    let mut places = [64; 256];
    let mut i = 0;
    while i < 64 {
        places[i] = libjpeg_turbo_rs::common::quant_table::ZIGZAG_ORDER[i] as u8;
        i += 1;
    }
    places
};

/// Steps of the coefficients' tables for which one filling suffices.
const STEPS: usize = 56 / AC_BITS as usize;

/// A reader of bits, eight bytes at a time.
#[derive(Clone, Copy)]
pub(super) struct Bits<'a> {
    data: &'a [u8],
    /// The next byte that is not in `buffer` as a whole.
    at: usize,
    /// The next bits, from the highest on; `left` of them count, and below them are bits that follow, or zeros.
    buffer: u64,
    left: u32,
}

impl<'a> Bits<'a> {
    /// From byte `at` of `data` on.
    pub fn new(data: &'a [u8], at: usize) -> Self {
        Self {
            data,
            at,
            buffer: 0,
            left: 0,
        }
    }

    /// How many bits of the bytes before `end` are left; `None` if more was read than these.
    pub fn left_before(&self, end: usize) -> Option<usize> {
        (8 * end + self.left as usize).checked_sub(8 * self.at)
    }

    /// Makes sure of 56 bits. Behind the data there are none.
    #[inline(always)]
    fn fill(&mut self) -> Option<()> {
        let word = u64::from_be_bytes(*self.data.get(self.at..)?.first_chunk()?);
        // Bits that were there already are these very bits.
        self.buffer |= word >> self.left;
        self.at += ((63 - self.left) / 8) as usize;
        self.left |= 56;
        Some(())
    }

    /// The first `count` bits, 1 to 32.
    #[inline(always)]
    fn peek(&self, count: u32) -> usize {
        (self.buffer >> (64 - count)) as usize
    }

    #[inline(always)]
    fn skip(&mut self, count: u32) {
        self.buffer = self.buffer.wrapping_shl(count);
        self.left = self.left.wrapping_sub(count);
    }

    /// Steps over what a table's step reads.
    #[inline(always)]
    fn take(&mut self, step: u32) {
        // The processor's shift looks at six bits alone.
        self.buffer = self.buffer.wrapping_shl(step);
        self.left = self.left.wrapping_sub(step % 16);
    }

    /// A code, and behind it as many bits as its last four say, at most 11: the code's symbol, and the value that the bits stand for.
    #[inline(always)]
    fn coded(&mut self, table: &HuffmanTable) -> Option<(u8, i16)> {
        let (symbol, length) = table.lookup(self.peek(16) as u16).ok()?;
        self.skip(length.into());
        let size = u32::from(symbol % 16);
        if size == 0 {
            return Some((symbol, 0));
        }
        if size > 11 {
            return None;
        }
        let bits = self.peek(size) as i16;
        self.skip(size);
        // Figure F.12 of the standard.
        let is_negative = bits >> (size - 1) == 0;
        Some((symbol, bits - if is_negative { (1 << size) - 1 } else { 0 }))
    }

    /// Reads a block, or where it is not `KEPT` reads over it. `predicted` is the first coefficient of the component's last block.
    /// `None` where the data is damaged.
    #[inline(always)]
    pub fn block<const KEPT: bool>(
        &mut self,
        dc: Coded<'_, { 1 << DC_BITS }>,
        ac: Coded<'_, { 1 << AC_BITS }>,
        predicted: &mut i16,
        coefficients: &mut Coefficients,
    ) -> Option<()> {
        if KEPT {
            *coefficients.first_chunk_mut()? = [0; 64];
        }
        let mut keep = |place: u8, value: i16| {
            if KEPT {
                coefficients[usize::from(PLACES[usize::from(place)])] = value;
            }
        };
        self.fill()?;
        let step = dc.steps[self.peek(DC_BITS)];
        let change = if step == 0 {
            let (symbol, value) = self.coded(dc.table)?;
            (symbol < 16).then_some(value)?
        } else {
            self.take(step);
            (step >> 16) as i16
        };
        *predicted = predicted.wrapping_add(change);
        keep(0, *predicted);
        let mut index = 1;
        'block: loop {
            self.fill()?;
            'long: {
                for _ in 0..STEPS {
                    let step = ac.steps[self.peek(AC_BITS)];
                    if step == 0 {
                        break 'long;
                    }
                    let before = *self;
                    self.take(step);
                    let first = index + (step >> 14 & 15);
                    index += step >> 6 & 255;
                    // A second value that there is not is zero, and written where the first one goes or behind the block.
                    keep((index - 1) as u8, ((step << 7) as i32 >> 25) as i16);
                    keep(first as u8, (step as i32 >> 25) as i16);
                    if index < 64 {
                        continue;
                    }
                    if index > 64 && !(LAST..LAST + 64).contains(&index) {
                        // The first value was the block's last one, so that what follows belongs to the next block.
                        *self = before;
                        self.coded(ac.table)?;
                        (first == 63).then_some(())?;
                        index = 64;
                    }
                    break 'block;
                }
                continue 'block;
            }
            self.fill()?;
            let (symbol, value) = self.coded(ac.table)?;
            let run = u32::from(symbol / 16);
            match symbol {
                0xf0 => index += 16,
                _ if symbol % 16 == 0 => index += LAST,
                _ => {
                    keep((index + run) as u8, value);
                    index += run + 1;
                }
            }
            if index >= 64 {
                break;
            }
        }
        (index <= 64 || index >= LAST).then_some(())
    }
}
