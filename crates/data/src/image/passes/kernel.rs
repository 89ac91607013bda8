//! The arithmetic of the passes on sixteen lanes: in plain Rust, and with AVX2.

use super::weights::Weights;

/// Sums that are computed side by side: rows of the horizontal pass, columns of the vertical one.
pub(in crate::image) const LANES: usize = 16;

/// Two samples of each lane, one beside the other.
pub(in crate::image) type Pairs<W> = [[<W as Weights>::Sample; 2]; LANES];

/// What works on sixteen lanes at once.
pub(in crate::image) trait Lanes: Copy {
    /// Rows to columns.
    fn transposed(self, square: &[[u8; LANES]; LANES]) -> [[u8; LANES]; LANES];
}

/// Sixteen sums under such weights, side by side.
pub(in crate::image) trait Kernel<K: Lanes>: Weights {
    type Sums: Copy;

    /// The sums of nothing.
    fn start(kernel: K) -> Self::Sums;

    /// Samples of one place and of the next.
    fn pair(kernel: K, first: &[u8; LANES], second: &[u8; LANES]) -> Pairs<Self>;

    /// Adds `weight * value` of both values of each lane.
    fn add(self, kernel: K, sums: Self::Sums, pairs: &Pairs<Self>) -> Self::Sums;

    /// The sums without their fraction, clipped to `u8`.
    fn clip(kernel: K, sums: Self::Sums) -> [u8; LANES];
}

/// Any processor.
#[derive(Clone, Copy)]
pub(in crate::image) struct Portable;

impl Lanes for Portable {
    #[inline(always)]
    fn transposed(self, square: &[[u8; LANES]; LANES]) -> [[u8; LANES]; LANES] {
        std::array::from_fn(|x| std::array::from_fn(|y| square[y][x]))
    }
}

impl<W: Weights> Kernel<Portable> for W {
    type Sums = [i32; LANES];

    #[inline(always)]
    fn start(_: Portable) -> Self::Sums {
        [1 << (W::BITS - 1); LANES]
    }

    #[inline(always)]
    fn pair(_: Portable, first: &[u8; LANES], second: &[u8; LANES]) -> Pairs<W> {
        std::array::from_fn(|lane| [first[lane].into(), second[lane].into()])
    }

    #[inline(always)]
    fn add(self, _: Portable, mut sums: Self::Sums, pairs: &Pairs<W>) -> Self::Sums {
        let [first, second] = self.whole();
        for (sum, &[a, b]) in sums.iter_mut().zip(pairs) {
            *sum += first * a.into() + second * b.into();
        }
        sums
    }

    #[inline(always)]
    fn clip(_: Portable, sums: Self::Sums) -> [u8; LANES] {
        sums.map(|sum| (sum >> W::BITS).clamp(0, 255) as u8)
    }
}

/// The best kernel that there may be.
#[cfg(target_arch = "x86_64")]
pub(in crate::image) type Wide = pulp::x86::V3;
#[cfg(not(target_arch = "x86_64"))]
pub(in crate::image) type Wide = Portable;

/// Weights for any kernel.
pub(in crate::image) trait Precision: Kernel<Portable> + Kernel<Wide> {}

impl<W: Kernel<Portable> + Kernel<Wide>> Precision for W {}

