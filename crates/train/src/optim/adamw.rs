//! AdamW in one pass over the numbers of a parameter, where the processor has them.

use burn::optim::{AdamW, AdamWState, AdaptiveMomentumState, LearningRate, Optimizer};
use burn::tensor::{DType, Device, Tensor, TensorData};
use openclip_model::layers::flex;
use rayon::prelude::*;

/// Numbers that one core takes at a time.
const CHUNK: usize = 1 << 14;

/// Bytes of a line of the cache.
const LINE: usize = 64;

/// Burn's AdamW with its state: moments to the bit, steps to a rounding. What is not f32 on `flex` is left to Burn, and so is a parameter's first step.
#[derive(Clone)]
pub struct FusedAdamW {
    /// Decay of the two moments.
    pub betas: [f32; 2],
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// With the settings above.
    pub burn: AdamW,
}

impl FusedAdamW {
    /// What follows from the settings in the `time`-th step.
    fn factors(&self, lr: LearningRate, time: usize) -> Factors {
        let decay = lr * f64::from(self.weight_decay);
        let correction = self.betas.map(|beta| 1.0 - beta.powi(time as i32));
        let [first, second] = correction.map(f64::from);
        Factors {
            keep: self.betas,
            take: self.betas.map(|beta| 1.0 - beta),
            root: (1.0 / second.sqrt()) as f32,
            eps: self.eps,
            shrink: (1.0 - decay) as f32,
            step: (lr / first) as f32,
        }
    }
}

struct Factors {
    keep: [f32; 2],
    take: [f32; 2],
    /// The inverse root of the second moment's correction.
    root: f32,
    eps: f32,
    shrink: f32,
    /// The learning rate over the first moment's correction.
    step: f32,
}

impl Factors {
    /// The moments in Burn's order of operations; a step of one division in place of three.
    #[inline(always)]
    fn step(&self, [x, first, second]: [&mut f32; 3], gradient: f32) {
        *first = *first * self.keep[0] + gradient * self.take[0];
        *second = *second * self.keep[1] + gradient * gradient * self.take[1];
        let divisor = second.sqrt() * self.root + self.eps;
        *x = *x * self.shrink - *first * self.step / divisor;
    }

    fn steps(&self, x: &mut [f32], [first, second]: [&mut [f32]; 2], grad: &[f32]) {
        flex::vectorized(
            #[inline(always)]
            || {
                let moments = first.iter_mut().zip(second);
                for ((x, (first, second)), grad) in x.iter_mut().zip(moments).zip(grad) {
                    self.step([x, first, second], *grad);
                }
            },
        );
    }
}

impl Optimizer for FusedAdamW {
    type State<const D: usize> = AdamWState<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        let Some(state) = state else {
            return self.burn.step(lr, tensor, grad, None);
        };
        let here = |x: &Tensor<D>| x.dtype() == DType::F32 && flex::is_on(x);
        let moments = [&state.momentum.moment_1, &state.momentum.moment_2];
        let here = [&tensor].into_iter().chain(moments).all(here);
        let given = flex::numbers(&grad).filter(|_| here);
        let (Some(given), None) = (given, &state.momentum.max_moment_2) else {
            return self.burn.step(lr, tensor, grad, Some(state));
        };
        let device = tensor.device();
        let AdaptiveMomentumState {
            time,
            moment_1,
            moment_2,
            ..
        } = state.momentum;
        let time = time + 1;
        // Takes a buffer over where nobody else has it.
        let mut data = [tensor, moment_1, moment_2].map(Tensor::into_data);
        update(&self.factors(lr, time), &mut data, &given);
        let [tensor, moment_1, moment_2] = data.map(|data| Tensor::from_data(data, &device));
        let momentum = AdaptiveMomentumState {
            time,
            moment_1,
            moment_2,
            max_moment_2: None,
        };
        (tensor, Some(AdamWState { momentum }))
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &Device) -> Self::State<D> {
        AdamW::to_device(state, device)
    }
}

