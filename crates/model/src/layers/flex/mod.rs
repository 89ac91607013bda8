//! What Burn's `flex` backend takes long for, values and derivatives, in f32 on every core.
//!
//! Each function gives `None` for tensors of another device or dtype, for which its caller has Burn's own operation. Sums are
//! taken in an order that does not depend on the number of threads.
//!
//! * `contrast` – the contrastive loss of pairs
//! * [`depthwise`] – convolution with a kernel per channel
//! * [`dense`] – convolution over all channels, channels first
//! * `packed` – the same with channels last, for inference; `winograd` its 3×3 kernels, `written` the products of both
//! * [`norm`] – LayerNorm and BatchNorm
//! * `pool` – means of squares of pixels
//! * [`activation`] – GELU and its relatives

pub(super) mod activation;
#[cfg(feature = "flex")]
pub mod contrast;
#[cfg(not(feature = "flex"))]
#[path = "elsewhere.rs"]
pub mod contrast;
pub(super) mod dense;
pub(super) mod depthwise;
pub(super) mod norm;
#[cfg(feature = "flex")]
pub(super) mod packed;
#[cfg(feature = "flex")]
pub(super) mod pool;
#[cfg(all(test, feature = "flex"))]
mod tests;
#[cfg(feature = "flex")]
mod winograd;
#[cfg(feature = "flex")]
mod written;

use burn::tensor::{DType, Device, Tensor, TensorData};

/// Whether the products and passes of the house are used; `OPENCLIP_CPU_KERNELS=burn` leaves them to Burn.
fn enabled() -> bool {
    static ENABLED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *ENABLED.get_or_init(|| std::env::var("OPENCLIP_CPU_KERNELS").as_deref() != Ok("burn"))
}

/// Whether a tensor lies in this process's memory, for functions of the house to work on it.
pub fn is_on<const D: usize>(x: &Tensor<D>) -> bool {
    enabled() && crate::device::is_flex(&x.device())
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

/// The numbers of a tensor, row after row, where they lie.
#[cfg(feature = "flex")]
#[derive(Debug)]
pub(super) struct Values(burn::backend::flex::FlexTensor);

#[cfg(feature = "flex")]
impl Values {
    /// `None` unless `x` is f32 on `flex`.
    pub(super) fn of<const D: usize>(x: &Tensor<D>) -> Option<Self> {
        if x.dtype() != DType::F32 {
            return None;
        }
        let plain = x.clone().inner();
        let plain = plain.try_into_primitive::<burn::backend::Flex>().ok()?;
        Some(Self(plain.to_contiguous()))
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
