//! The feature relay: the exact gradient of a contrastive loss over more samples than fit through the towers at once.
//!
//! 1. Encode every micro-batch; without graph when there is more than one.
//! 2. Take the loss of all features as a function of leaf tensors, and the gradient of every feature.
//! 3. Encode each micro-batch again with graph and the same dropout, and back-propagate `Σ features · gradient`, to which a model
//!    that writes captions adds its share of the mean over all tokens of the step.
//!
//! A single micro-batch is encoded once: its graph serves both passes.

use burn::module::{Module, Param};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Int, Tensor};
use openclip_model::params::Pick;
use openclip_model::{Clip, ModelError};

use crate::loss::{Loss, Objective, caption_sum, clip_loss, counted};

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

/// What the towers make of a micro-batch.
struct Encoded {
    /// Of pictures and captions, of unit length, in f32.
    features: [Tensor<2>; 2],
    /// Logits and labels of the next tokens, where they were asked for.
    captions: Option<(Tensor<3>, Tensor<2, Int>)>,
}

impl MicroBatch {
    fn encode(&self, model: &Clip, captions: bool) -> Result<Encoded, ModelError> {
        let (images, tokens) = (self.images.clone(), self.tokens.clone());
        if captions {
            let found = model.forward_caption(images, tokens, Some(self.dropout))?;
            return Ok(Encoded {
                features: [found.features.image_features, found.features.text_features],
                captions: Some((found.logits, found.labels)),
            });
        }
        let dtype = images.dtype();
        Ok(Encoded {
            features: [
                model.encode_image_training(images, self.dropout),
                model.encode_text_training(tokens, dtype, self.dropout),
            ],
            captions: None,
        })
    }

    /// How many tokens the captions' loss is a mean over, on the plain device.
    fn label_count(&self, pad: i64) -> Tensor<1> {
        let [_, length] = self.tokens.dims();
        let labels = self.tokens.clone().inner().slice_dim(1, 1..length);
        counted(labels, pad).sum()
    }

    fn without_graph(&self) -> Self {
        Self {
            images: self.images.clone().inner(),
            tokens: self.tokens.clone().inner(),
            dropout: self.dropout,
        }
    }
}

/// Losses of one step, `[1]` each, on the plain device.
#[derive(Debug, Clone)]
pub struct Losses {
    /// What is minimised.
    pub total: Tensor<1>,
    /// The contrastive part with its weight.
    pub contrastive: Tensor<1>,
    /// The captions' part with its weight.
    pub caption: Option<Tensor<1>>,
}

/// CLIP's loss of one step, `[1]` on the plain device, and the gradient of every trainable parameter.
///
/// # Errors
/// As [`step_toward`].
pub fn step(
    model: &Clip,
    batches: &[MicroBatch],
) -> Result<(Tensor<1>, GradientsParams), ModelError> {
    let (losses, gradients) = step_toward(model, batches, &Objective::from(clip_loss as Loss))?;
    Ok((losses.total, gradients))
}

/// Losses of one step and the gradient of every trainable parameter.
///
/// # Errors
/// When captions are asked of a model that writes none, or of a length that its decoder does not take.
pub fn step_toward(
    model: &Clip,
    batches: &[MicroBatch],
    objective: &Objective,
) -> Result<(Losses, GradientsParams), ModelError> {
    let writes = objective.caption.is_some();
    let mut graph = match batches {
        [only] => Some(only.encode(model, writes)?),
        _ => None,
    };
    let features = match &graph {
        Some(encoded) => encoded.features.clone().map(Tensor::inner),
        None => {
            let plain = model.valid();
            let (mut images, mut texts) = (Vec::new(), Vec::new());
            for batch in batches {
                let [image, text] = batch.without_graph().encode(&plain, false)?.features;
                images.push(image);
                texts.push(text);
            }
            [Tensor::cat(images, 0), Tensor::cat(texts, 0)]
        }
    };
    let [images, texts] = features.map(|features| Tensor::from_inner(features).require_grad());
    let contrastive = (objective.contrastive)(model.join(images.clone(), texts.clone()))
        .mul_scalar(objective.contrastive_weight);
    let mut gradients = contrastive.backward();
    let [image_grad, text_grad] = [&images, &texts].map(|leaf| leaf.grad_remove(&mut gradients));
    let mut all = GradientsAccumulator::new();
    all.accumulate(model, GradientsParams::from_module(&mut gradients, model));

    let count = objective.caption.and_then(|caption| {
        let counts = batches.iter().map(|batch| batch.label_count(caption.pad));
        Some(counts.reduce(|a, b| a + b)?.clamp_min(1.0))
    });
    let mut caption = None;
    let mut row = 0;
    for batch in batches {
        let encoded = match graph.take() {
            Some(encoded) => encoded,
            None => batch.encode(model, writes)?,
        };
        let rows = encoded.features[0].dims()[0];
        let mut terms = Vec::new();
        for (part, grad) in encoded.features.into_iter().zip([&image_grad, &text_grad]) {
            // A tower that is frozen as a whole has no graph.
            if let (Some(grad), true) = (grad, part.is_tracked()) {
                let grad = grad.clone().slice_dim(0, row..row + rows);
                terms.push((part * Tensor::from_inner(grad)).sum());
            }
        }
        if let (Some((logits, labels)), Some(objective), Some(count)) =
            (encoded.captions, objective.caption, &count)
        {
            let share = caption_sum(logits, labels, objective.pad).mul_scalar(objective.weight)
                / Tensor::from_inner(count.clone());
            let known = share.clone().inner();
            caption = Some(caption.map_or(known.clone(), |sum: Tensor<1>| sum + known));
            terms.push(share);
        }
        if let Some(surrogate) = terms.into_iter().reduce(|a, b| a + b) {
            let gradients = GradientsParams::from_grads(surrogate.backward(), model);
            all.accumulate(model, gradients);
        }
        row += rows;
    }
    let contrastive = contrastive.inner();
    let total = match &caption {
        Some(caption) => contrastive.clone() + caption.clone(),
        None => contrastive.clone(),
    };
    let losses = Losses {
        total,
        contrastive,
        caption,
    };
    Ok((losses, all.grads()))
}

/// Exports a parameter's gradient in its place; see [`openclip_model::params::export_with`].
#[derive(Debug)]
pub struct PickGradient<'a>(pub &'a GradientsParams);

impl Pick for PickGradient<'_> {
    fn pick<const D: usize>(&mut self, param: &Param<Tensor<D>>) -> Option<Tensor<D>> {
        self.0.get(param.id)
    }
}