fn update(factors: &Factors, data: &mut [TensorData; 3], grad: &[f32]) {
    let [x, first, second] = data;
    let all = (
        x.as_mut_slice::<f32>(),
        first.as_mut_slice::<f32>(),
        second.as_mut_slice::<f32>(),
    );
    let (Ok(x), Ok(first), Ok(second)) = all else {
        unreachable!("f32 that cannot be read as such");
    };
    // Large buffers all begin at one distance from a line of the cache: a few numbers in front, and the vectors behind cross none.
    let front = x.as_ptr().align_offset(LINE).min(x.len());
    let (x, first, second) = (
        x.split_at_mut(front),
        first.split_at_mut(front),
        second.split_at_mut(front),
    );
    let grad = grad.split_at(front);
    factors.steps(x.0, [first.0, second.0], grad.0);
    let moments = first.1.par_chunks_mut(CHUNK);
    let moments = moments.zip(second.1.par_chunks_mut(CHUNK));
    let parts = x.1.par_chunks_mut(CHUNK).zip(moments);
    let parts = parts.zip(grad.1.par_chunks(CHUNK));
    parts.for_each(|((x, (first, second)), grad)| factors.steps(x, [first, second], grad));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use burn::optim::AdamWConfig;
    use burn::tensor::Distribution;

    #[test]
    fn moments_are_burns_to_the_bit_and_steps_to_a_rounding() {
        let device = Device::flex();
        device.seed(3);
        for (shape, weight_decay) in [([1, 1], 0.0), ([37, 41], 0.2), ([130, 257], 0.1)] {
            let burn = AdamWConfig::new()
                .with_beta_2(0.98)
                .with_epsilon(1e-6)
                .with_weight_decay(weight_decay)
                .build();
            let fused = FusedAdamW {
                betas: [0.9, 0.98],
                eps: 1e-6,
                weight_decay,
                burn: burn.clone(),
            };
            let random = || Tensor::<2>::random(shape, Distribution::Default, &device);
            let start = random() - 0.5;
            let [mut a, mut b] = [(start.clone(), None), (start, None)];
            for step in 0..6 {
                let lr = 1e-3 / f64::from(step + 1);
                // The third is a view, and the fourth has numbers that are none.
                let grad = match step {
                    2 => Tensor::<2>::random([shape[1], shape[0]], Distribution::Default, &device)
                        .transpose(),
                    3 => random().sub_scalar(0.5).log(),
                    _ => random() - 0.5,
                };
                a = fused.step(lr, a.0, grad.clone(), a.1);
                b = burn.step(lr, b.0, grad, b.1);
                let bits = |x: &Tensor<2>| -> Vec<u32> {
                    let values: Vec<f32> = x.clone().try_into_vec_as().unwrap();
                    values.into_iter().map(f32::to_bits).collect()
                };
                let moments = |state: &Option<AdamWState<2>>| {
                    let momentum = state.clone().unwrap().momentum;
                    let tensors = [&momentum.moment_1, &momentum.moment_2];
                    (momentum.time, tensors.map(bits))
                };
                if step < 3 {
                    assert_eq!(moments(&a.1), moments(&b.1), "{shape:?}, step {step}");
                    let apart = (a.0.clone() - b.0.clone()).abs().max();
                    let apart: Vec<f32> = apart.try_into_vec_as().unwrap();
                    assert!(apart[0] <= 1.5e-7, "{shape:?}, step {step}: {}", apart[0]);
                }
                let lost = |x: &Tensor<2>| {
                    let values: Vec<f32> = x.clone().try_into_vec_as().unwrap();
                    values.into_iter().map(f32::is_nan).collect::<Vec<_>>()
                };
                assert_eq!(lost(&a.0), lost(&b.0), "{shape:?}, step {step}");
            }
        }
    }
}
