//! The coded data of a scan: bits, Huffman codes, and blocks of coefficients.

use libjpeg_turbo_rs::common::huffman_table::HuffmanTable;
use libjpeg_turbo_rs::common::quant_table::ZIGZAG_ORDER;

/// A reader of bits that takes eight bytes at a time where none of them is a mark.
#[derive(Clone, Copy)]
pub(super) struct Bits<'a> {
    data: &'a [u8],
    /// The next byte that is not in `buffer` as a whole.
    at: usize,
    /// The next bits, from the highest on; `left` of them count, and below them are the bits that follow, or zeros.
    buffer: u64,
    left: u32,
    /// Zeros in place of bits that the data does not have.
    made_up: u32,
}

impl<'a> Bits<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self {
            data,
            at: 0,
            buffer: 0,
            left: 0,
            made_up: 0,
        }
    }

    /// Whether bits were read that the data does not have.
    pub fn is_past_end(&self) -> bool {
        self.left < self.made_up
    }

    /// Makes sure of 32 bits: a code of at most 16 and a value of at most 16.
    #[inline(always)]
    fn fill(&mut self) {
        if self.left >= 32 {
            return;
        }
        if let Some(bytes) = self
            .data
            .get(self.at..)
            .and_then(|rest| rest.first_chunk::<8>())
        {
            let word = u64::from_be_bytes(*bytes);
            if !has_mark(word) {
                self.buffer |= word >> self.left;
                let taken = (64 - self.left) / 8;
                self.at += taken as usize;
                self.left += 8 * taken;
                return;
            }
        }
        // By value: a reference would keep the reader in memory instead of registers.
        *self = self.filled_slowly();
    }

    #[cold]
    #[inline(never)]
    fn filled_slowly(mut self) -> Self {
        while self.left <= 56 {
            let byte = match (self.data.get(self.at), self.data.get(self.at + 1)) {
                (Some(0xff), Some(0)) => {
                    self.at += 2;
                    0xff
                }
                (Some(&byte), _) if byte != 0xff => {
                    self.at += 1;
                    byte
                }
                _ => {
                    self.made_up += 8;
                    0
                }
            };
            // Bits that were there already are these very bits.
            self.buffer |= u64::from(byte) << (56 - self.left);
            self.left += 8;
        }
        self
    }

    #[inline(always)]
    fn peek(&self) -> u16 {
        (self.buffer >> 48) as u16
    }

    #[inline(always)]
    fn skip(&mut self, count: u8) {
        let count = u32::from(count);
        self.buffer <<= count;
        self.left = self.left.saturating_sub(count);
    }

    /// A value of `size` bits, 0 to 16, with the sign that JPEG gives it (figure F.12 of the standard).
    #[inline(always)]
    fn value(&mut self, size: u8) -> i16 {
        let size = size.min(16);
        // Two shifts, since one by 64 is none.
        let bits = (self.buffer >> 1 >> (63 - u32::from(size))) as i32;
        let is_negative = (self.buffer >> 63) ^ 1;
        let offset = ((1_i32 << size) - 1) * is_negative as i32;
        self.skip(size);
        (bits - offset) as i16
    }

    /// The value of a code that is longer than the tables' first step.
    #[inline(always)]
    fn symbol(&mut self, table: &HuffmanTable) -> Option<u8> {
        let (symbol, length) = match table.lookup_fast(self.peek()) {
            (_, 0) => table.lookup(self.peek()).ok()?,
            found => found,
        };
        self.skip(length);
        Some(symbol)
    }

    /// Reads a block's coefficients, in rows. `predicted` is the first one of the component's last block.
    #[inline(always)]
    pub fn block(
        &mut self,
        dc: &HuffmanTable,
        ac: &HuffmanTable,
        predicted: &mut i16,
        coefficients: &mut [i16; 64],
    ) -> Option<()> {
        *coefficients = [0; 64];
        self.fill();
        let size = self.symbol(dc)?;
        let step = if size == 0 { 0 } else { self.value(size) };
        *predicted = predicted.wrapping_add(step);
        coefficients[0] = *predicted;
        let mut index = 1;
        while index < 64 {
            self.fill();
            let (joined, symbol, length) = ac.lookup_combined(self.peek());
            let value = if joined != 0 {
                // Value, run and length of both in one entry.
                index += usize::from(joined as u16 >> 4 & 15);
                self.skip((joined & 15) as u8);
                joined >> 8
            } else {
                let symbol = match length {
                    0 => self.symbol(ac)?,
                    _ => {
                        self.skip(length);
                        symbol
                    }
                };
                let (run, size) = (usize::from(symbol >> 4), symbol & 15);
                if size == 0 {
                    if run == 15 {
                        index += 16;
                        continue;
                    }
                    break;
                }
                index += run;
                self.value(size)
            };
            // libjpeg lets a run that goes too far end in the last place.
            coefficients[ZIGZAG_ORDER[index.min(63)]] = value;
            index += 1;
        }
        Some(())
    }

    /// Steps over a restart mark.
    pub fn restart(&mut self) -> Option<()> {
        if self.is_past_end() {
            return None;
        }
        // No mark is stepped over by reading, so that it lies ahead.
        let rest = self.data.get(self.at..)?;
        let mark = rest
            .windows(2)
            .position(|pair| matches!(pair, [0xff, 0xd0..=0xd7]))?;
        *self = Self {
            at: self.at + mark + 2,
            ..Self::new(self.data)
        };
        Some(())
    }
}

/// Whether one of the eight bytes is 0xff.
#[inline(always)]
fn has_mark(word: u64) -> bool {
    const LOW: u64 = 0x0101_0101_0101_0101;
    (!word).wrapping_sub(LOW) & word & (LOW << 7) != 0
}
