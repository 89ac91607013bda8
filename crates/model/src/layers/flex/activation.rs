//! `x·g(x)` with a gate `g` between 0 and 1, on the CPU: several values at a time, on every core.
//!
//! GELU, its approximation and QuickGELU are of this form. Burn's `flex` backend computes their error function, hyperbolic tangent
//! or exponential value by value on one core, which can take longer than the matrix products around it. `g(x) − ½` is odd in all
//! three, and so is the slope of `x·g(x)` minus ½. Each is computed as `x·P(x²)/Q(x²)` up to an end behind which it is ±½ in f32;
//! coefficients come from a reweighted least-squares fit, and values and slopes are within 2.5·10⁻⁷ of the exact function (times
//! `x` for values beyond 1).

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::product::filled;
use super::{Values, take, takes, tensor, vectorized};
use crate::layers::derivative::{Value, differentiable};

/// Values that one core takes at a time.
const CHUNK: usize = 1 << 14;

/// `x·P(x²)/Q(x²)` up to `±end`, and ±½ behind.
#[derive(Debug)]
struct Odd {
    end: f32,
    p: [f32; 9],
    q: [f32; 9],
}

impl Odd {
    /// The same function of `x / by`.
    const fn stretched(&self, by: f64) -> Self {
        let mut stretched = Self {
            end: (self.end as f64 * by) as f32,
            p: self.p,
            q: self.q,
        };
        let (mut term, mut power) = (0, 1.0);
        while term < self.p.len() {
            stretched.p[term] = (self.p[term] as f64 * power / by) as f32;
            stretched.q[term] = (self.q[term] as f64 * power) as f32;
            power /= by * by;
            term += 1;
        }
        stretched
    }

    #[inline(always)]
    fn at(&self, x: f32) -> f32 {
        let square = x * x;
        let inside = x * series(&self.p, square) / series(&self.q, square);
        let outside = 0.5_f32.copysign(x);
        match x.abs() < self.end {
            true => inside,
            false => outside,
        }
    }
}

/// `Σ terms·xⁿ`. A loop: what iterators call may be compiled apart, without the vectors of who calls them.
#[inline(always)]
fn series(terms: &[f32; 9], x: f32) -> f32 {
    let mut sum = terms[8];
    for term in (0..8).rev() {
        sum = sum.mul_add(x, terms[term]);
    }
    sum
}

/// A non-linearity `x·g(x)`.
#[derive(Debug)]
pub(in crate::layers) struct Gated {
    /// `g(x) − ½`.
    value: Odd,
    /// `d/dx x·g(x) − ½`.
    slope: Odd,
}

/// `g(x) = ½(1 + erf(x/√2))`.
pub(in crate::layers) static GELU: Gated = Gated {
    value: Odd {
        end: 5.928,
        p: [
            0.3989423,
            0.01417173,
            0.0036376598,
            -2.0777368e-05,
            4.7069307e-06,
            -1.6400986e-07,
            2.9557115e-09,
            -5.2582636e-11,
            -2.7385784e-13,
        ],
        q: [
            1.0,
            0.20218994,
            0.017816555,
            0.0008388222,
            1.8567023e-05,
            -7.995179e-08,
            -1.515673e-08,
            3.487896e-10,
            -1.4530332e-11,
        ],
    },
    slope: Odd {
        end: 6.136,
        p: [
            0.7978846,
            -0.053999327,
            0.015585063,
            -0.0003903625,
            4.2037223e-05,
            -6.239526e-07,
            2.3500512e-08,
            -5.8188515e-10,
            -2.0824007e-12,
        ],
        q: [
            1.0,
            0.26565522,
            0.033084694,
            0.002519646,
            0.000126981,
            4.1654835e-06,
            6.522721e-08,
            -3.4250566e-10,
            -1.2424109e-10,
        ],
    },
};

/// `g(x) = ½(1 + tanh(√(2/π)·(x + 0.044715x³)))`.
pub(in crate::layers) static TANH_GELU: Gated = Gated {
    value: Odd {
        end: 5.2,
        p: [
            0.3989423,
            0.020194292,
            0.0027373717,
            5.4760527e-05,
            2.906973e-06,
            -3.9595696e-09,
            -2.4129951e-09,
            -1.281732e-10,
            -5.4127557e-14,
        ],
        q: [
            1.0,
            0.21811117,
            0.017821847,
            0.00066065736,
            4.656007e-05,
            -4.2709004e-07,
            1.9864377e-08,
            -2.1536846e-09,
            -1.1539312e-11,
        ],
    },
    slope: Odd {
        end: 5.39,
        p: [
            0.7978846,
            0.090210006,
            0.0034147229,
            0.002276277,
            -5.0844614e-05,
            7.7557015e-06,
            -7.3110634e-08,
            6.919853e-09,
            2.813948e-11,
        ],
        q: [
            1.0,
            0.44804466,
            0.07765261,
            0.0069569107,
            0.0004175529,
            2.7528344e-05,
            1.0084539e-06,
            2.8199386e-08,
            1.529767e-09,
        ],
    },
};

