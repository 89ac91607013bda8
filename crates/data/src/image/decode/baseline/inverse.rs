//! The inverse transform of two blocks at once: at full size libjpeg's accurate one in whole numbers (`jidctint.c`), to the last
//! bit; at half the size that of [`reduced`].

use libjpeg_turbo_rs::simd;

use super::reduced;

/// Samples of a block in rows.
pub(super) type Block = [[u8; 8]; 8];

/// Transforms two blocks at once.
pub(super) trait Inverse: Copy {
    /// `coefficients` and `quantizers` are in rows.
    fn pair(self, coefficients: [&[i16; 64]; 2], quantizers: [&[u16; 64]; 2]) -> [Block; 2];

    /// 4×4 samples of each.
    fn halves(self, coefficients: [&[i16; 64]; 2], quantizers: [&[u16; 64]; 2]) -> [[u8; 16]; 2];
}

/// Any processor: libjpeg-turbo-rs's.
#[derive(Clone, Copy)]
pub(super) struct Portable(pub fn(&[i16; 64], &[u16; 64], &mut [u8; 64]));

impl Portable {
    pub fn new() -> Self {
        Self(simd::detect().idct_islow)
    }

    #[inline(always)]
    fn one(self, coefficients: &[i16; 64], quantizers: &[u16; 64]) -> Block {
        let mut block = [0; 64];
        self.0(coefficients, quantizers, &mut block);
        std::array::from_fn(|y| std::array::from_fn(|x| block[8 * y + x]))
    }
}

impl Inverse for Portable {
    #[inline(always)]
    fn pair(self, coefficients: [&[i16; 64]; 2], quantizers: [&[u16; 64]; 2]) -> [Block; 2] {
        [0, 1].map(|i| self.one(coefficients[i], quantizers[i]))
    }

    #[inline(always)]
    fn halves(self, coefficients: [&[i16; 64]; 2], quantizers: [&[u16; 64]; 2]) -> [[u8; 16]; 2] {
        [0, 1].map(|i| reduced::half(coefficients[i], quantizers[i]))
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use self::wide::Wide;

#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::__m256i;

    use super::{Block, Inverse, Portable, reduced};

    /// One block in each half of the registers. Closures are avoided, since those that are not inlined lack the wide vectors.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Wide {
        pub kernel: pulp::x86::V3,
        pub rest: Portable,
    }

    /// Bits after the point of the factors, and those that the columns' results keep.
    const BITS: i32 = 13;
    const KEPT: i32 = 2;
    const COLUMNS: i32 = BITS - KEPT;
    const ROWS: i32 = BITS + KEPT + 3;

    /// From this on the sum of two coefficients of a row may overflow.
    const LARGEST: i16 = i16::MAX >> (KEPT + 1);

    type Rows = [__m256i; 8];
    /// Lanes of 32 bits: those of the lower four values of each half, and of the upper ones.
    type Long = [__m256i; 2];

    impl Inverse for Wide {
        #[inline(always)]
        fn pair(self, coefficients: [&[i16; 64]; 2], quantizers: [&[u16; 64]; 2]) -> [Block; 2] {
            let (avx, avx2) = (self.kernel.avx, self.kernel.avx2);
            let rows = self.dequantized(coefficients, quantizers);
            if self.is_beyond(coefficients, quantizers) {
                return self.rest.pair(coefficients, quantizers);
            }
            let rows = self.transposed(self.pass::<COLUMNS>(rows));
            let rows = self.transposed(self.pass::<ROWS>(rows));
            let middle = avx._mm256_set1_epi8(-128);
            // Two rows of the first block, and the same ones of the second.
            let mut blocks = [[[0; 8]; 8]; 2];
            for y in 0..4 {
                let bytes = avx2._mm256_packs_epi16(rows[2 * y], rows[2 * y + 1]);
                let [first, second]: [[[u8; 8]; 2]; 2] =
                    pulp::cast(avx2._mm256_add_epi8(bytes, middle));
                [blocks[0][2 * y], blocks[0][2 * y + 1]] = first;
                [blocks[1][2 * y], blocks[1][2 * y + 1]] = second;
            }
            blocks
        }

