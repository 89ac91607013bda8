//! BatchNorm with running statistics.
//!
//! The statistics are those of one batch, or of the batches of all ranks: see [`RankSum`].
//!
//! A forward pass takes `&self`, so the statistics of a batch are put aside in a [`PendingStatistics`] that all norms of a
//! tower share, and [`PendingStatistics::apply`] brings them into the running ones after the optimizer's step.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::{DType, Device, Tensor, TensorData, module};

use super::flex::norm::{affine, batch_norm, sums as channel_sums};
use super::flex::normed::{Then, normed};
use super::flex::takes;
use super::recompute::is_repeated;
use super::{Conv2d, parameter};
use crate::layers::derivative::{Value, differentiable};

/// Share of a batch's statistics in the running ones (PyTorch's default).
const MOMENTUM: f64 = 0.1;

/// Added to the variance (PyTorch's default).
const EPS: f64 = 1e-5;

/// Adds up numbers over the ranks that train one model together.
///
/// Every rank makes the same calls in the same order, within the backward pass as well.
pub trait RankSum: std::fmt::Debug + Send + Sync {
    /// The sum over the ranks of `values`, of equal length on all of them; or why this rank's cannot be read from its device.
    ///
    /// There is no value to go on with when a rank has none or is lost: an implementation then unwinds with its own error, and
    /// the other ranks with theirs.
    fn sum(&self, values: Result<Vec<f32>, String>) -> Vec<f32>;
}

/// Means and variances of batches, in the order of the forward passes, for the running statistic that each belongs to.
///
/// Clones share the batches, so a pass through a copy of the tower without gradients counts as well.
#[derive(Debug, Clone, Default)]
pub struct PendingStatistics(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    batches: HashMap<ParamId, Vec<Tensor<1>>>,
    /// Running statistics that stay as they are.
    frozen: HashSet<ParamId>,
    /// Whose batches count, where it is more than this rank's.
    ranks: Option<Arc<dyn RankSum>>,
}

impl PendingStatistics {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> HashMap<ParamId, Vec<Tensor<1>>> {
        std::mem::take(&mut self.state().batches)
    }

    fn push(&self, statistics: [(ParamId, Tensor<1>); 2]) {
        if is_repeated() {
            return;
        }
        let mut state = self.state();
        for (id, value) in statistics {
            state.batches.entry(id).or_default().push(value);
        }
    }

    /// The norms of these running statistics normalise by them in training, too, and leave them as they are.
    pub fn freeze(&self, running: impl Iterator<Item = ParamId>) {
        self.state().frozen.extend(running);
    }

    /// The norms normalise by the statistics of all ranks' batches together.
    pub fn synchronise(&self, ranks: Arc<dyn RankSum>) {
        self.state().ranks = Some(ranks);
    }

    /// Whether all norms of the tower go by the statistics of one batch of this rank in training.
    pub fn are_local(&self) -> bool {
        let state = self.state();
        state.frozen.is_empty() && state.ranks.is_none()
    }

    fn ranks(&self) -> Option<Arc<dyn RankSum>> {
        self.state().ranks.clone()
    }

    fn is_frozen(&self, running: ParamId) -> bool {
        self.state().frozen.contains(&running)
    }

    /// Updates the running statistics of `module` by what its forward passes in training mode have left:
    /// `0.9·running + 0.1·batch` for each pass in turn.
    pub fn apply<M: Module>(&self, module: M) -> M {
        let pending = self.take();
        match pending.is_empty() {
            true => module,
            false => module.map(&mut Update(pending)),
        }
    }

    /// Forgets what the forward passes have left.
    pub fn clear(&self) {
        self.take();
    }
}

struct Update(HashMap<ParamId, Vec<Tensor<1>>>);