#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::{__m128i, __m256i};

    use pulp::x86::V3;

    use super::super::weights::{Coarse, Exact};
    use super::{Kernel, LANES, Lanes, Pairs, Weights};

    impl Lanes for V3 {
        /// By interleaving row `i` with row `i + 8` four times.
        #[inline(always)]
        fn transposed(self, square: &[[u8; LANES]; LANES]) -> [[u8; LANES]; LANES] {
            let mut square: [__m128i; LANES] = pulp::cast(*square);
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

    #[inline(always)]
    fn interleaved(kernel: V3, first: &[u8; LANES], second: &[u8; LANES]) -> [__m128i; 2] {
        let (first, second) = (pulp::cast(*first), pulp::cast(*second));
        [
            kernel.sse2._mm_unpacklo_epi8(first, second),
            kernel.sse2._mm_unpackhi_epi8(first, second),
        ]
    }

    /// Sums of the weights' high parts and of their low ones, eight lanes each. They wrap, and so does what is made of them: the
    /// whole sum fits.
    impl Kernel<V3> for Exact {
        type Sums = [[__m256i; 2]; 2];

        #[inline(always)]
        fn start(kernel: V3) -> Self::Sums {
            let half = kernel.avx._mm256_set1_epi32(1 << (Self::BITS - 1));
            [[kernel.avx._mm256_setzero_si256(); 2], [half; 2]]
        }

        #[inline(always)]
        fn pair(kernel: V3, first: &[u8; LANES], second: &[u8; LANES]) -> Pairs<Self> {
            let halves = interleaved(kernel, first, second);
            pulp::cast(halves.map(|half| kernel.avx2._mm256_cvtepu8_epi16(half)))
        }

        #[inline(always)]
        fn add(self, kernel: V3, [high, low]: Self::Sums, pairs: &Pairs<Self>) -> Self::Sums {
            let pairs: [__m256i; 2] = pulp::cast(*pairs);
            let added = |sums: [__m256i; 2], weights: [i16; 2]| {
                let weights = kernel.avx._mm256_set1_epi32(pulp::cast(weights));
                [0, 1].map(|half| {
                    let products = kernel.avx2._mm256_madd_epi16(pairs[half], weights);
                    kernel.avx2._mm256_add_epi32(sums[half], products)
                })
            };
            [added(high, self.high), added(low, self.low)]
        }

        #[inline(always)]
        fn clip(kernel: V3, [high, low]: Self::Sums) -> [u8; LANES] {
            const SHIFT: i32 = Exact::BITS as i32;
            const LOW: i32 = Exact::LOW as i32;
            let (sse2, avx, avx2) = (kernel.sse2, kernel.avx, kernel.avx2);
            let narrow = |high, low| {
                let high = avx2._mm256_slli_epi32::<LOW>(high);
                let sums = avx2._mm256_srai_epi32::<SHIFT>(avx2._mm256_add_epi32(high, low));
                let upper = avx2._mm256_extracti128_si256::<1>(sums);
                sse2._mm_packs_epi32(avx._mm256_castsi256_si128(sums), upper)
            };
            let halves = [narrow(high[0], low[0]), narrow(high[1], low[1])];
            pulp::cast(sse2._mm_packus_epi16(halves[0], halves[1]))
        }
    }

    impl Kernel<V3> for Coarse {
        type Sums = __m256i;

        #[inline(always)]
        fn start(kernel: V3) -> Self::Sums {
            kernel.avx._mm256_set1_epi16(1 << (Self::BITS - 1))
        }

        #[inline(always)]
        fn pair(kernel: V3, first: &[u8; LANES], second: &[u8; LANES]) -> Pairs<Self> {
            pulp::cast(interleaved(kernel, first, second))
        }

        #[inline(always)]
        fn add(self, kernel: V3, sums: Self::Sums, pairs: &Pairs<Self>) -> Self::Sums {
            let weights = kernel.avx._mm256_set1_epi16(pulp::cast(self.0));
            let products = kernel
                .avx2
                ._mm256_maddubs_epi16(pulp::cast(*pairs), weights);
            kernel.avx2._mm256_add_epi16(sums, products)
        }

        #[inline(always)]
        fn clip(kernel: V3, sums: Self::Sums) -> [u8; LANES] {
            const SHIFT: i32 = Coarse::BITS as i32;
            let sums = kernel.avx2._mm256_srai_epi16::<SHIFT>(sums);
            let upper = kernel.avx2._mm256_extracti128_si256::<1>(sums);
            let lower = kernel.avx._mm256_castsi256_si128(sums);
            pulp::cast(kernel.sse2._mm_packus_epi16(lower, upper))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::weights::{Coarse, Exact};
    use super::*;
    use crate::image::taps::PRECISION;

    fn check<K: Lanes, W: Kernel<K>>(kernel: K) {
        let square: [[u8; LANES]; LANES] =
            std::array::from_fn(|y| std::array::from_fn(|x| (y * 37 + x * 101) as u8));
        let turned = kernel.transposed(&square);
        for (y, row) in square.iter().enumerate() {
            for x in 0..LANES {
                assert_eq!(turned[x][y], row[x]);
            }
        }
        // Not more than a filter's weights may add up to.
        let one = 1 << PRECISION;
        let weights = [one, -700_000, 3, -1, one / 32, one / 2, -one, 0];
        let mut sums = W::start(kernel);
        let mut expected = [1 << (W::BITS - 1); LANES];
        let (rows, _) = square.as_chunks::<2>();
        let (weights, _) = weights.as_chunks::<2>();
        for (y, ([first, second], weights)) in rows.iter().zip(weights).enumerate() {
            let weights = W::new(*weights, &mut 0);
            sums = weights.add(kernel, sums, &W::pair(kernel, first, second));
            let [a, b] = weights.whole();
            for (lane, sum) in expected.iter_mut().enumerate() {
                *sum += a * i32::from(first[lane]) + b * i32::from(second[lane]);
            }
            let clipped = expected.map(|sum| (sum >> W::BITS).clamp(0, 255) as u8);
            assert_eq!(W::clip(kernel, sums), clipped, "after {y} pairs");
        }
    }

    #[test]
    fn kernels_agree() {
        check::<_, Exact>(Portable);
        check::<_, Coarse>(Portable);
        #[cfg(target_arch = "x86_64")]
        if let Some(kernel) = pulp::x86::V3::try_new() {
            check::<_, Exact>(kernel);
            check::<_, Coarse>(kernel);
        }
    }
}
