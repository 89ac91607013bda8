//! Adam with Nesterov's momentum and decoupled weight decay.

use burn::optim::{LearningRate, Optimizer, RecordState, StateSink, StateSource};
use burn::tensor::{Device, Tensor};

/// Steps by the momentum of the next step in place of this one's.
#[derive(Debug, Clone, PartialEq)]
pub struct NAdamW {
    /// Decay of the two moments.
    pub betas: [f32; 2],
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// ψ of PyTorch's `NAdam`, whose momentum of step t is β₁ (1 − ½ · 0.96^(t ψ)); without it β₁ throughout, as timm's `NAdamW`.
    pub momentum_decay: Option<f64>,
}

/// State of one parameter.
#[derive(Clone)]
pub struct NAdamWState<const D: usize> {
    time: usize,
    /// Over the momenta of all steps.
    momentum_product: f64,
    moments: [Tensor<D>; 2],
}

impl NAdamW {
    /// Weights of the gradient and of the first moment in step `time`, given the product of the momenta before it, and the product
    /// with its own.
    fn weights(&self, time: usize, product: f64) -> ([f64; 2], f64) {
        let beta = f64::from(self.betas[0]);
        let Some(decay) = self.momentum_decay else {
            let product = product * beta;
            return ([(1.0 - beta), beta].map(|x| x / (1.0 - product)), product);
        };
        let momentum = |time: usize| beta * (1.0 - 0.5 * 0.96_f64.powf(time as f64 * decay));
        let (now, next) = (momentum(time), momentum(time + 1));
        let product = product * now;
        let weights = [(1.0 - now) / (1.0 - product), next / (1.0 - product * next)];
        (weights, product)
    }
}

impl Optimizer for NAdamW {
    type State<const D: usize> = NAdamWState<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        let [beta_1, beta_2] = self.betas.map(f64::from);
        let state = state.unwrap_or_else(|| NAdamWState {
            time: 0,
            momentum_product: 1.0,
            moments: [grad.zeros_like(), grad.zeros_like()],
        });
        let time = state.time + 1;
        let ([of_grad, of_moment], momentum_product) = self.weights(time, state.momentum_product);
        let [first, second] = state.moments;
        let first = first * beta_1 + grad.clone() * (1.0 - beta_1);
        let second = second * beta_2 + grad.clone().square() * (1.0 - beta_2);
        let correction = 1.0 - beta_2.powi(time as i32);
        let divisor = (second.clone() / correction).sqrt() + self.eps;
        let update = (grad * of_grad + first.clone() * of_moment) / divisor;
        let tensor = tensor * (1.0 - lr * f64::from(self.weight_decay)) - update * lr;
        let state = NAdamWState {
            time,
            momentum_product,
            moments: [first, second],
        };
        (tensor, Some(state))
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &Device) -> Self::State<D> {
        NAdamWState {
            moments: state.moments.map(|moment| moment.to_device(device)),
            ..state
        }
    }
}

const MOMENTS: [&str; 2] = ["moment_1", "moment_2"];

/// What Burn's derive writes, which works inside of Burn alone.
impl<const D: usize> RecordState for NAdamWState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_scalar(prefix, "time", self.time.into());
        out.push_scalar(prefix, "momentum_product", self.momentum_product.into());
        for (name, moment) in MOMENTS.iter().zip(&self.moments) {
            out.push_tensor(prefix, name, moment.clone().into_data());
        }
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, device: &Device) -> Option<Self> {
        let time = src.take_scalar(prefix, "time")?.try_into().ok()?;
        let product = src.take_scalar(prefix, "momentum_product")?;
        let [first, second] = MOMENTS.map(|name| src.take_tensor(prefix, name));
        Some(Self {
            time,
            momentum_product: product.try_into().ok()?,
            moments: [
                Tensor::from_data(first?, device),
                Tensor::from_data(second?, device),
            ],
        })
    }
}