impl ModuleMapper for Update {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(batches) = self.0.remove(&param.id) else {
            return param;
        };
        param.map(|running| {
            let (dtype, autodiff) = (running.dtype(), running.is_autodiff());
            let running = batches
                .into_iter()
                .fold(running.inner().cast(DType::F32), |running, batch| {
                    let batch = batch.reshape(running.dims());
                    running.mul_scalar(1.0 - MOMENTUM) + batch.mul_scalar(MOMENTUM)
                })
                .cast(dtype);
            match autodiff {
                true => Tensor::from_inner(running),
                false => running,
            }
        })
    }
}

/// BatchNorm over the second axis of `[batch, channels, height, width]`, computed in f32 whatever the dtype of its input.
#[derive(Module, Debug)]
pub struct BatchNorm2d {
    /// `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// `[channels]`.
    pub bias: Param<Tensor<1>>,
    /// `[channels]`, not trained.
    pub running_mean: Param<Tensor<1>>,
    /// `[channels]`, not trained, unbiased.
    pub running_var: Param<Tensor<1>>,
    #[module(skip)]
    pending: PendingStatistics,
}

impl BatchNorm2d {
    /// A norm over `channels` features that leaves the statistics of batches in `pending`.
    pub fn new(channels: usize, pending: &PendingStatistics, device: &Device) -> Self {
        let fixed = || parameter([channels], device).set_require_grad(false);
        Self {
            weight: parameter([channels], device),
            bias: parameter([channels], device),
            running_mean: fixed(),
            running_var: fixed(),
            pending: pending.clone(),
        }
    }

    /// The same shape and dtype as `x`.
    ///
    /// In evaluation, and where they are frozen, the running statistics normalise. In `training` those of the batch do, with the biased variance, and
    /// they are put aside for the running ones, with the unbiased variance.
    pub fn forward(&self, x: Tensor<4>, training: bool) -> Tensor<4> {
        let dtype = x.dtype();
        if training && !self.pending.is_frozen(self.running_mean.id) {
            if let Some(ranks) = self.pending.ranks() {
                return self.forward_over(x.cast(DType::F32), ranks).cast(dtype);
            }
            let weight = self.weight.val().cast(DType::F32);
            let bias = self.bias.val().cast(DType::F32);
            let [batch, _, height, width] = x.dims();
            let count = (batch * height * width) as f64;
            let x = x.cast(DType::F32);
            let (output, [mean, variance]) = match batch_norm(&x, &weight, &bias, EPS) {
                Some(found) => found,
                None => {
                    let found = module::batch_norm_train(x, weight, bias, EPS);
                    (
                        found.output,
                        [found.mean, found.variance].map(Tensor::inner),
                    )
                }
            };
            self.put_aside(mean, variance, count);
            return output.cast(dtype);
        }
        let [scale, shift] = self.affine();
        let [channels] = scale.dims();
        let wide = |x: Tensor<1>| x.reshape([1, channels, 1, 1]);
        let x = x.cast(DType::F32);
        let output = match affine(&x, &scale, &shift) {
            Some(output) => output,
            None => x * wide(scale) + wide(shift),
        };
        output.cast(dtype)
    }

    /// For the running statistics, those of a batch of `count` places, whose variance is the biased one.
    fn put_aside(&self, mean: Tensor<1>, variance: Tensor<1>, count: f64) {
        let unbiased = count / (count - 1.0).max(1.0);
        self.pending.push([
            (self.running_mean.id, mean),
            (self.running_var.id, variance.mul_scalar(unbiased)),
        ]);
    }

    /// In training, the norm of `conv` on `[batch, height, width, channels]` and what comes `then`, with channels last. `None` where the
    /// device has no one operation for it, or the statistics are not those of the batch.
    pub fn behind(&self, conv: &Conv2d, x: &Tensor<4>, then: Then<'_>) -> Option<Tensor<4>> {
        let local = self.pending.are_local();
        if !local || !takes(x) || conv.groups() > 1 || conv.bias.is_some() {
            return None;
        }
        let weight = conv.weight.val().cast(DType::F32);
        let [scale, shift] = [&self.weight, &self.bias].map(|x| x.val().cast(DType::F32));
        let (stride, affine) = (conv.stride(), [&scale, &shift]);
        let (output, [mean, variance]) = normed(x, &weight, affine, stride, EPS, then)?;
        let [batch, height, width, _] = output.dims();
        self.put_aside(mean, variance, (batch * height * width) as f64);
        Some(output)
    }

