//! The arithmetic of the passes on sixteen lanes: in plain Rust, and with AVX2.

use crate::image::taps::PRECISION;

/// Sums that are computed side by side: rows of the horizontal pass, columns of the vertical one.
pub(in crate::image) const LANES: usize = 16;

/// What the fixed-point sums are rounded by.
const HALF: i32 = 1 << (PRECISION - 1);

/// Sixteen sums side by side.
pub(super) trait Kernel: Copy {
    type Sums: Copy;

    /// The sums of nothing.
    fn start(self) -> Self::Sums;

    /// Adds `weight * values`.
    fn add(self, sums: Self::Sums, values: &[u8; LANES], weight: i32) -> Self::Sums;

    /// The sums without their fraction, clipped to `u8`.
    fn clip(self, sums: Self::Sums) -> [u8; LANES];

    /// Rows to columns, by interleaving row `i` with row `i + 8` four times.
    fn transposed(self, square: &[[u8; LANES]; LANES]) -> [[u8; LANES]; LANES];
}

/// Any processor.
#[derive(Clone, Copy)]
pub(super) struct Portable;

impl Kernel for Portable {
    type Sums = [i32; LANES];

    #[inline(always)]
    fn start(self) -> Self::Sums {
        [HALF; LANES]
    }

    #[inline(always)]
    fn add(self, mut sums: Self::Sums, values: &[u8; LANES], weight: i32) -> Self::Sums {
        for (sum, &value) in sums.iter_mut().zip(values) {
            *sum += weight * i32::from(value);
        }
        sums
    }

    #[inline(always)]
    fn clip(self, sums: Self::Sums) -> [u8; LANES] {
        sums.map(|sum| (sum >> PRECISION).clamp(0, 255) as u8)
    }

    #[inline(always)]
    fn transposed(self, square: &[[u8; LANES]; LANES]) -> [[u8; LANES]; LANES] {
        std::array::from_fn(|x| std::array::from_fn(|y| square[y][x]))
    }
}

#[cfg(target_arch = "x86_64")]
impl Kernel for pulp::x86::V3 {
    type Sums = [std::arch::x86_64::__m256i; 2];

    #[inline(always)]
    fn start(self) -> Self::Sums {
        [self.avx._mm256_set1_epi32(HALF); 2]
    }

    #[inline(always)]
    fn add(self, [low, high]: Self::Sums, values: &[u8; LANES], weight: i32) -> Self::Sums {
        let weight = self.avx._mm256_set1_epi32(weight);
        let [first, last]: [i64; 2] = pulp::cast(*values);
        let product = |values| {
            let values = self
                .avx2
                ._mm256_cvtepu8_epi32(self.sse2._mm_set_epi64x(0, values));
            self.avx2._mm256_mullo_epi32(values, weight)
        };
        [
            self.avx2._mm256_add_epi32(low, product(first)),
            self.avx2._mm256_add_epi32(high, product(last)),
        ]
    }

    #[inline(always)]
    fn clip(self, sums: Self::Sums) -> [u8; LANES] {
        const SHIFT: i32 = PRECISION as i32;
        let [low, high] = sums.map(|sums| {
            let sums = self.avx2._mm256_srai_epi32::<SHIFT>(sums);
            let upper = self.avx2._mm256_extracti128_si256::<1>(sums);
            self.sse2
                ._mm_packs_epi32(self.avx._mm256_castsi256_si128(sums), upper)
        });
        pulp::cast(self.sse2._mm_packus_epi16(low, high))
    }

    #[inline(always)]
    fn transposed(self, square: &[[u8; LANES]; LANES]) -> [[u8; LANES]; LANES] {
        let mut square: [std::arch::x86_64::__m128i; LANES] = pulp::cast(*square);
        for _ in 0..LANES.ilog2() {
            let rows = square;
            for i in 0..LANES / 2 {
                square[2 * i] = self.sse2._mm_unpacklo_epi8(rows[i], rows[i + LANES / 2]);
                square[2 * i + 1] = self.sse2._mm_unpackhi_epi8(rows[i], rows[i + LANES / 2]);
            }
        }
        pulp::cast(square)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kernel: impl Kernel) {
        let square: [[u8; LANES]; LANES] =
            std::array::from_fn(|y| std::array::from_fn(|x| (y * 37 + x * 101) as u8));
        let turned = kernel.transposed(&square);
        let weights = [
            1 << PRECISION,
            -700_000,
            3,
            -1,
            123_456,
            4_000_000,
            -(1 << PRECISION),
            0,
        ];
        let (mut sums, mut expected) = (kernel.start(), Portable.start());
        for (y, (row, weight)) in square.iter().zip(weights.into_iter().cycle()).enumerate() {
            for x in 0..LANES {
                assert_eq!(turned[x][y], row[x]);
            }
            sums = kernel.add(sums, row, weight);
            expected = Portable.add(expected, row, weight);
            assert_eq!(kernel.clip(sums), Portable.clip(expected), "after {y} rows");
        }
    }

    #[test]
    fn kernels_agree() {
        check(Portable);
        #[cfg(target_arch = "x86_64")]
        if let Some(kernel) = pulp::x86::V3::try_new() {
            check(kernel);
        }
    }
}