        #[inline(always)]
        fn halves(
            self,
            coefficients: [&[i16; 64]; 2],
            quantizers: [&[u16; 64]; 2],
        ) -> [[u8; 16]; 2] {
            let (avx, avx2) = (self.kernel.avx, self.kernel.avx2);
            let [r0, r1, r2, r3, r4, r5, r6, r7] = self.dequantized(coefficients, quantizers);
            let (even, last) = (self.beside(r0, r2), self.beside(r4, r6));
            let (odd, others) = (self.beside(r1, r3), self.beside(r5, r7));
            let low = self.half_pass::<COLUMNS>([even[0], last[0], odd[0], others[0]]);
            let high = self.half_pass::<COLUMNS>([even[1], last[1], odd[1], others[1]]);
            let s0 = avx2._mm256_packs_epi32(low[0], high[0]);
            let s1 = avx2._mm256_packs_epi32(low[1], high[1]);
            let s2 = avx2._mm256_packs_epi32(low[2], high[2]);
            let s3 = avx2._mm256_packs_epi32(low[3], high[3]);
            // The four values of each column, two columns in a half of a register.
            let (upper, lower) = (self.beside(s0, s1), self.beside(s2, s3));
            let c01 = avx2._mm256_unpacklo_epi32(upper[0], lower[0]);
            let c23 = avx2._mm256_unpackhi_epi32(upper[0], lower[0]);
            let c45 = avx2._mm256_unpacklo_epi32(upper[1], lower[1]);
            let c67 = avx2._mm256_unpackhi_epi32(upper[1], lower[1]);
            let ([even, odd], [last, others]) = (self.beside(c01, c23), self.beside(c45, c67));
            let [x0, x1, x2, x3] = self.half_pass::<{ BITS + KEPT }>([even, last, odd, others]);
            let bytes = avx2._mm256_packs_epi16(
                avx2._mm256_packs_epi32(x0, x1),
                avx2._mm256_packs_epi32(x2, x3),
            );
            let bytes = avx2._mm256_add_epi8(bytes, avx._mm256_set1_epi8(-128));
            const ROWS_OF_COLUMNS: [u8; 16] =
                [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];
            pulp::cast(avx2._mm256_shuffle_epi8(bytes, pulp::cast([ROWS_OF_COLUMNS; 2])))
        }
    }

    impl Wide {
        #[inline(always)]
        fn dequantized(self, [a, b]: [&[i16; 64]; 2], [by_a, by_b]: [&[u16; 64]; 2]) -> Rows {
            let (a, b) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
            let (by_a, by_b) = (by_a.as_chunks::<8>().0, by_b.as_chunks::<8>().0);
            let mut rows = [self.kernel.avx._mm256_setzero_si256(); 8];
            for y in 0..8 {
                let (values, factors) = (pulp::cast([a[y], b[y]]), pulp::cast([by_a[y], by_b[y]]));
                rows[y] = self.kernel.avx2._mm256_mullo_epi16(values, factors);
            }
            rows
        }

        /// The four samples of eight coefficients, given as the pairs 0 and 2, 4 and 6, 1 and 3, 5 and 7, without the last `SHIFT`
        /// bits.
        #[inline(always)]
        fn half_pass<const SHIFT: i32>(
            self,
            [even, last, odd, others]: [__m256i; 4],
        ) -> [__m256i; 4] {
            let avx2 = self.kernel.avx2;
            let half = self.kernel.avx._mm256_set1_epi32(1 << (SHIFT - 1));
            let flat = avx2._mm256_add_epi32(self.sum(even, [reduced::FLAT, 0]), half);
            let [second, sixth] = reduced::EVEN;
            let bend =
                avx2._mm256_add_epi32(self.sum(even, [0, second]), self.sum(last, [0, sixth]));
            let outer = avx2._mm256_add_epi32(flat, bend);
            let inner = avx2._mm256_sub_epi32(flat, bend);
            let [[a, b, c, d], [e, f, g, h]] = reduced::ODD;
            let far = avx2._mm256_add_epi32(self.sum(odd, [a, b]), self.sum(others, [c, d]));
            let near = avx2._mm256_add_epi32(self.sum(odd, [e, f]), self.sum(others, [g, h]));
            [
                avx2._mm256_srai_epi32::<SHIFT>(avx2._mm256_add_epi32(outer, far)),
                avx2._mm256_srai_epi32::<SHIFT>(avx2._mm256_add_epi32(inner, near)),
                avx2._mm256_srai_epi32::<SHIFT>(avx2._mm256_sub_epi32(inner, near)),
                avx2._mm256_srai_epi32::<SHIFT>(avx2._mm256_sub_epi32(outer, far)),
            ]
        }

