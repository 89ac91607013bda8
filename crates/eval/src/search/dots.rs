//! Dot products of rows, as they lie in a file, with queries.

use half::f16;

use crate::embeddings::Numbers;

/// Queries that one pass over a row serves.
pub(super) const TOGETHER: usize = 4;
/// Numbers of a vector register.
const LANES: usize = 8;

/// The dot products of every row with every query; `scores` is `[queries, rows]`. `rows` lie end to end, the low byte first.
pub(super) fn dots(rows: &[u8], numbers: Numbers, queries: &[&[f32]], scores: &mut [f32]) {
    let Some(width) = queries.first().map(|query| query.len()) else {
        return;
    };
    let count = rows.len() / (width * numbers.bytes()).max(1);
    let (groups, rest) = queries.as_chunks::<TOGETHER>();
    let (of_groups, of_rest) = scores.split_at_mut(groups.len() * TOGETHER * count);
    for (group, scores) in groups.iter().zip(of_groups.chunks_mut(TOGETHER * count)) {
        some(rows, numbers, *group, scores);
    }
    for (query, scores) in rest.iter().zip(of_rest.chunks_mut(count.max(1))) {
        some(rows, numbers, [query], scores);
    }
}

#[cfg(target_arch = "x86_64")]
fn has_all() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

#[allow(unsafe_code, reason = "the processor is asked first")]
fn some<const Q: usize>(rows: &[u8], numbers: Numbers, queries: [&[f32]; Q], scores: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if has_all() {
        // SAFETY: the processor has the instructions.
        return unsafe {
            match numbers {
                Numbers::Float16 => x86::halves(rows, queries, scores),
                Numbers::Float32 => x86::words(rows, queries, scores),
            }
        };
    }
    let load: fn(&[u8]) -> [f32; LANES] = match numbers {
        Numbers::Float16 => |bytes| std::array::from_fn(|at| half(bytes, at)),
        Numbers::Float32 => |bytes| std::array::from_fn(|at| word(bytes, at)),
    };
    plain(rows, numbers, queries, scores, load);
}

fn half(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[2 * at], bytes[2 * at + 1]]).to_f32()
}

