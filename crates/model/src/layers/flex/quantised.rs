//! Linear layers of 8 bits: weights as whole numbers by output feature, activations by row, products summed in 32 bits.
//!
//! A weight is a unit of its column times a number of −127 to 127, an activation the unit of its row times what 0 to 255 is above the
//! row's zero. Where a processor adds pairs of products in 16 bits, which overflow, weights have 7 bits.

use std::fmt;

use rayon::prelude::*;
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_tensor::NdTensorView;

use super::product::{Matrix, Onto};
use super::vectorized;

/// Rows that one core takes at a time.
const ROWS: usize = 8;

type Executor = GemmExecutor<u8, i8, i32>;

/// Rows of weights that the kernels take together; beyond the last whole group they add up something else.
const GROUP: usize = 4;

/// Weights `[input, output]`.
#[derive(Clone)]
pub(super) struct Quantised {
    /// With rows of zeros that fill the last group.
    packed: PackedBMatrix<i8>,
    input: usize,
    /// What one stands for in each column.
    units: Vec<f32>,
    /// Sums of the columns.
    totals: Vec<i32>,
}

impl fmt::Debug for Quantised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Quantised[{}, {}]",
            self.packed.rows(),
            self.packed.cols()
        )
    }
}

/// Buffers of a product.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    rows: Vec<u8>,
    /// What one stands for in each row.
    units: Vec<f32>,
    zeros: Vec<u8>,
    sums: Vec<i32>,
}

impl Quantised {
    /// Weights as 8 bits, or 7 where this processor needs it.
    pub(super) fn new(weights: Matrix<'_>) -> Self {
        let most = if Executor::default().may_saturate() {
            63.0
        } else {
            127.0
        };
        Self::within(weights, most)
    }

    /// Weights as whole numbers up to `most`. What is not a number makes its whole column so.
    pub(super) fn within(weights: Matrix<'_>, most: f32) -> Self {
        let ([input, output], [down, right]) = (weights.shape, weights.strides);
        let at = |row: usize, column: usize| weights.values[row * down + column * right];
        let mut units = vec![0.0_f32; output];
        for row in 0..input {
            for (column, unit) in units.iter_mut().enumerate() {
                let size = at(row, column).abs();
                *unit = if size > *unit || size.is_nan() {
                    size
                } else {
                    *unit
                };
            }
        }
        // Nothing but zeros stays zero.
        units
            .iter_mut()
            .for_each(|unit| *unit = unit.max(1e-30) / most + *unit * 0.0);
        let whole = |row| {
            let columns = units.iter().enumerate();
            columns.map(move |(column, unit)| (at(row, column) / unit).round() as i8)
        };
        let mut whole: Vec<i8> = (0..input).flat_map(whole).collect();
        let mut totals = vec![0; output];
        for row in whole.chunks_exact(output) {
            let sums = totals.iter_mut().zip(row);
            sums.for_each(|(total, weight)| *total += i32::from(*weight));
        }
        let depth = input.next_multiple_of(GROUP);
        whole.resize(depth * output, 0);
        let view = NdTensorView::from_data([depth, output], whole.as_slice());
        Self {
            packed: Executor::default().prepack_b(view),
            input,
            units,
            totals,
        }
    }

    /// Rows of `x` times the weights, plus `bias`, in f32, or the same added to `out`.
    pub(super) fn forward(
        &self,
        x: &[f32],
        bias: Option<&[f32]>,
        scratch: &mut Scratch,
        out: &mut [f32],
        onto: Onto,
    ) {
        let (input, output, depth) = (self.input, self.packed.cols(), self.packed.rows());
        let count = x.len() / input;
        scratch.rows.resize(count * depth, 0);
        scratch.units.resize(count, 0.0);
        scratch.zeros.resize(count, 0);
        scratch.sums.resize(count * output, 0);
        let parts = scratch
            .rows
            .par_chunks_mut(ROWS * depth)
            .zip(x.par_chunks(ROWS * input));
        let parts = parts.zip(scratch.units.par_chunks_mut(ROWS));
        parts
            .zip(scratch.zeros.par_chunks_mut(ROWS))
            .for_each(|(((whole, x), units), zeros)| {
                let rows = whole.chunks_exact_mut(depth).zip(x.chunks_exact(input));
                for ((whole, x), (unit, zero)) in rows.zip(units.iter_mut().zip(zeros)) {
                    (*unit, *zero) = quantise(x, whole);
                }
            });
        let a = NdTensorView::from_data([count, depth], scratch.rows.as_slice());
        let options = GemmOptions::default();
        let b = GemmInputB::Packed(&self.packed);
        let done = Executor::default().gemm(&mut scratch.sums, GemmInputA::Unpacked(a), b, options);
        if let Err(reason) = done {
            unreachable!("{reason}");
        }
        let parts = out
            .par_chunks_mut(ROWS * output)
            .zip(scratch.sums.par_chunks(ROWS * output));
        let parts = parts.zip(scratch.units.par_chunks(ROWS));
        parts
            .zip(scratch.zeros.par_chunks(ROWS))
            .for_each(|(((out, sums), units), zeros)| {
                vectorized(
                    #[inline(always)]
                    || {
                        let rows = out.chunks_exact_mut(output).zip(sums.chunks_exact(output));
                        for ((out, sums), (unit, zero)) in rows.zip(units.iter().zip(zeros)) {
                            // The kernel counts from 0.
                            let zero = i32::from(*zero);
                            let columns = self.units.iter().zip(&self.totals);
                            let terms = sums.iter().zip(columns);
                            let terms = terms.map(|(sum, (column, total))| {
                                (sum - zero * total) as f32 * (unit * column)
                            });
                            match (onto, bias) {
                                (Onto::Nothing, None) => {
                                    out.iter_mut().zip(terms).for_each(|(out, x)| *out = x)
                                }
                                (Onto::Itself, None) => {
                                    out.iter_mut().zip(terms).for_each(|(out, x)| *out += x)
                                }
                                (Onto::Nothing, Some(bias)) => {
                                    let out = out.iter_mut().zip(bias);
                                    out.zip(terms).for_each(|((out, bias), x)| *out = x + bias);
                                }
                                (Onto::Itself, Some(bias)) => {
                                    let out = out.iter_mut().zip(bias);
                                    out.zip(terms).for_each(|((out, bias), x)| *out += x + bias);
                                }
                            }
                        }
                    },
                );
            });
    }
}