/// `g(x) = 1/(1 + exp(−1.702x))`.
pub(in crate::layers) static QUICK_GELU: Gated = Gated {
    value: Odd {
        end: 9.792,
        p: [
            0.4255,
            0.035969656,
            0.00030896778,
            -2.6478467e-06,
            1.680046e-08,
            -8.759911e-11,
            5.103906e-14,
            1.35340415e-14,
            8.419617e-18,
        ],
        q: [
            1.0,
            0.32593536,
            0.00947809,
            -1.23254595e-05,
            -1.8695992e-07,
            2.8558058e-09,
            -3.1629623e-11,
            3.01721e-13,
            1.0686304e-15,
        ],
    },
    slope: Odd {
        end: 11.8,
        p: [
            0.85099995,
            0.15679096,
            0.01921292,
            0.0006348806,
            4.829723e-06,
            -2.9773508e-08,
            1.2324704e-10,
            -3.88344e-13,
            -9.834307e-16,
        ],
        q: [
            1.0,
            0.6670432,
            0.1348405,
            0.007901289,
            0.00014890022,
            -8.364282e-08,
            -1.8921076e-09,
            1.4293585e-11,
            -8.4116274e-14,
        ],
    },
};

impl Gated {
    /// `x·g(x)` in f32 on the CPU; gives `x` back for every other dtype and device.
    #[allow(clippy::result_large_err)] // It is a tensor either way.
    pub(in crate::layers) fn forward<const D: usize>(
        &'static self,
        x: Tensor<D>,
    ) -> Result<Tensor<D>, Tensor<D>> {
        if !x.is_autodiff() {
            if !takes(&x) {
                return Err(x);
            }
            let (shape, device) = (x.dims(), x.device());
            let mut values = take(x);
            Curve::Gated(self).apply(&mut values);
            return Ok(tensor(values, shape, &device));
        }
        let Some(values) = Values::of(&x) else {
            return Err(x);
        };
        let (shape, device) = (x.dims(), x.device());
        let value = |x: f32, _| x * (0.5 + self.value.at(x));
        let output = tensor(pairs(values.get(), values.get(), value), shape, &device);
        Ok(differentiable(vec![x.into()], output, move |gradient| {
            let slope = |x: f32, gradient| gradient * (0.5 + self.slope.at(x));
            let of_x = Values::of(&gradient).map(|gradient| {
                tensor(pairs(values.get(), gradient.get(), slope), shape, &device).into()
            });
            vec![of_x]
        }))
    }
}

/// `g(x) = 1/(1 + exp(−x))`: QuickGELU's at `x/1.702`.
pub(in crate::layers) static SILU: Gated = Gated {
    value: QUICK_GELU.value.stretched(1.702),
    slope: QUICK_GELU.slope.stretched(1.702),
};

/// A non-linearity, value by value.
#[derive(Debug, Clone, Copy)]
pub(in crate::layers) enum Curve {
    /// `max(x, 0)`.
    Relu,
    /// `x·g(x)`.
    Gated(&'static Gated),
}

impl Curve {
    /// The same to numbers in their place, on every core.
    pub(in crate::layers) fn apply(self, values: &mut [f32]) {
        values.par_chunks_mut(CHUNK).for_each(|values| {
            vectorized(
                #[inline(always)]
                || self.of(values),
            );
        });
    }

    /// The same of all `values`.
    pub(super) fn applied(self, values: &[f32]) -> Vec<f32> {
        match self {
            Self::Relu => pairs(values, values, |x, _| if x < 0.0 { 0.0 } else { x }),
            Self::Gated(gate) => pairs(values, values, |x, _| x * (0.5 + gate.value.at(x))),
        }
    }

    /// The same to numbers in their place, and from the gradients of what they become to their own.
    #[inline(always)]
    pub(super) fn differentiate(self, values: &mut [f32], slopes: &mut [f32]) {
        match self {
            Self::Relu => {
                for (x, slope) in values.iter_mut().zip(slopes) {
                    if *x < 0.0 {
                        *x = 0.0;
                    }
                    if *x <= 0.0 {
                        *slope = 0.0;
                    }
                }
            }
            Self::Gated(gate) => {
                for (x, slope) in values.iter_mut().zip(slopes) {
                    *slope *= 0.5 + gate.slope.at(*x);
                    *x *= 0.5 + gate.value.at(*x);
                }
            }
        }
    }

    /// The same, times other numbers.
    pub(super) fn gate(self, values: &mut [f32], by: &[f32]) {
        let parts = values.par_chunks_mut(CHUNK).zip(by.par_chunks(CHUNK));
        parts.for_each(|(values, by)| {
            vectorized(
                #[inline(always)]
                || {
                    self.of(values);
                    for (x, by) in values.iter_mut().zip(by) {
                        *x *= by;
                    }
                },
            );
        });
    }

