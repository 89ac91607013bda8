//! Dot products of rows, as they lie in a file, with queries.

use half::f16;

use crate::embeddings::Numbers;

/// Queries that one pass over a row serves.
pub(super) const TOGETHER: usize = 4;
/// Numbers of a vector register.
const LANES: usize = 8;

/// The dot products of every row with every query; `scores` is `[queries, rows]`. `rows` lie end to end, the low byte first. The last
/// bits of a score depend on how many queries there are.
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
        let is_wide = Q == 1 && is_x86_feature_detected!("avx512f");
        // SAFETY: the processor has the instructions.
        return unsafe {
            match numbers {
                Numbers::Float16 if is_wide => x86::wide_halves(rows, queries[0], scores),
                Numbers::Float16 if Q == 1 => x86::halves::<Q, 8>(rows, queries, scores),
                Numbers::Float16 => x86::halves::<Q, 2>(rows, queries, scores),
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
        __m128i, __m256, __m512, _mm256_add_ps, _mm256_cvtph_ps, _mm256_fmadd_ps,
        _mm256_setzero_ps, _mm512_add_ps, _mm512_cvtph_ps, _mm512_fmadd_ps, _mm512_reduce_add_ps,
        _mm512_setzero_ps,
    };

    use bytemuck::{cast, cast_slice, pod_read_unaligned};

    use super::{LANES, Numbers, half, tail};

    /// Each query in `N` sums, which do not wait for each other; `Q·N` of them fit the processor's registers.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn halves<const Q: usize, const N: usize>(
        rows: &[u8],
        queries: [&[f32]; Q],
        scores: &mut [f32],
    ) {
        let width = queries[0].len();
        let count = rows.len() / (2 * width).max(1);
        for (row, bytes) in rows.chunks_exact(2 * width).enumerate() {
            let mut sums = [[_mm256_setzero_ps(); N]; Q];
            let (registers, _) = bytes.as_chunks::<{ 2 * LANES }>();
            let (groups, single) = registers.as_chunks::<N>();
            for (group, registers) in groups.iter().enumerate() {
                for (n, bytes) in registers.iter().enumerate() {
                    let values = _mm256_cvtph_ps(pod_read_unaligned::<__m128i>(bytes));
                    for q in 0..Q {
                        let query = register(queries[q], group * N + n);
                        sums[q][n] = _mm256_fmadd_ps(values, query, sums[q][n]);
                    }
                }
            }
            for (n, bytes) in single.iter().enumerate() {
                let values = _mm256_cvtph_ps(pod_read_unaligned::<__m128i>(bytes));
                for q in 0..Q {
                    let query = register(queries[q], groups.len() * N + n);
                    sums[q][n] = _mm256_fmadd_ps(values, query, sums[q][n]);
                }
            }
            for q in 0..Q {
                let rest = tail(bytes, Numbers::Float16, queries[q]);
                scores[q * count + row] = sum(sums[q]) + rest;
            }
        }
    }

    /// One query, two registers' numbers at a time.
    #[target_feature(enable = "avx512f")]
    pub(super) fn wide_halves(rows: &[u8], query: &[f32], scores: &mut [f32]) {
        const N: usize = 4;
        let (registers, rest) = query.as_chunks::<{ 2 * LANES }>();
        let whole = registers.len() * 4 * LANES;
        let rows = rows.chunks_exact(2 * query.len());
        for (bytes, score) in rows.zip(scores) {
            let mut sums = [_mm512_setzero_ps(); N];
            let (values, _) = bytes.as_chunks::<{ 4 * LANES }>();
            let step = |sum: &mut __m512, value: &[u8; 4 * LANES], query: &[f32; 2 * LANES]| {
                let value = _mm512_cvtph_ps(cast(*value));
                *sum = _mm512_fmadd_ps(value, cast(*query), *sum);
            };
            let (groups, single) = values.as_chunks::<N>();
            let (group_queries, single_queries) = registers.as_chunks::<N>();
            for (values, queries) in groups.iter().zip(group_queries) {
                for n in 0..N {
                    step(&mut sums[n], &values[n], &queries[n]);
                }
            }
            for (n, (value, query)) in single.iter().zip(single_queries).enumerate() {
                step(&mut sums[n], value, query);
            }
            let [a, b, c, d] = sums;
            let sum = _mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d));
            let rest = rest.iter().enumerate();
            let rest = rest.map(|(at, query)| half(&bytes[whole..], at) * query);
            *score = _mm512_reduce_add_ps(sum) + rest.sum::<f32>();
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
    fn sum<const N: usize>(sums: [__m256; N]) -> f32 {
        let mut total = sums[0];
        for sum in &sums[1..] {
            total = _mm256_add_ps(total, *sum);
        }
        let lanes: [f32; LANES] = cast(total);
        let [a, b, c, d, e, f, g, h] = lanes;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The way of processors without registers of 512 bits, which others do not take for one query.
    #[cfg(target_arch = "x86_64")]
    #[test]
    #[allow(unsafe_code, reason = "the processor is asked first")]
    fn eight_sums_and_one_are_one() {
        for width in [1, 8, 63, 64, 72, 200] {
            let value = |at: usize| ((at * 37 % 101) as f32 - 50.0) / 64.0;
            let rows: Vec<f16> = (0..3 * width).map(|at| f16::from_f32(value(at))).collect();
            let query: Vec<f32> = (0..width).map(|at| value(at * 3)).collect();
            let mut scores = [f32::NAN; 3];
            if has_all() {
                let bytes = bytemuck::cast_slice(&rows);
                // SAFETY: the processor has the instructions.
                unsafe { x86::halves::<1, 8>(bytes, [&query], &mut scores) };
                for (row, score) in rows.chunks(width).zip(scores) {
                    let pairs = row.iter().zip(&query);
                    let exact: f64 = pairs.map(|(a, b)| f64::from(a.to_f32() * b)).sum();
                    assert!((f64::from(score) - exact).abs() < 1e-4, "{width}");
                }
            }
        }
    }

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