        #[inline(always)]
        fn sum(self, pairs: __m256i, factors: [i32; 2]) -> __m256i {
            let factors = pulp::cast([factors[0] as i16, factors[1] as i16]);
            let factors = self.kernel.avx._mm256_set1_epi32(factors);
            self.kernel.avx2._mm256_madd_epi16(pairs, factors)
        }

        /// Whether a coefficient of the first row is too large: libjpeg has several ways of computing a block with no other row, which
        /// then differ.
        #[inline(always)]
        fn is_beyond(self, [a, b]: [&[i16; 64]; 2], [by_a, by_b]: [&[u16; 64]; 2]) -> bool {
            let (avx, avx2) = (self.kernel.avx, self.kernel.avx2);
            let (a, b) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
            let (by_a, by_b) = (by_a.as_chunks::<8>().0, by_b.as_chunks::<8>().0);
            let (values, factors) = (pulp::cast([a[0], b[0]]), pulp::cast([by_a[0], by_b[0]]));
            let products = avx2._mm256_mullo_epi16(values, factors);
            let rest = avx2._mm256_mulhi_epi16(values, factors);
            let signs = avx2._mm256_srai_epi16::<15>(products);
            let fits = avx2._mm256_cmpeq_epi16(rest, signs);
            let size = avx2._mm256_abs_epi16(products);
            let is_small = avx2._mm256_cmpgt_epi16(avx._mm256_set1_epi16(LARGEST), size);
            let is_positive = avx2._mm256_cmpgt_epi16(factors, avx._mm256_set1_epi16(-1));
            // The least number is its own absolute value.
            let is_least = avx2._mm256_srai_epi16::<15>(size);
            let are_fine =
                avx2._mm256_and_si256(avx2._mm256_and_si256(fits, is_small), is_positive);
            avx2._mm256_movemask_epi8(avx2._mm256_andnot_si256(is_least, are_fine)) != -1
        }

        /// Eight-point transforms side by side, without the last `SHIFT` bits.
        #[inline(always)]
        fn pass<const SHIFT: i32>(self, [r0, r1, r2, r3, r4, r5, r6, r7]: Rows) -> Rows {
            let avx2 = self.kernel.avx2;
            let even = self.beside(r2, r6);
            let near = self.sums(even, [10_703, 4433]);
            let far = self.sums(even, [4433, -10_704]);
            let sum = self.long::<SHIFT>(avx2._mm256_add_epi16(r0, r4));
            let difference = self.long::<SHIFT>(avx2._mm256_sub_epi16(r0, r4));
            let odd = self.beside(avx2._mm256_add_epi16(r7, r3), avx2._mm256_add_epi16(r5, r1));
            let third = self.sums(odd, [-6436, 9633]);
            let fourth = self.sums(odd, [9633, 6437]);
            let outer = self.beside(r7, r1);
            let inner = self.beside(r5, r3);
            let evens = [
                self.add(sum, near),
                self.add(difference, far),
                self.sub(difference, far),
                self.sub(sum, near),
            ];
            let odds = [
                self.add(self.sums(outer, [-7373, 4926]), fourth),
                self.add(self.sums(inner, [-20_995, 4177]), third),
                self.add(self.sums(inner, [-4176, -20_995]), fourth),
                self.add(self.sums(outer, [-4927, -7373]), third),
            ];
            [
                self.short::<SHIFT>(self.add(evens[0], odds[0])),
                self.short::<SHIFT>(self.add(evens[1], odds[1])),
                self.short::<SHIFT>(self.add(evens[2], odds[2])),
                self.short::<SHIFT>(self.add(evens[3], odds[3])),
                self.short::<SHIFT>(self.sub(evens[3], odds[3])),
                self.short::<SHIFT>(self.sub(evens[2], odds[2])),
                self.short::<SHIFT>(self.sub(evens[1], odds[1])),
                self.short::<SHIFT>(self.sub(evens[0], odds[0])),
            ]
        }