    #[inline(always)]
    pub(super) fn of(self, values: &mut [f32]) {
        match self {
            // Keeps what is not a number.
            Self::Relu => {
                for x in values {
                    if *x < 0.0 {
                        *x = 0.0;
                    }
                }
            }
            Self::Gated(gate) => {
                for x in values {
                    *x *= 0.5 + gate.value.at(*x);
                }
            }
        }
    }
}

/// `max(x + add, 0)`. Keeps its output alone for the derivative.
pub(in crate::layers) fn rectified<const D: usize>(
    x: &Tensor<D>,
    add: Option<&Tensor<D>>,
) -> Option<Tensor<D>> {
    if !super::enabled() {
        return None;
    }
    let (shape, device, values) = (x.dims(), x.device(), Values::of(x)?);
    let positive = |x: f32| if x < 0.0 { 0.0 } else { x };
    let out = match add {
        None => pairs(values.get(), values.get(), |x, _| positive(x)),
        Some(add) => pairs(values.get(), Values::of(add)?.get(), |x, add| {
            positive(x + add)
        }),
    };
    let output = tensor(out, shape, &device);
    let kept = Values::of(&output)?;
    let inputs = [Some(x), add].into_iter().flatten().cloned();
    let inputs: Vec<Value> = inputs.map(Value::from).collect();
    let count = inputs.len();
    Some(differentiable(inputs, output, move |gradient| {
        let slope = |y: f32, gradient| if y <= 0.0 { 0.0 } else { gradient };
        let gradient = Values::of(&gradient).map(|gradient| {
            let slopes = pairs(kept.get(), gradient.get(), slope);
            Value::from(tensor(slopes, shape, &device))
        });
        vec![gradient; count]
    }))
}

/// A function of every pair of numbers.
fn pairs(x: &[f32], y: &[f32], function: impl Fn(f32, f32) -> f32 + Sync) -> Vec<f32> {
    let all = filled(x.len(), |out| {
        if x.len() != y.len() {
            return None;
        }
        let parts = out.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK));
        parts.zip(y.par_chunks(CHUNK)).for_each(|((out, x), y)| {
            vectorized(
                #[inline(always)]
                || {
                    for (out, (x, y)) in out.iter_mut().zip(x.iter().zip(y)) {
                        out.write(function(*x, *y));
                    }
                },
            );
        });
        Some(())
    });
    all.unwrap_or_default()
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn logistic(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    /// The standard normal distribution by Simpson's rule.
    fn normal(x: f64) -> f64 {
        let density = |t: f64| (-0.5 * t * t).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let steps = 2000;
        let step = x / f64::from(steps);
        let weight = |i: i32| match i {
            0 => 1.0,
            i if i == steps => 1.0,
            i => f64::from(2 + 2 * (i % 2)),
        };
        let sum: f64 = (0..=steps)
            .map(|i| weight(i) * density(f64::from(i) * step))
            .sum();
        0.5 + sum * step / 3.0
    }

    #[test]
    fn values_and_slopes_are_exact_to_a_few_roundings() {
        let cubic = |x: f64| (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
        let gates: [(&Gated, &dyn Fn(f64) -> f64); 4] = [
            (&GELU, &normal),
            (&TANH_GELU, &|x| logistic(2.0 * cubic(x))),
            (&QUICK_GELU, &|x| logistic(1.702 * x)),
            (&SILU, &logistic),
        ];
        for (gate, exact) in gates {
            let inputs: Vec<f32> = (-1500..=1500).map(|i| i as f32 * 0.01).collect();
            let device = Device::flex().autodiff();
            let x = Tensor::<1>::from_floats(inputs.as_slice(), &device).require_grad();
            let y = gate.forward(x.clone()).unwrap();
            let plain = gate.forward(x.clone().inner()).unwrap();
            let slopes = x.grad(&y.clone().sum().backward()).unwrap();
            let read = |x: Tensor<1>| x.try_into_vec_as::<f32>().unwrap();
            let (values, slopes) = (read(y.inner()), read(slopes));
            assert_eq!(values, read(plain));
            for ((x, value), slope) in inputs.iter().zip(values).zip(slopes) {
                let at = |x: f64| x * exact(x);
                let x = f64::from(*x);
                let apart = (f64::from(value) - at(x)).abs();
                assert!(apart <= 3e-7 * x.abs().max(1.0), "{x}: {apart:e}");
                let wanted = (at(x + 1e-5) - at(x - 1e-5)) / 2e-5;
                let apart = (f64::from(slope) - wanted).abs();
                assert!(apart <= 5e-7, "slope at {x}: {apart:e}");
            }
        }
        let odd = Tensor::<1>::from_floats([f32::NAN, -1e30, 1e30], &Device::flex());
        let odd: Vec<f32> = GELU.forward(odd).unwrap().try_into_vec_as().unwrap();
        assert!(
            odd[0].is_nan() && odd[1] == 0.0 && odd[2] == 1e30,
            "{odd:?}"
        );
    }
}
