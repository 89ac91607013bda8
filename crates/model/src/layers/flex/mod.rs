//! What Burn's `flex` backend takes long for, values and derivatives, in f32 on every core.
//!
//! Each function gives `None` for tensors of another device or dtype, for which its caller has Burn's own operation. Sums are
//! taken in an order that does not depend on the number of threads.
//!
//! * `contrast` – the contrastive loss of pairs
//! * `depthwise` – convolution with a kernel per channel
//! * `dense` – convolution over all channels, channels first
//! * `packed` – the same with channels last, for inference; `winograd` its 3×3 kernels, `written` the products of both
//! * `norm` – LayerNorm and BatchNorm
//! * `pool` – means of squares of pixels
//! * `activation` – GELU and its relatives
//! * `product` – matrix products
//! * `linear` – linear layers
//! * `quantised` – linear layers of 8 bits, for inference
//! * `attention` – softmax attention
//! * `stack` – residual blocks in evaluation mode
//!
//! `OPENCLIP_CPU_KERNELS=burn` in the environment leaves everything to Burn.

pub(super) mod activation;
pub(super) mod attention;
#[cfg(feature = "flex")]
pub mod contrast;
#[cfg(not(feature = "flex"))]
#[path = "elsewhere.rs"]
pub mod contrast;
pub(super) mod dense;
pub(super) mod depthwise;
pub(super) mod linear;
pub(super) mod norm;
#[cfg(feature = "flex")]
pub(super) mod packed;
#[cfg(feature = "flex")]
pub(super) mod pool;
mod product;
mod quantised;
pub(crate) mod stack;
#[cfg(all(test, feature = "flex"))]
mod tests;
#[cfg(all(test, feature = "flex"))]
mod transformer_tests;
#[cfg(feature = "flex")]
mod winograd;
#[cfg(feature = "flex")]
mod written;

use std::sync::LazyLock;

use burn::tensor::{DType, Device, Tensor, TensorData};

use self::product::Matrix;
use crate::device::is_flex;

/// Whether this module computes anything.
static ON: LazyLock<bool> = LazyLock::new(|| match std::env::var("OPENCLIP_CPU_KERNELS") {
    Err(_) => true,
    Ok(name) if name == "burn" => false,
    Ok(name) => {
        log::warn!("OPENCLIP_CPU_KERNELS is `{name}`, which is not `burn` and changes nothing");
        true
    }
});

/// Whether the products and passes of the house are used.
fn enabled() -> bool {
    *ON
}

/// Whether a tensor lies in this process's memory, for functions of the house to work on it.
pub fn is_on<const D: usize>(x: &Tensor<D>) -> bool {
    enabled() && is_flex(&x.device())
}

/// Whether `x` is computed on here.
pub(super) fn takes<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && is_on(x)
}

/// Numbers that are added side by side.
const LANES: usize = 32;

/// As many numbers.
#[derive(Debug, Clone, Copy)]
struct Lanes([f32; LANES]);

impl Lanes {
    const ZERO: Self = Self([0.0; LANES]);

    /// The first numbers of `values`.
    #[inline(always)]
    fn of(values: &[f32]) -> Self {
        let mut lanes = [0.0; LANES];
        lanes.copy_from_slice(&values[..LANES]);
        Self(lanes)
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane] + other.0[lane]))
    }

    #[inline(always)]
    fn times(self, other: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane] * other.0[lane]))
    }
}

#[cfg(feature = "flex")]
fn flex<const D: usize>(x: &Tensor<D>) -> Option<burn::backend::flex::FlexTensor> {
    if !takes(x) {
        return None;
    }
    let plain = x.clone().inner();
    plain.try_into_primitive::<burn::backend::Flex>().ok()
}

/// The numbers of a tensor, row after row, where they lie.
#[cfg(feature = "flex")]
#[derive(Debug)]
pub(super) struct Values(burn::backend::flex::FlexTensor);