        /// Pairs of a value of each.
        #[inline(always)]
        fn beside(self, a: __m256i, b: __m256i) -> Long {
            let avx2 = self.kernel.avx2;
            [
                avx2._mm256_unpacklo_epi16(a, b),
                avx2._mm256_unpackhi_epi16(a, b),
            ]
        }

        /// The sums of the pairs' values under two factors.
        #[inline(always)]
        fn sums(self, [low, high]: Long, factors: [i32; 2]) -> Long {
            [self.sum(low, factors), self.sum(high, factors)]
        }

        /// Values with `BITS` bits after the point, and with what results without their last `SHIFT` bits are rounded by.
        #[inline(always)]
        fn long<const SHIFT: i32>(self, values: __m256i) -> Long {
            let (avx, avx2) = (self.kernel.avx, self.kernel.avx2);
            let [low, high] = self.beside(avx._mm256_setzero_si256(), values);
            let half = avx._mm256_set1_epi32(1 << (SHIFT - 1));
            self.add(
                [
                    avx2._mm256_srai_epi32::<{ 16 - BITS }>(low),
                    avx2._mm256_srai_epi32::<{ 16 - BITS }>(high),
                ],
                [half; 2],
            )
        }

        #[inline(always)]
        fn add(self, a: Long, b: Long) -> Long {
            let avx2 = self.kernel.avx2;
            [
                avx2._mm256_add_epi32(a[0], b[0]),
                avx2._mm256_add_epi32(a[1], b[1]),
            ]
        }

        #[inline(always)]
        fn sub(self, a: Long, b: Long) -> Long {
            let avx2 = self.kernel.avx2;
            [
                avx2._mm256_sub_epi32(a[0], b[0]),
                avx2._mm256_sub_epi32(a[1], b[1]),
            ]
        }

        #[inline(always)]
        fn short<const SHIFT: i32>(self, [low, high]: Long) -> __m256i {
            let avx2 = self.kernel.avx2;
            avx2._mm256_packs_epi32(
                avx2._mm256_srai_epi32::<SHIFT>(low),
                avx2._mm256_srai_epi32::<SHIFT>(high),
            )
        }

        /// Rows to columns in each half, by interleaving row `i` with row `i + 4` three times.
        #[inline(always)]
        fn transposed(self, mut rows: Rows) -> Rows {
            let avx2 = self.kernel.avx2;
            for _ in 0..3 {
                let before = rows;
                for i in 0..4 {
                    rows[2 * i] = avx2._mm256_unpacklo_epi16(before[i], before[i + 4]);
                    rows[2 * i + 1] = avx2._mm256_unpackhi_epi16(before[i], before[i + 4]);
                }
            }
            rows
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks as pictures have them, and such as nothing but damage makes.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn two_at_once_are_as_one_by_one() {
        let Some(kernel) = pulp::x86::V3::try_new() else {
            return;
        };
        let rest = Portable::new();
        let wide = Wide { kernel, rest };
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize
        };
        for case in 0..20_000 {
            let bits = 1 + case % 15;
            let quantizers: [u16; 64] =
                std::array::from_fn(|_| 1 + (next() % (1 << (case % 9))) as u16);
            let blocks: [[i16; 64]; 2] = std::array::from_fn(|_| {
                let count = 1 + next() % 64;
                let mut block = [0; 64];
                for _ in 0..count {
                    block[next() % (1 + next() % 64)] =
                        (next() % (2 << bits)) as i16 - (1 << bits) as i16;
                }
                block
            });
            let (of, by) = (blocks.each_ref(), [&quantizers; 2]);
            if bits < 8 && case % 9 < 3 {
                assert_eq!(
                    wide.halves(of, by),
                    rest.halves(of, by),
                    "case {case}: {blocks:?}"
                );
            }
            assert_eq!(
                wide.pair(of, by),
                rest.pair(of, by),
                "case {case}: {blocks:?}, {quantizers:?}"
            );
        }
    }
}
