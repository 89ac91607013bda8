//! `x·g(x)` with a gate `g` between 0 and 1, on the CPU: several values at a time, on every core.
//!
//! GELU, its approximation and QuickGELU are of this form. Burn's `flex` backend computes their error function, hyperbolic tangent
//! or exponential value by value on one core, which can take longer than the matrix products around it. `g(x) − ½` is odd in all
//! three, and so is the slope of `x·g(x)` minus ½. Each is computed as `x·P(x²)/Q(x²)` up to an end behind which it is ±½ in f32;
//! coefficients come from a reweighted least-squares fit, and values and slopes are within 2.5·10⁻⁷ of the exact function (times
//! `x` for values beyond 1).

use burn::tensor::{DType, Tensor};
use rayon::prelude::*;

use crate::device::is_flex;

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
    #[inline(always)]
    fn at(&self, x: f32) -> f32 {
        let square = x * x;
        let series = |terms: &[f32; 9]| {
            let [rest @ .., last] = terms;
            rest.iter()
                .rev()
                .fold(*last, |sum, term| sum * square + term)
        };
        let inside = x * series(&self.p) / series(&self.q);
        let outside = 0.5_f32.copysign(x);
        match x.abs() < self.end {
            true => inside,
            false => outside,
        }
    }
}

/// A non-linearity `x·g(x)`.
#[derive(Debug)]
pub(super) struct Gate {
    /// `g(x) − ½`.
    value: Odd,
    /// `d/dx x·g(x) − ½`.
    slope: Odd,
}

/// `g(x) = ½(1 + erf(x/√2))`.
pub(super) static GELU: Gate = Gate {
    value: Odd {
        end: 5.928,
        p: [
            0.398942281,
            0.0141717299,
            0.00363765985,
            -2.07773689e-05,
            4.70693067e-06,
            -1.64009857e-07,
            2.95571143e-09,
            -5.25826377e-11,
            -2.73857838e-13,
        ],
        q: [
            1.0,
            0.202189936,
            0.0178165555,
            0.000838822227,
            1.85670228e-05,
            -7.99517866e-08,
            -1.51567299e-08,
            3.48789611e-10,
            -1.45303316e-11,
        ],
    },
    slope: Odd {
        end: 6.136,
        p: [
            0.797884561,
            -0.0539993254,
            0.0155850629,
            -0.000390362492,
            4.20372244e-05,
            -6.2395259e-07,
            2.35005118e-08,
            -5.81885161e-10,
            -2.08240064e-12,
        ],
        q: [
            1.0,
            0.265655223,
            0.0330846953,
            0.00251964593,
            0.000126981004,
            4.16548333e-06,
            6.52272151e-08,
            -3.42505653e-10,
            -1.24241089e-10,
        ],
    },
};

/// `g(x) = ½(1 + tanh(√(2/π)·(x + 0.044715x³)))`.
pub(super) static TANH_GELU: Gate = Gate {
    value: Odd {
        end: 5.2,
        p: [
            0.39894228,
            0.0201942916,
            0.0027373717,
            5.47605272e-05,
            2.90697279e-06,
            -3.95956942e-09,
            -2.41299508e-09,
            -1.28173189e-10,
            -5.41275569e-14,
        ],
        q: [
            1.0,
            0.218111174,
            0.0178218464,
            0.000660657352,
            4.6560072e-05,
            -4.27090041e-07,
            1.98643773e-08,
            -2.15368464e-09,
            -1.15393117e-11,
        ],
    },
    slope: Odd {
        end: 5.39,
        p: [
            0.797884561,
            0.0902100028,
            0.0034147228,
            0.00227627691,
            -5.0844612e-05,
            7.75570123e-06,
            -7.3110637e-08,
            6.91985294e-09,
            2.8139481e-11,
        ],
        q: [
            1.0,
            0.448044654,
            0.0776526099,
            0.00695691068,
            0.000417552886,
            2.75283439e-05,
            1.00845386e-06,
            2.81993852e-08,
            1.52976698e-09,
        ],
    },
};

/// `g(x) = 1/(1 + exp(−1.702x))`.
pub(super) static QUICK_GELU: Gate = Gate {
    value: Odd {
        end: 9.792,
        p: [
            0.4255,
            0.0359696573,
            0.000308967769,
            -2.64784662e-06,
            1.68004595e-08,
            -8.75991056e-11,
            5.10390603e-14,
            1.35340417e-14,
            8.41961698e-18,
        ],
        q: [
            1.0,
            0.325935367,
            0.00947809077,
            -1.23254595e-05,
            -1.8695992e-07,
            2.85580585e-09,
            -3.16296231e-11,
            3.01721003e-13,
            1.0686304e-15,
        ],
    },
    slope: Odd {
        end: 11.8,
        p: [
            0.850999931,
            0.156790956,
            0.0192129208,
            0.000634880611,
            4.82972298e-06,
            -2.97735074e-08,
            1.23247035e-10,
            -3.88343997e-13,
            -9.83430695e-16,
        ],
        q: [
            1.0,
            0.667043193,
            0.134840501,
            0.00790128891,
            0.000148900219,
            -8.36428169e-08,
            -1.89210756e-09,
            1.42935857e-11,
            -8.41162759e-14,
        ],
    },
};

impl Gate {
    /// `x·g(x)` in f32 on the CPU; gives `x` back for every other dtype and device.
    ///
    /// On an autodiff device the result is `value + slope·(x − x)` with both factors as constants: the value to the last bit, and
    /// the slope as its derivative.
    pub(super) fn forward<const D: usize>(&self, x: Tensor<D>) -> Result<Tensor<D>, Tensor<D>> {
        if x.dtype() != DType::F32 || !is_flex(&x.device()) {
            return Err(x);
        }
        if !x.is_autodiff() {
            return map(x, |x| x * (0.5 + self.value.at(x)));
        }
        let plain = x.clone().inner();
        let value = map(plain.clone(), |x| x * (0.5 + self.value.at(x)));
        let slope = map(plain.clone(), |x| 0.5 + self.slope.at(x));
        match (value, slope) {
            (Ok(value), Ok(slope)) => {
                let nothing = x - Tensor::from_inner(plain);
                Ok(nothing * Tensor::from_inner(slope) + Tensor::from_inner(value))
            }
            _ => Err(x),
        }
    }
}

/// Every value through `function`; `x` back if it cannot be read as f32.
fn map<const D: usize>(
    x: Tensor<D>,
    function: impl Fn(f32) -> f32 + Sync,
) -> Result<Tensor<D>, Tensor<D>> {
    let device = x.device();
    // Takes the buffer over where nobody else has it.
    let mut data = x.into_data();
    match data.as_mut_slice::<f32>() {
        Err(_) => Err(Tensor::from_data(data, &device)),
        Ok(values) => {
            values.par_chunks_mut(CHUNK).for_each(|values| {
                for value in values {
                    *value = function(*value);
                }
            });
            Ok(Tensor::from_data(data, &device))
        }
    }
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
        let gates: [(&Gate, &dyn Fn(f64) -> f64); 3] = [
            (&GELU, &normal),
            (&TANH_GELU, &|x| logistic(2.0 * cubic(x))),
            (&QUICK_GELU, &|x| logistic(1.702 * x)),
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