#[cfg(feature = "flex")]
impl Values {
    /// `None` unless `x` is f32 on `flex`.
    pub(super) fn of<const D: usize>(x: &Tensor<D>) -> Option<Self> {
        Some(Self(flex(x)?.to_contiguous()))
    }

    /// The same for a matrix that may lie in another order than row after row.
    pub(super) fn view(x: &Tensor<2>) -> Option<Self> {
        let x = flex(x)?;
        let forward = x.layout().strides().iter().all(|stride| *stride >= 0);
        Some(Self(match forward {
            true => x,
            false => x.to_contiguous(),
        }))
    }

    /// What [`Self::view`] sees.
    pub(super) fn matrix(&self) -> Matrix<'_> {
        let layout = self.0.layout();
        let axis = |axis: usize| {
            layout
                .strides()
                .get(axis)
                .map_or(1, |stride| *stride as usize)
        };
        let shape = layout.shape();
        Matrix {
            values: self
                .0
                .storage()
                .get(layout.start_offset()..)
                .unwrap_or_default(),
            shape: [shape[0], shape[1]],
            strides: [axis(0), axis(1)],
        }
    }

    pub(super) fn get(&self) -> &[f32] {
        self.0.storage()
    }
}

#[cfg(not(feature = "flex"))]
#[derive(Debug)]
pub(super) struct Values(std::convert::Infallible);

#[cfg(not(feature = "flex"))]
impl Values {
    pub(super) fn of<const D: usize>(_: &Tensor<D>) -> Option<Self> {
        None
    }

    pub(super) fn view(_: &Tensor<2>) -> Option<Self> {
        None
    }

    pub(super) fn matrix(&self) -> Matrix<'_> {
        match self.0 {}
    }

    pub(super) fn get(&self) -> &[f32] {
        match self.0 {}
    }
}

pub(super) fn tensor<const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    device: &Device,
) -> Tensor<D> {
    let device = device.clone().inner();
    Tensor::from_data(TensorData::new(values, shape), (&device, DType::F32))
}

/// The numbers of a tensor of f32, in its own buffer where nobody else has it.
pub(super) fn take<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    let data = x.into_data();
    match data.try_into_vec::<f32>() {
        Ok(values) => values,
        Err(reason) => unreachable!("{reason:?}"),
    }
}

/// The exponential function of `x ≤ 0` to two units in the last place; below -87 it stays there.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // What is not a number stays so.
    let x = if x < -87.0 { -87.0 } else { x };
    let octave = (x * std::f32::consts::LOG2_E).round_ties_even();
    // The logarithm of two in two parts, the first of few digits.
    let rest = x - octave * 0.693_145_75 - octave * 1.428_606_8e-6;
    let terms = [
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ];
    let power = terms.into_iter().fold(0.0, |sum, term| sum * rest + term);
    f32::from_bits((power.to_bits() as i32).wrapping_add((octave as i32) << 23) as u32)
}

/// Runs `work` with the vector instructions of this processor. What it calls must be inlined to gain from them.
#[inline]
pub fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return pulp::Simd::vectorize(simd, work);
    }
    work()
}

/// Numbers that one lane adds up in f32.
const DEPTH: usize = 32;

/// The sum of a term over pairs of numbers: of short stretches in f32, and of those in f64, as terms may cancel.
#[inline(always)]
fn sum(x: &[f32], y: &[f32], term: impl Fn(f32, f32) -> f32) -> f64 {
    let stretches = x.chunks(DEPTH * LANES).zip(y.chunks(DEPTH * LANES));
    let mut total = 0.0;
    for (x, y) in stretches {
        let (x, y) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
        let rest = x.remainder().iter().zip(y.remainder());
        let rest: f32 = rest.map(|(x, y)| term(*x, *y)).sum();
        let mut sums = [0.0; LANES];
        for (x, y) in x.zip(y) {
            for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
                *sum += term(*x, *y);
            }
        }
        total += sums.iter().map(|sum| f64::from(*sum)).sum::<f64>() + f64::from(rest);
    }
    total
}
