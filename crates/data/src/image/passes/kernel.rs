//! The arithmetic of the passes on sixteen lanes: in plain Rust, and with AVX2.

use crate::image::taps::PRECISION;

/// Sums that are computed side by side: rows of the horizontal pass, columns of the vertical one.
pub(in crate::image) const LANES: usize = 16;

/// What the fixed-point sums are rounded by.
const HALF: i32 = 1 << (PRECISION - 1);

/// Two samples of each lane, one beside the other.
pub(super) type Pairs = [[i16; LANES]; 2];

/// The weights of two samples. A weight is `high · 2¹¹ + low`, so that both parts fit the processor's products of pairs of 16 bits.
#[derive(Clone, Copy, Default)]
pub(super) struct Weights {
    high: [i16; 2],
    low: [i16; 2],
}

/// Bits of a weight's lower part.
const LOW: u32 = 11;

impl Weights {
    pub fn new(weights: [i32; 2]) -> Self {
        Self {
            high: weights.map(|weight| (weight >> LOW) as i16),
            low: weights.map(|weight| (weight & ((1 << LOW) - 1)) as i16),
        }
    }

    #[inline(always)]
    fn whole(self) -> [i32; 2] {
        [0, 1].map(|i| (i32::from(self.high[i]) << LOW) + i32::from(self.low[i]))
    }
}

/// Sixteen sums side by side.
pub(super) trait Kernel: Copy {
    type Sums: Copy;

    /// The sums of nothing.
    fn start(self) -> Self::Sums;

    /// Samples of one place and of the next.
    fn pair(self, first: &[u8; LANES], second: &[u8; LANES]) -> Pairs;

    /// Adds `weight * value` of both values of each lane.
    fn add(self, sums: Self::Sums, pairs: &Pairs, weights: Weights) -> Self::Sums;

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
    fn pair(self, first: &[u8; LANES], second: &[u8; LANES]) -> Pairs {
        std::array::from_fn(|half| {
            std::array::from_fn(|i| {
                let lane = half * LANES / 2 + i / 2;
                i16::from(if i % 2 == 0 {
                    first[lane]
                } else {
                    second[lane]
                })
            })
        })
    }

    #[inline(always)]
    fn add(self, mut sums: Self::Sums, pairs: &Pairs, weights: Weights) -> Self::Sums {
        let [first, second] = weights.whole();
        let (pairs, _) = pairs.as_flattened().as_chunks::<2>();
        for (sum, &[a, b]) in sums.iter_mut().zip(pairs) {
            *sum += first * i32::from(a) + second * i32::from(b);
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

/// Sums of the weights' high parts and of their low ones, eight lanes each. They wrap, and so does what is made of them: the
/// whole sum fits.
#[cfg(target_arch = "x86_64")]
impl Kernel for pulp::x86::V3 {
    type Sums = [[std::arch::x86_64::__m256i; 2]; 2];

    #[inline(always)]
    fn start(self) -> Self::Sums {
        let nothing = self.avx._mm256_setzero_si256();
        [[nothing; 2], [self.avx._mm256_set1_epi32(HALF); 2]]
    }

    #[inline(always)]
    fn pair(self, first: &[u8; LANES], second: &[u8; LANES]) -> Pairs {
        let (first, second) = (pulp::cast(*first), pulp::cast(*second));
        let halves = [
            self.sse2._mm_unpacklo_epi8(first, second),
            self.sse2._mm_unpackhi_epi8(first, second),
        ];
        halves.map(|half| pulp::cast(self.avx2._mm256_cvtepu8_epi16(half)))
    }

    #[inline(always)]
    fn add(self, sums: Self::Sums, pairs: &Pairs, weights: Weights) -> Self::Sums {
        let [high, low] =
            [weights.high, weights.low].map(|parts| self.avx._mm256_set1_epi32(pulp::cast(parts)));
        let pairs: [std::arch::x86_64::__m256i; 2] = pulp::cast(*pairs);
        let added = |sum, pairs, weights| {
            let products = self.avx2._mm256_madd_epi16(pairs, weights);
            self.avx2._mm256_add_epi32(sum, products)
        };
        let [high_sums, low_sums] = sums;
        [
            [
                added(high_sums[0], pairs[0], high),
                added(high_sums[1], pairs[1], high),
            ],
            [
                added(low_sums[0], pairs[0], low),
                added(low_sums[1], pairs[1], low),
            ],
        ]
    }

    #[inline(always)]
    fn clip(self, [high, low]: Self::Sums) -> [u8; LANES] {
        const SHIFT: i32 = PRECISION as i32;
        const LOW_SHIFT: i32 = LOW as i32;
        let narrow = |high, low| {
            let high = self.avx2._mm256_slli_epi32::<LOW_SHIFT>(high);
            let sums = self.avx2._mm256_add_epi32(high, low);
            let sums = self.avx2._mm256_srai_epi32::<SHIFT>(sums);
            let upper = self.avx2._mm256_extracti128_si256::<1>(sums);
            self.sse2
                ._mm_packs_epi32(self.avx._mm256_castsi256_si128(sums), upper)
        };
        let halves = [narrow(high[0], low[0]), narrow(high[1], low[1])];
        pulp::cast(self.sse2._mm_packus_epi16(halves[0], halves[1]))
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
        for (y, row) in square.iter().enumerate() {
            for x in 0..LANES {
                assert_eq!(turned[x][y], row[x]);
            }
        }
        let mut sums = kernel.start();
        let mut expected = [HALF; LANES];
        let (rows, _) = square.as_chunks::<2>();
        let (weights, _) = weights.as_chunks::<2>();
        for (y, ([first, second], weights)) in rows.iter().zip(weights.iter().cycle()).enumerate() {
            sums = kernel.add(sums, &kernel.pair(first, second), Weights::new(*weights));
            for (lane, sum) in expected.iter_mut().enumerate() {
                *sum += weights[0] * i32::from(first[lane]) + weights[1] * i32::from(second[lane]);
            }
            let clipped = expected.map(|sum| (sum >> PRECISION).clamp(0, 255) as u8);
            assert_eq!(kernel.clip(sums), clipped, "after {y} pairs");
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
