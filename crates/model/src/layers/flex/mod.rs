//! What Burn's `flex` backend takes long for, values and derivatives, in f32 on every core.
//!
//! Each function gives `None` for tensors of another device or dtype, for which its caller has Burn's own operation. Sums are
//! taken in an order that does not depend on the number of threads.
//!
//! * `contrast` – the contrastive loss of pairs
//! * `depthwise` – convolution with a kernel per channel
//! * `dense` – convolution over all channels, channels first
//! * `packed` – the same with channels last, for inference; `winograd` its 3×3 kernels
//! * `normed` – the same in training, with the norm behind it
//! * `finish` – what is done to their output
//! * `norm` – LayerNorm and BatchNorm
//! * `pool` – means of squares of pixels
//! * `activation` – GELU and its relatives
//! * `product` – matrix products, and buffers that are written once
//! * `linear` – linear layers
//! * `quantised` – linear layers of 8 bits, for inference
//! * `affine` – the same with weights that are packed, for inference
//! * `attention` – softmax attention
//! * `residual` – the halves of a block of both, in training
//! * `stack` – residual blocks in evaluation mode
//! * `maps` – blocks of convolutional towers in evaluation mode, strip by strip of `lines`
//!
//! `OPENCLIP_CPU_KERNELS=burn` in the environment leaves everything to Burn.

pub(super) mod activation;
pub(crate) mod affine;
pub(super) mod attention;
pub mod contrast;
pub(super) mod dense;
pub(super) mod depthwise;
mod finish;
pub(super) mod linear;
pub(crate) mod lines;
pub(crate) mod maps;
#[cfg(all(test, feature = "flex"))]
mod maps_tests;
pub(super) mod norm;
pub(super) mod normed;
pub(super) mod packed;
pub(super) mod pool;
mod product;
mod quantised;
pub(super) mod residual;
pub(crate) mod stack;
#[cfg(all(test, feature = "flex"))]
mod tests;
#[cfg(all(test, feature = "flex"))]
mod transformer_tests;
mod winograd;

use std::ops::{Add, Mul, Sub};
use std::sync::LazyLock;

use burn::tensor::{DType, Device, Tensor, TensorData};
use rayon::prelude::*;

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

/// Whether this processor has vectors of 512 bits.
#[cfg(target_arch = "x86_64")]
static IS_WIDE: LazyLock<bool> = LazyLock::new(|| {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("fma")
});

/// Whether a tensor lies in this process's memory, for functions of the house to work on it.
pub fn is_on<const D: usize>(x: &Tensor<D>) -> bool {
    is_here(&x.device())
}

/// Whether the tensors of `device` lie there.
pub(crate) fn is_here(device: &Device) -> bool {
    enabled() && is_flex(device)
}

/// Whether `x` is computed on here.
pub(super) fn takes<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && is_on(x)
}

/// The same, where no derivative is wanted.
pub(crate) fn evaluates<const D: usize>(x: &Tensor<D>) -> bool {
    takes(x) && !x.is_autodiff()
}

/// Numbers that are added side by side.
const LANES: usize = 32;

/// As many numbers as vectors are computed with together.
#[derive(Debug, Clone, Copy)]
struct Lanes<const N: usize>([f32; N]);

impl<const N: usize> Lanes<N> {
    const ZERO: Self = Self([0.0; N]);

    /// `self·by + add`, rounded once.
    #[inline(always)]
    fn mul_add(self, by: Self, add: Self) -> Self {
        Self(std::array::from_fn(|lane| {
            self.0[lane].mul_add(by.0[lane], add.0[lane])
        }))
    }

    /// The first numbers of `values`.
    #[inline(always)]
    fn of(values: &[f32]) -> Self {
        let mut lanes = [0.0; N];
        lanes.copy_from_slice(&values[..N]);
        Self(lanes)
    }
}

impl<const N: usize> Add for Lanes<N> {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane] + other.0[lane]))
    }
}

impl<const N: usize> Sub for Lanes<N> {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane] - other.0[lane]))
    }
}

impl<const N: usize> Mul for Lanes<N> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane] * other.0[lane]))
    }
}

impl<const N: usize> Mul<f32> for Lanes<N> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, factor: f32) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane] * factor))
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

/// `eˣ` for `x` up to 0, within two roundings; zero below −87, where f32 ends.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Added to a number and taken off again, it rounds to a whole one.
    const ROUND: f32 = 12_582_912.0;
    const HIGH: f32 = 0.693_359_4;
    const LOW: f32 = -2.121_944_4e-4;
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let whole = shifted - ROUND;
    let rest = whole.mul_add(-LOW, whole.mul_add(-HIGH, x));
    const SERIES: [f32; 6] = [
        1.987_569_1e-4,
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ];
    let mut series = SERIES[0];
    for &term in &SERIES[1..] {
        series = series.mul_add(rest, term);
    }
    let value = (series * rest).mul_add(rest, rest) + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
    match x < -87.0 {
        true => 0.0,
        false => value * power,
    }
}

/// Runs `work` with the vector instructions of this processor. What it calls must be inlined to gain from them.
#[inline]
#[allow(unsafe_code)]
pub fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if *IS_WIDE {
        // SAFETY: the processor was asked for these instructions.
        return unsafe { wide(work) };
    } else if let Some(simd) = pulp::x86::V3::try_new() {
        return pulp::Simd::vectorize(simd, work);
    }
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,fma")]
fn wide<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// How many of `count` things one core takes at a time, some `at_once` or fewer: as many parts as keep every core busy, or one part
/// where there is too little for that, which is left to the products in it.
fn part_of(count: usize, at_once: usize) -> usize {
    let threads = rayon::current_num_threads();
    let parts = (count / at_once.max(1)).div_ceil(threads) * threads;
    count.div_ceil(parts.max(1)).max(1)
}

impl std::ops::Deref for Values {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.get()
    }
}

/// What lies in this process's memory in f32, row after row.
pub fn numbers<const D: usize>(x: &Tensor<D>) -> Option<impl std::ops::Deref<Target = [f32]>> {
    Values::of(x)
}

/// The sum of the squares of what lies in this process's memory in f32.
pub fn sum_of_squares<const D: usize>(x: &Tensor<D>) -> Option<f64> {
    const PART: usize = 1 << 16;
    let values = Values::of(x)?;
    let parts = values.get().par_chunks(PART).map(|part| {
        vectorized(
            #[inline(always)]
            || sum(part, part, |x, _| x * x),
        )
    });
    // Collected, for the order not to depend on the number of threads.
    Some(parts.collect::<Vec<f64>>().into_iter().sum())
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
