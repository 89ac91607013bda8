//! Tables that read several of a scan's symbols in one step.

use libjpeg_turbo_rs::common::huffman_table::HuffmanTable;

/// Bits that are looked up at once: of a first coefficient, and of the others.
pub(super) const DC_BITS: u32 = 10;
pub(super) const AC_BITS: u32 = 12;

/// What the end of a block adds to the index; more than any other step reaches.
pub(super) const LAST: u32 = 96;

/// A code's table, and what its first bits mean.
#[derive(Clone, Copy)]
pub(super) struct Coded<'t, const N: usize> {
    pub steps: &'t [u32; N],
    pub table: &'t HuffmanTable,
}

/// What one picture leaves to the next: most have the same codes.
#[derive(Default)]
pub(super) struct Tables {
    pub dc: [Steps<{ 1 << DC_BITS }>; 4],
    pub ac: [Steps<{ 1 << AC_BITS }>; 4],
}

/// By the next bits: in the lowest six how many are read, and 0 where these bits are not enough. Of a first coefficient its change in
/// the highest 16. Of others, from bit 6 on: by how much the index grows (8 bits), how many zeros come before the first value (4),
/// the second value, 0 if there is none (7, signed), and the first one (7, signed).
pub(super) struct Steps<const N: usize> {
    codes: Box<[[u8; 2]; N]>,
    steps: Box<[u32; N]>,
}

impl<const N: usize> Default for Steps<N> {
    fn default() -> Self {
        Self {
            codes: Box::new([[0; 2]; N]),
            steps: Box::new([0; N]),
        }
    }
}

impl<const N: usize> Steps<N> {
    const BITS: u32 = N.ilog2();

    pub fn of<'t>(&'t self, table: &'t HuffmanTable) -> Coded<'t, N> {
        Coded {
            steps: &self.steps,
            table,
        }
    }

    /// Makes the steps of `table` unless they are these: `step` tells that of each bits from the symbols and lengths of the codes that
    /// all bits begin with.
    fn prepare(&mut self, table: &HuffmanTable, step: fn(&[[u8; 2]; N], usize) -> u32) {
        // Ten bits are looked up at once.
        let same = N / N.min(1 << 10);
        let mut codes = [[0; 2]; N];
        for (at, codes) in codes.chunks_exact_mut(same).enumerate() {
            let bits = |i: usize| ((at * same + i) << (16 - Self::BITS)) as u16;
            let (symbol, length) = table.lookup_fast(bits(0));
            codes.fill([symbol, length]);
            if length == 0 {
                for (i, code) in codes.iter_mut().enumerate() {
                    let found = table.lookup(bits(i)).ok();
                    let found = found.filter(|(_, length)| u32::from(*length) <= Self::BITS);
                    *code = found.map_or([0; 2], |(symbol, length)| [symbol, length]);
                }
            }
        }
        if codes != *self.codes {
            *self.codes = codes;
            for (bits, out) in self.steps.iter_mut().enumerate() {
                *out = step(&codes, bits);
            }
        }
    }
}

impl Tables {
    pub fn prepare_dc(&mut self, index: usize, table: &HuffmanTable) {
        self.dc[index].prepare(table, |codes, bits| {
            let [symbol, length] = codes[bits].map(u32::from);
            match value(DC_BITS, bits, [symbol, length]) {
                Some(value) if symbol < 16 => (value as u32) << 16 | (length + symbol),
                _ => 0,
            }
        });
    }

    pub fn prepare_ac(&mut self, index: usize, table: &HuffmanTable) {
        self.ac[index].prepare(table, |codes, bits| {
            let [symbol, length] = codes[bits].map(u32::from);
            let packed = |bits: u32, index: u32, run: u32, values: [i32; 2]| {
                let [first, second] = values.map(|value| value as u32 & 127);
                first << 25 | second << 18 | run << 14 | index << 6 | bits
            };
            let (run, size) = (symbol / 16, symbol % 16);
            let first = match value(AC_BITS, bits, [symbol, length]) {
                Some(value) if (-64..64).contains(&value) => value,
                _ => return 0,
            };
            if size == 0 {
                let index = if run == 15 { 16 } else { LAST };
                return packed(length, index, 0, [0; 2]);
            }
            let read = length + size;
            let rest = bits << read & (codes.len() - 1);
            let [symbol, length] = codes[rest].map(u32::from);
            let (further, size) = (symbol / 16, symbol % 16);
            match value(AC_BITS - read, rest >> read, [symbol, length]) {
                Some(0) if size == 0 && further < 15 => {
                    packed(read + length, run + 1 + LAST, run, [first, 0])
                }
                Some(second) if size > 0 && (-64..64).contains(&second) => packed(
                    read + length + size,
                    run + further + 2,
                    run,
                    [first, second],
                ),
                _ => packed(read, run + 1, run, [first, 0]),
            }
        });
    }
}

/// The value behind a code, if `bits`, of which there are `count`, hold both as a whole.
fn value(count: u32, bits: usize, [symbol, length]: [u32; 2]) -> Option<i32> {
    let size = symbol % 16;
    if length == 0 || length + size > count {
        return None;
    }
    let value = (bits >> (count - length - size)) as i32 & ((1 << size) - 1);
    Some(match size {
        0 => 0,
        _ if value >> (size - 1) == 0 => value + 1 - (1 << size),
        _ => value,
    })
}
