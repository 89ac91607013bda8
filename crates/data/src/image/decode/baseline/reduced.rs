//! The inverse transform of a block to fewer samples, each the mean of those it stands for, as libjpeg's `jidctred.c`.

/// Bits after the point of the factors.
const BITS: u32 = 13;
/// Bits after the point that the columns' results keep.
const KEPT: u32 = 2;

/// Factor of the coefficient 0.
pub(super) const FLAT: i32 = 2896;
/// Factors of the coefficients 2 and 6, and of 1, 3, 5 and 7, in the first sample; and of the latter in the second: means of two
/// neighbours of the eight-point transform. Coefficient 4 cancels out.
pub(super) const EVEN: [i32; 2] = [2676, -1108];
pub(super) const ODD: [[i32; 4]; 2] = [[3711, 1303, -871, -738], [1537, -3146, 2102, -306]];

/// One sample for all 64.
#[inline(always)]
pub(super) fn eighth(coefficients: &[i16; 64], quantizers: &[u16; 64]) -> [u8; 1] {
    let sum = i32::from(coefficients[0]).wrapping_mul(i32::from(quantizers[0]));
    [((sum.wrapping_add(4) >> 3).wrapping_add(128)).clamp(0, 255) as u8]
}

/// 2×2 samples of 4×4, in rows.
#[inline(always)]
pub(super) fn quarter(samples: &[u8; 16]) -> [u8; 4] {
    std::array::from_fn(|i| {
        let first = i / 2 * 8 + i % 2 * 2;
        let sum: u16 = [0, 1, 4, 5]
            .map(|step| u16::from(samples[first + step]))
            .iter()
            .sum();
        ((sum + 2) >> 2) as u8
    })
}

/// 4×4 samples in rows. `coefficients` and `quantizers` are in rows as well.
#[inline(always)]
pub(super) fn half(coefficients: &[i16; 64], quantizers: &[u16; 64]) -> [u8; 16] {
    let rows: [[i32; 8]; 8] = std::array::from_fn(|y| {
        std::array::from_fn(|x| {
            i32::from(coefficients[8 * y + x]).wrapping_mul(i32::from(quantizers[8 * y + x]))
        })
    });
    let columns = pass(&rows, BITS - KEPT);
    let turned: [[i32; 4]; 8] = std::array::from_fn(|x| std::array::from_fn(|y| columns[y][x]));
    let samples = pass(&turned, BITS + KEPT);
    std::array::from_fn(|i| samples[i % 4][i / 4].wrapping_add(128).clamp(0, 255) as u8)
}

/// The four samples of each of `N` columns of eight coefficients, without the last `shift` bits.
#[inline(always)]
fn pass<const N: usize>(rows: &[[i32; N]; 8], shift: u32) -> [[i32; N]; 4] {
    let half = 1 << (shift - 1);
    let mut out = [[0; N]; 4];
    for x in 0..N {
        let product = |factor: i32, row: usize| factor.wrapping_mul(rows[row][x]);
        let flat = product(FLAT, 0).wrapping_add(half);
        let even = product(EVEN[0], 2).wrapping_add(product(EVEN[1], 6));
        let odd = ODD.map(|[a, b, c, d]| {
            product(a, 1)
                .wrapping_add(product(b, 3))
                .wrapping_add(product(c, 5))
                .wrapping_add(product(d, 7))
        });
        let (outer, inner) = (flat.wrapping_add(even), flat.wrapping_sub(even));
        out[0][x] = outer.wrapping_add(odd[0]) >> shift;
        out[1][x] = inner.wrapping_add(odd[1]) >> shift;
        out[2][x] = inner.wrapping_sub(odd[1]) >> shift;
        out[3][x] = outer.wrapping_sub(odd[0]) >> shift;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of a few coefficients, as those of pictures are, beside the means of what libjpeg's full transform makes of them.
    #[test]
    fn samples_are_means_of_the_full_transforms() {
        let full = libjpeg_turbo_rs::simd::detect().idct_islow;
        let quantizers = [1; 64];
        for case in 0..200_usize {
            let mut coefficients = [0; 64];
            coefficients[0] = (case * 7 % 400) as i16 - 200;
            for i in 0..case % 6 {
                let step = case * 31 + i * 17;
                coefficients[step * 13 % 64] = (step * 29 % 121) as i16 - 60;
            }
            let mut block = [0; 64];
            full(&coefficients, &quantizers, &mut block);
            let mean = |side: usize, i: usize| {
                let (top, left) = (i * side / 8 * side, i * side % 8);
                let rows = top..top + side;
                let samples = rows.flat_map(|y| (left..left + side).map(move |x| (y, x)));
                let sum: u32 = samples.map(|(y, x)| u32::from(block[8 * y + x])).sum();
                sum as f64 / (side * side) as f64
            };
            // Where samples are cut off at black or white their mean is another.
            if block.iter().any(|&sample| sample == 0 || sample == 255) {
                continue;
            }
            let check = |samples: &[u8], side: usize| {
                for (i, &sample) in samples.iter().enumerate() {
                    let apart = (f64::from(sample) - mean(side, i)).abs();
                    assert!(
                        apart <= 1.3,
                        "case {case}, {side} to one, sample {i}: {apart}"
                    );
                }
            };
            check(&half(&coefficients, &quantizers), 2);
            check(&quarter(&half(&coefficients, &quantizers)), 4);
            check(&eighth(&coefficients, &quantizers), 8);
        }
    }
}
