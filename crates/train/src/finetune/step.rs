//! Cross-entropy of a classifier, and its gradient: the mean over all samples of a step, in micro-batches and over ranks.

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Int, Tensor};
use openclip_model::Clip;

use super::head::TrainedHead;
use crate::TrainError;
use crate::comm::{Communicator, tensors};
use crate::relay::Losses;

/// Labelled pictures that go through the tower together.
#[derive(Debug, Clone)]
pub struct Labelled {
    /// Normalised pixels `[batch, 3, height, width]` in the dtype to compute in.
    pub images: Tensor<4>,
    /// Classes, `[batch, 1]`.
    pub labels: Tensor<2, Int>,
    /// Seeds dropout of every kind.
    pub dropout: u64,
}

/// The sum over the samples of `(1 − s) · −log p(label) + s · mean over classes of −log p`, `[1]`.
pub fn cross_entropy(logits: Tensor<2>, labels: Tensor<2, Int>, smoothing: f64) -> Tensor<1> {
    let logs = log_softmax(logits, 1);
    let own = logs.clone().gather(1, labels).sum();
    if smoothing == 0.0 {
        return own.neg();
    }
    let spread = logs.mean_dim(1).sum();
    (own.mul_scalar(1.0 - smoothing) + spread.mul_scalar(smoothing)).neg()
}

/// How the gradient of a step is made.
pub struct Classification<'a> {
    /// Share of a label that is spread over all classes.
    pub smoothing: f64,
    /// Who shares the batch.
    pub ranks: &'a dyn Communicator,
    /// Factor of all gradients, and of no loss: the scale of narrow floats.
    pub grad_scale: f64,
}

impl Classification<'_> {
    /// This rank's share of the loss, and the gradient of every trainable parameter of `task`, the module of both, by the sum of all
    /// ranks' shares.
    ///
    /// # Errors
    /// When a rank is lost.
    pub fn step<M: Module>(
        &self,
        task: &M,
        (clip, head): (&Clip, &TrainedHead),
        batches: &[Labelled],
    ) -> Result<(Losses, GradientsParams), TrainError> {
        let own: usize = batches.iter().map(|batch| batch.images.dims()[0]).sum();
        let count = (own * self.ranks.world_size()).max(1) as f64;
        let mut all = GradientsAccumulator::new();
        let mut total: Option<Tensor<1>> = None;
        for batch in batches {
            let features = clip.encode_image_training(batch.images.clone(), batch.dropout);
            let logits = head.logits(features.cast(DType::F32));
            let loss = cross_entropy(logits, batch.labels.clone(), self.smoothing);
            let loss = loss.div_scalar(count);
            let known = loss.clone().inner();
            total = Some(total.map_or(known.clone(), |sum| sum + known));
            let gradients = loss.mul_scalar(self.grad_scale).backward();
            all.accumulate(task, GradientsParams::from_grads(gradients, task));
        }
        let mut gradients = all.grads();
        if self.ranks.world_size() > 1 {
            let mut summed = GradientsParams::new();
            tensors::sum_gradients(self.ranks, task, &mut gradients, &mut summed)?;
            gradients = summed;
        }
        let total = total.unwrap_or_else(|| clip.logit_scale.val().inner().zeros_like());
        let losses = Losses {
            contrastive: total.zeros_like(),
            total,
            distill: None,
            caption: None,
        };
        Ok((losses, gradients))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use openclip_eval::run::host;

    use super::*;

    /// Values of `torch.nn.functional.cross_entropy(logits, labels, label_smoothing=s, reduction='sum')`.
    #[test]
    fn losses_are_pytorchs() {
        let device = burn::tensor::Device::default();
        let logits = Tensor::<2>::from_data([[1.0, -2.0, 0.5], [0.25, 3.0, -1.0]], &device);
        for (smoothing, wanted) in [(0.0, 3.333_633), (0.1, 3.400_3)] {
            let loss = cross_entropy(logits.clone(), Tensor::zeros([2, 1], &device), smoothing);
            let found = host(loss).unwrap()[0];
            assert!((found - wanted).abs() < 1e-5, "{found} {wanted}");
        }
    }
}