/// A row as whole numbers: what one of them stands for, and which of them is zero. A row with a number that is none, or infinite,
/// stands for nothing else.
fn quantise(x: &[f32], whole: &mut [u8]) -> (f32, u8) {
    vectorized(
        #[inline(always)]
        || {
            const LANES: usize = 16;
            let mut least = [0.0_f32; LANES];
            let mut most = [0.0_f32; LANES];
            let mut broken = [0.0_f32; LANES];
            let (chunks, rest) = x.as_chunks::<LANES>();
            let mut see = |lane: usize, x: f32| {
                least[lane] = if x < least[lane] { x } else { least[lane] };
                most[lane] = if x > most[lane] { x } else { most[lane] };
                broken[lane] += x * 0.0;
            };
            for chunk in chunks {
                for (lane, x) in chunk.iter().enumerate() {
                    see(lane, *x);
                }
            }
            rest.iter().for_each(|x| see(0, *x));
            let least = least.into_iter().fold(0.0, f32::min);
            let range = most.into_iter().fold(0.0, f32::max) - least;
            let unit = range.max(1e-30) / 255.0 + broken.iter().sum::<f32>();
            let inverse = 1.0 / unit;
            let zero = (-least * inverse).round_ties_even();
            for (whole, x) in whole.iter_mut().zip(x) {
                *whole = ((x * inverse).round_ties_even() + zero) as u8;
            }
            (unit, zero as u8)
        },
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    /// A number of a product by whole numbers, the exact one, and how far apart rounding may bring them.
    struct Found {
        here: f32,
        exact: f64,
        allowed: f64,
    }

    /// `1 + x·weights + bias` with weights up to `most`.
    fn compute(x: &[f32], weights: &[f32], output: usize, most: f32) -> Vec<Found> {
        let input = weights.len() / output;
        let bias: Vec<f32> = (0..output).map(|i| i as f32 * 0.01).collect();
        let quantised = Quantised::within(Matrix::rows(weights, output), most);
        let mut out = vec![1.0; x.len() / input * output];
        let mut scratch = Scratch::default();
        quantised.forward(x, Some(&bias), &mut scratch, &mut out, Onto::Itself);
        let compare = |(at, here): (usize, f32)| {
            let (row, column) = (&x[at / output * input..][..input], at % output);
            let weights = || weights[column..].iter().step_by(output);
            let range = row.iter().fold(0.0, |a: f32, b| a.max(*b))
                - row.iter().fold(0.0, |a: f32, b| a.min(*b));
            let largest = weights().fold(0.0, |a: f32, b| a.max(b.abs()));
            let [mut exact, mut allowed] = [1.0 + f64::from(bias[column]), 1e-5];
            for (x, weight) in row.iter().zip(weights()) {
                exact += f64::from(*x) * f64::from(*weight);
                allowed += f64::from(0.5 * x.abs() * largest / most + weight.abs() * range / 255.0);
            }
            Found {
                here,
                exact,
                allowed,
            }
        };
        out.into_iter().enumerate().map(compare).collect()
    }

    #[test]
    fn products_of_8_and_of_7_bits_are_near_the_exact_one() {
        let mut rng = StdRng::seed_from_u64(6);
        let mut random = |count, scale: f32| -> Vec<f32> {
            (0..count)
                .map(|_| rng.random_range(-0.3..1.0) * scale)
                .collect()
        };
        for (rows, input, output) in [(1, 48, 31), (70, 300, 65), (130, 7, 3)] {
            for most in [127.0, 63.0] {
                let (x, weights) = (random(rows * input, 5.0), random(input * output, 0.1));
                for Found {
                    here,
                    exact,
                    allowed,
                } in compute(&x, &weights, output, most)
                {
                    let apart = (f64::from(here) - exact).abs();
                    assert!(apart <= allowed, "{most}: {here} for {exact}");
                }
            }
        }
    }

    #[test]
    fn largest_operands_do_not_overflow() {
        // All products at their largest, of both signs, in 7 bits as on a processor that adds pairs of them in 16.
        for sign in [1.0, -1.0] {
            for Found { here, exact, .. } in compute(&[1.0; 512], &[sign; 1024], 2, 63.0) {
                assert!((f64::from(here) - exact).abs() < 1e-2, "{here} for {exact}");
            }
        }
    }

    #[test]
    fn broken_numbers_stay_visible() {
        for broken in [f32::NAN, f32::INFINITY] {
            let (mut x, mut weights) = (vec![0.5; 3 * 8], vec![0.25; 8 * 4]);
            x[8 + 3] = broken;
            weights[5 * 4 + 2] = broken;
            for (at, found) in compute(&x, &weights, 4, 127.0).iter().enumerate() {
                let expected = at / 4 == 1 || at % 4 == 2;
                assert_eq!(found.here.is_nan(), expected, "{broken} {at}");
            }
        }
        let zeros = compute(&[0.0; 16], &[0.0; 8], 1, 127.0);
        assert!(zeros.iter().all(|found| found.here == 1.0));
    }
}