    /// In training, by the statistics of all ranks' batches; `x` is in f32.
    fn forward_over(&self, x: Tensor<4>, ranks: Arc<dyn RankSum>) -> Tensor<4> {
        let [weight, bias] = [&self.weight, &self.bias].map(|param| param.val().cast(DType::F32));
        let inputs = vec![
            Value::from(x.clone()),
            Value::from(weight.clone()),
            Value::from(bias.clone()),
        ];
        let (x, weight) = (x.inner(), weight.inner());
        let [batch, channels, height, width] = x.dims();
        let wide = move |x: Tensor<1>| x.reshape([1, channels, 1, 1]);
        let sums = |x: Tensor<4>| {
            channel_sums(&x).unwrap_or_else(|| x.sum_dims_squeeze::<1, _>(&[0, 2, 3]))
        };
        let halves = move |both: Tensor<1>| {
            [0, 1].map(|i| both.clone().slice_dim(0, i * channels..(i + 1) * channels))
        };
        let count = Tensor::full([1], (batch * height * width) as f32, &x.device());
        let total = sum_over_ranks(Tensor::cat(vec![sums(x.clone()), count], 0), &*ranks);
        let count = total.clone().slice_dim(0, channels..channels + 1);
        let mean = total.slice_dim(0, 0..channels) / count.clone();
        let centred = x - wide(mean.clone());
        let squares = sum_over_ranks(sums(centred.clone().square()), &*ranks);
        let unbiased = squares.clone() / count.clone().sub_scalar(1.0).clamp_min(1.0);
        self.pending.push([
            (self.running_mean.id, mean),
            (self.running_var.id, unbiased),
        ]);
        let inverse = (squares / count.clone() + EPS).sqrt().recip();
        let normal = centred * wide(inverse.clone());
        let output = normal.clone() * wide(weight.clone()) + wide(bias.inner());
        differentiable(inputs, output, move |gradient| {
            let of_bias = sums(gradient.clone());
            let of_weight = sums(gradient.clone() * normal.clone());
            let both = Tensor::cat(vec![of_bias.clone(), of_weight.clone()], 0);
            let [level, slope] = halves(sum_over_ranks(both, &*ranks) / count);
            let of_x = (gradient - wide(level) - normal * wide(slope)) * wide(weight * inverse);
            vec![
                Some(of_x.into()),
                Some(of_weight.into()),
                Some(of_bias.into()),
            ]
        })
    }

    /// What evaluation multiplies each channel by and then adds to it, `[channels]` both, in f32.
    pub(crate) fn affine(&self) -> [Tensor<1>; 2] {
        let [weight, bias, mean, variance] = [
            &self.weight,
            &self.bias,
            &self.running_mean,
            &self.running_var,
        ]
        .map(|param| param.val().cast(DType::F32));
        let scale = weight / (variance + EPS).sqrt();
        let shift = bias - mean * scale.clone();
        [scale, shift]
    }
}

/// The sum over all ranks, off the graph.
fn sum_over_ranks(values: Tensor<1>, ranks: &dyn RankSum) -> Tensor<1> {
    let device = values.device();
    let numbers = values.try_into_vec_as::<f32>();
    let numbers = ranks.sum(numbers.map_err(|error| error.to_string()));
    let shape = [numbers.len()];
    Tensor::from_data(TensorData::new(numbers, shape), (&device, DType::F32))
}

/// Whether a key names a running statistic: a buffer of PyTorch, not one of its parameters.
pub fn is_running_statistic(key: &str) -> bool {
    key.ends_with(".running_mean") || key.ends_with(".running_var")
}