fn word(bytes: &[u8], at: usize) -> f32 {
    let at = 4 * at;
    f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// On any processor.
fn plain<const Q: usize>(
    rows: &[u8],
    numbers: Numbers,
    queries: [&[f32]; Q],
    scores: &mut [f32],
    load: fn(&[u8]) -> [f32; LANES],
) {
    let (width, size) = (queries[0].len(), numbers.bytes());
    let count = rows.len() / (width * size).max(1);
    for (row, bytes) in rows.chunks_exact(width * size).enumerate() {
        let mut sums = [[0.0; LANES]; Q];
        for (at, bytes) in bytes.chunks_exact(LANES * size).enumerate() {
            let values = load(bytes);
            for (sums, query) in sums.iter_mut().zip(&queries) {
                let query = &query[at * LANES..(at + 1) * LANES];
                for ((sum, value), query) in sums.iter_mut().zip(values).zip(query) {
                    *sum += value * query;
                }
            }
        }
        for (q, query) in queries.iter().enumerate() {
            let rest = tail(bytes, numbers, query);
            scores[q * count + row] = sums[q].iter().sum::<f32>() + rest;
        }
    }
}

/// What the numbers behind the last whole register add.
#[inline(always)]
fn tail(bytes: &[u8], numbers: Numbers, query: &[f32]) -> f32 {
    let from = query.len() / LANES * LANES;
    let value = |at| match numbers {
        Numbers::Float16 => half(bytes, at),
        Numbers::Float32 => word(bytes, at),
    };
    (from..query.len()).map(|at| value(at) * query[at]).sum()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, __m256, _mm256_add_ps, _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_setzero_ps,
    };

    use bytemuck::{cast, cast_slice, pod_read_unaligned};

    use super::{LANES, Numbers, tail};

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn halves<const Q: usize>(rows: &[u8], queries: [&[f32]; Q], scores: &mut [f32]) {
        let width = queries[0].len();
        let count = rows.len() / (2 * width).max(1);
        for (row, bytes) in rows.chunks_exact(2 * width).enumerate() {
            let mut sums = [[_mm256_setzero_ps(); 2]; Q];
            let (pairs, single) = bytes.as_chunks::<{ 4 * LANES }>();
            for (at, pair) in pairs.iter().enumerate() {
                for half in 0..2 {
                    let bytes = &pair[half * 2 * LANES..(half + 1) * 2 * LANES];
                    let values = _mm256_cvtph_ps(pod_read_unaligned::<__m128i>(bytes));
                    for q in 0..Q {
                        let query = register(queries[q], 2 * at + half);
                        sums[q][half] = _mm256_fmadd_ps(values, query, sums[q][half]);
                    }
                }
            }
            if let Some(bytes) = single.get(..2 * LANES) {
                let values = _mm256_cvtph_ps(pod_read_unaligned::<__m128i>(bytes));
                for q in 0..Q {
                    let query = register(queries[q], 2 * pairs.len());
                    sums[q][0] = _mm256_fmadd_ps(values, query, sums[q][0]);
                }
            }
            for q in 0..Q {
                let rest = tail(bytes, Numbers::Float16, queries[q]);
                scores[q * count + row] = sum(sums[q]) + rest;
            }
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn words<const Q: usize>(rows: &[u8], queries: [&[f32]; Q], scores: &mut [f32]) {
        let width = queries[0].len();
        let count = rows.len() / (4 * width).max(1);
        for (row, bytes) in rows.chunks_exact(4 * width).enumerate() {
            let mut sums = [[_mm256_setzero_ps(); 2]; Q];
            for (at, bytes) in bytes.chunks_exact(4 * LANES).enumerate() {
                let values = pod_read_unaligned::<__m256>(bytes);
                for q in 0..Q {
                    let sum = sums[q][at % 2];
                    sums[q][at % 2] = _mm256_fmadd_ps(values, register(queries[q], at), sum);
                }
            }
            for q in 0..Q {
                let rest = tail(bytes, Numbers::Float32, queries[q]);
                scores[q * count + row] = sum(sums[q]) + rest;
            }
        }
    }

    /// The `at`-th register of a query.
    #[inline(always)]
    fn register(query: &[f32], at: usize) -> __m256 {
        pod_read_unaligned(cast_slice(&query[at * LANES..(at + 1) * LANES]))
    }

    #[target_feature(enable = "avx2")]
    fn sum([one, two]: [__m256; 2]) -> f32 {
        let lanes: [f32; LANES] = cast(_mm256_add_ps(one, two));
        let [a, b, c, d, e, f, g, h] = lanes;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_and_number_of_queries() {
        for width in [1, 7, 8, 16, 24, 33, 512] {
            let value = |at: usize| ((at * 37 % 101) as f32 - 50.0) / 64.0;
            let count = 5;
            let rows: Vec<f32> = (0..count * width).map(value).collect();
            let queries: Vec<Vec<f32>> = (0..6)
                .map(|q| (0..width).map(|at| value(at * 3 + q)).collect())
                .collect();
            let queries: Vec<&[f32]> = queries.iter().map(Vec::as_slice).collect();
            for numbers in [Numbers::Float16, Numbers::Float32] {
                let bytes: Vec<u8> = match numbers {
                    Numbers::Float16 => {
                        let halves = rows.iter().map(|value| f16::from_f32(*value));
                        halves.flat_map(f16::to_le_bytes).collect()
                    }
                    Numbers::Float32 => rows.iter().flat_map(|value| value.to_le_bytes()).collect(),
                };
                for asked in 0..=queries.len() {
                    let mut scores = vec![f32::NAN; asked * count];
                    dots(&bytes, numbers, &queries[..asked], &mut scores);
                    for (at, score) in scores.iter().enumerate() {
                        let row = &rows[at % count * width..][..width];
                        let pairs = row.iter().zip(queries[at / count]);
                        let exact: f64 = pairs.map(|(a, b)| f64::from(a * b)).sum();
                        assert!(
                            (f64::from(*score) - exact).abs() < 1e-4,
                            "{width} {numbers:?}"
                        );
                    }
                }
            }
        }
    }
}
