//! The feature relay: the exact gradient of a contrastive loss over more samples than fit through the towers at once.
//!
//! 1. Encode every micro-batch; without graph when there is more than one.
//! 2. Take the loss of all features as a function of leaf tensors, and the gradient of every feature.
//! 3. Encode each micro-batch again with graph and the same dropout, and back-propagate `Σ features · gradient`.
//!
//! A single micro-batch is encoded once: its graph serves both passes.

use burn::module::{Module, Param};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Int, Tensor};
use openclip_model::params::Pick;
use openclip_model::{Clip, ClipOutput};

use crate::loss::clip_loss;

/// Samples that go through the towers together.
#[derive(Debug, Clone)]
pub struct MicroBatch {
    /// Normalised pixels `[batch, 3, height, width]` in the dtype to compute in, on an autodiff device.
    pub images: Tensor<4>,
    /// Token ids `[batch, context_length]`.
    pub tokens: Tensor<2, Int>,
    /// Seeds dropout of every kind.
    pub dropout: u64,
}

impl MicroBatch {
    /// Features of unit length in f32.
    fn encode(&self, model: &Clip) -> [Tensor<2>; 2] {
        let dtype = self.images.dtype();
        [
            model.encode_image_training(self.images.clone(), self.dropout),
            model.encode_text_training(self.tokens.clone(), dtype, self.dropout),
        ]
    }

    fn without_graph(&self) -> Self {
        Self {
            images: self.images.clone().inner(),
            tokens: self.tokens.clone().inner(),
            dropout: self.dropout,
        }
    }
}

/// Contrastive loss of one step, `[1]` on the plain device, and the gradient of every trainable parameter.
pub fn step(model: &Clip, batches: &[MicroBatch]) -> (Tensor<1>, GradientsParams) {
    step_with(model, batches, clip_loss)
}

/// Like [`step`] with another loss, such as [`siglip_loss`](crate::loss::siglip_loss).
pub fn step_with(
    model: &Clip,
    batches: &[MicroBatch],
    loss: impl Fn(ClipOutput) -> Tensor<1>,
) -> (Tensor<1>, GradientsParams) {
    let mut graph = (batches.len() == 1).then(|| batches[0].encode(model));
    let features = match &graph {
        Some(features) => features.clone().map(Tensor::inner),
        None => {
            let plain = model.valid();
            let parts = batches
                .iter()
                .map(|batch| batch.without_graph().encode(&plain));
            let (images, texts) = parts.map(|[image, text]| (image, text)).unzip();
            [Tensor::cat(images, 0), Tensor::cat(texts, 0)]
        }
    };
    let [images, texts] = features.map(|features| Tensor::from_inner(features).require_grad());
    let loss = loss(model.join(images.clone(), texts.clone()));
    let mut gradients = loss.backward();
    let [image_grad, text_grad] = [&images, &texts].map(|leaf| leaf.grad_remove(&mut gradients));
    let mut total = GradientsAccumulator::new();
    total.accumulate(model, GradientsParams::from_module(&mut gradients, model));
    let mut row = 0;
    for batch in batches {
        let parts = graph.take().unwrap_or_else(|| batch.encode(model));
        let rows = parts[0].dims()[0];
        let weighted =
            parts
                .into_iter()
                .zip([&image_grad, &text_grad])
                .filter_map(|(part, grad)| {
                    let grad = grad.clone()?.slice_dim(0, row..row + rows);
                    Some((part * Tensor::from_inner(grad)).sum())
                });
        if let Some(surrogate) = weighted.reduce(|a, b| a + b) {
            let gradients = GradientsParams::from_grads(surrogate.backward(), model);
            total.accumulate(model, gradients);
        }
        row += rows;
    }
    (loss.inner(), total.grads())
}

/// Exports a parameter's gradient in its place; see [`openclip_model::params::export_with`].
#[derive(Debug)]
pub struct PickGradient<'a>(pub &'a GradientsParams);

impl Pick for PickGradient<'_> {
    fn pick<const D: usize>(&mut self, param: &Param<Tensor<D>>) -> Option<Tensor<D>> {
        self.0.get(param.id)
    }
}
