//! The feature relay: the exact gradient of a contrastive loss over more samples than fit through the towers at once, on one
//! device or on the ranks of a [`Communicator`].
//!
//! 1. Encode every micro-batch; without graph when there is more than one.
//! 2. Gather the features of all ranks. Each rank takes the loss of its own rows against all columns, and its gradient by every
//!    feature, tile by tile; the sum over the ranks gives each its own features' gradient.
//! 3. Encode each micro-batch again with graph and the same dropout, and back-propagate `Σ features · gradient`, to which a model
//!    that writes captions adds its share of the mean over all tokens of the step.
//! 4. Sum the gradients of the parameters over the ranks: those of the image tower while the text tower's backward pass runs.
//!
//! A single micro-batch is encoded once: its graph serves both passes.

use std::ops::Range;

use burn::module::{Module, Param};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{DType, Int, Tensor};
use openclip_eval::run::host;
use openclip_model::loss::{caption_sum, counted};
use openclip_model::params::Pick;
use openclip_model::{Clip, ClipOutput, ModelError};

use crate::TrainError;
use crate::comm::{Communicator, Single, tensors};
use crate::loss::tiles::{self, Features, Share, Temperature};
use crate::loss::{DistillLoss, Objective, PairLoss};

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

/// Losses of one step, `[1]` each, on the plain device, with their weights: this rank's shares, whose sum over the ranks is the
/// whole batch's.
#[derive(Debug, Clone, Copy, Default)]
pub struct Losses<T = Tensor<1>> {
    /// What is minimised.
    pub total: T,
    /// The contrastive part.
    pub contrastive: T,
    /// The teacher's part.
    pub distill: Option<T>,
    /// The captions' part.
    pub caption: Option<T>,
}

impl Losses {
    /// The whole batch's on the host: one transfer and one exchange for all of them.
    ///
    /// # Errors
    /// When a rank is lost or the device fails.
    pub fn summed(self, ranks: &dyn Communicator) -> Result<Losses<f64>, TrainError> {
        let (has_teacher, writes) = (self.distill.is_some(), self.caption.is_some());
        let parts = [
            Some(self.total),
            Some(self.contrastive),
            self.distill,
            self.caption,
        ];
        let mut values = host(Tensor::cat(parts.into_iter().flatten().collect(), 0))?;
        ranks.all_reduce(&mut values)?;
        let mut values = values.into_iter().map(f64::from);
        let mut next = || values.next().unwrap_or(f64::NAN);
        Ok(Losses {
            total: next(),
            contrastive: next(),
            distill: has_teacher.then(&mut next),
            caption: writes.then(&mut next),
        })
    }
}

/// CLIP's loss of one step, `[1]` on the plain device, and the gradient of every trainable parameter.
///
/// # Errors
/// As [`Relay::step`].
pub fn step(
    model: &Clip,
    batches: &[MicroBatch],
) -> Result<(Tensor<1>, GradientsParams), TrainError> {
    let (losses, gradients) = step_toward(model, batches, &Objective::default())?;
    Ok((losses.total, gradients))
}

/// Losses of one step and the gradient of every trainable parameter, on a single rank.
///
/// # Errors
/// As [`Relay::step`].
pub fn step_toward(
    model: &Clip,
    batches: &[MicroBatch],
    objective: &Objective,
) -> Result<(Losses, GradientsParams), TrainError> {
    Relay::new(objective).step(model, batches)
}

/// How the gradient of a step is made.
#[derive(Debug, Clone, Copy)]
pub struct Relay<'a> {
    /// What is minimised.
    pub objective: &'a Objective,
    /// Who shares the batch.
    pub ranks: &'a dyn Communicator,
    /// Whom the model learns from, without graph.
    pub teacher: Option<&'a Clip>,
    /// Factor of all gradients, and of no loss: the scale of narrow floats.
    pub grad_scale: f64,
}

impl<'a> Relay<'a> {
    /// On a single rank, without a teacher.
    pub fn new(objective: &'a Objective) -> Self {
        Self {
            objective,
            ranks: &Single,
            teacher: None,
            grad_scale: 1.0,
        }
    }

    /// This rank's losses, and the gradient of every trainable parameter by the sum of all ranks' losses.
    ///
    /// # Errors
    /// When captions are asked of a model that writes none, or of a length that its decoder does not take; when a rank is lost.
    pub fn step(
        &self,
        model: &Clip,
        batches: &[MicroBatch],
    ) -> Result<(Losses, GradientsParams), TrainError> {
        let writes = self.objective.caption.is_some();
        let mut graph = match batches {
            [only] => Some(only.encode(model, writes)?),
            _ => None,
        };
        let features = match &graph {
            Some(encoded) => encoded.features.clone().map(Tensor::inner),
            None => {
                let plain = model.valid();
                join(batches.iter().map(|batch| {
                    let encoded = batch.without_graph().encode(&plain, false)?;
                    Ok(encoded.features)
                }))?
            }
        };
        let share = self.contrast(model, &features, batches)?;
        let mut all = GradientsAccumulator::new();
        all.accumulate(model, self.of_temperature(model, &share));

        let count = self.token_count(batches)?;
        let mut caption = None;
        let mut row = 0;
        let backward = |surrogate: Tensor<1>| {
            let gradients = surrogate.mul_scalar(self.grad_scale).backward();
            GradientsParams::from_grads(gradients, model)
        };
        let shared = self.ranks.world_size() > 1;
        let mut summed = GradientsParams::new();
        for batch in batches {
            let encoded = match graph.take() {
                Some(encoded) => encoded,
                None => batch.encode(model, writes)?,
            };
            let rows = encoded.features[0].dims()[0];
            let mut terms = Vec::new();
            for (part, grad) in encoded.features.into_iter().zip(&share.features) {
                // A tower that is frozen as a whole has no graph.
                if part.is_tracked() {
                    let grad = grad.clone().slice_dim(0, row..row + rows);
                    terms.push((part * Tensor::from_inner(grad)).sum());
                }
            }
            if let (Some((logits, labels)), Some(objective), Some(count)) =
                (encoded.captions, self.objective.caption, &count)
            {
                let share = caption_sum(logits, labels, objective.pad).mul_scalar(objective.weight)
                    / Tensor::from_inner(count.clone());
                let known = share.clone().inner();
                caption = Some(caption.map_or(known.clone(), |sum: Tensor<1>| sum + known));
                terms.push(share);
            }
            row += rows;
            // The towers' graphs are apart, unless captions are written.
            let apart = shared && !writes && row == features[0].dims()[0] && terms.len() == 2;
            let texts = if apart { terms.pop() } else { None };
            if let Some(surrogate) = terms.into_iter().reduce(|a, b| a + b) {
                all.accumulate(model, backward(surrogate));
            }
            if let Some(texts) = texts {
                let mut ready = all.grads();
                let last = tensors::sum_gradients_during(
                    self.ranks,
                    &model.visual,
                    &mut ready,
                    &mut summed,
                    || backward(texts),
                )?;
                all.accumulate(model, ready);
                all.accumulate(model, last);
            }
        }
        let mut losses = share.losses.into_iter();
        let contrastive = losses.next().unwrap_or_else(|| share.scale.zeros_like());
        let distill = losses.next();
        let parts = [distill.clone(), caption.clone()].into_iter().flatten();
        let losses = Losses {
            total: parts.fold(contrastive.clone(), |sum, part| sum + part),
            contrastive,
            distill,
            caption,
        };
        let mut gradients = all.grads();
        if shared {
            tensors::sum_gradients(self.ranks, model, &mut gradients, &mut summed)?;
            gradients = summed;
        }
        Ok((losses, gradients))
    }

    /// This rank's share of the contrastive losses, and the whole gradient of its own features.
    fn contrast(
        &self,
        model: &Clip,
        features: &Features,
        batches: &[MicroBatch],
    ) -> Result<Share, TrainError> {
        let mut losses = vec![(
            self.objective.contrastive,
            self.objective.contrastive_weight,
        )];
        let taught = self.objective.distill.zip(self.teacher);
        let teacher = match taught {
            None => None,
            Some((weight, teacher)) => {
                losses.push((&DistillLoss as &dyn PairLoss, weight));
                let features = join(batches.iter().map(|batch| {
                    let MicroBatch { images, tokens, .. } = batch.without_graph();
                    let ClipOutput {
                        image_features,
                        text_features,
                        ..
                    } = teacher.forward(images, tokens);
                    Ok([image_features, text_features])
                }))?;
                Some((self.gather(&features)?.0, temperature(teacher)))
            }
        };
        let (features, own) = self.gather(features)?;
        let mut share = tiles::share(
            &losses,
            &features,
            own.clone(),
            &temperature(model),
            teacher.as_ref().map(|(features, scale)| (features, scale)),
            tiles::TILE,
        );
        for gradient in &mut share.features {
            *gradient = tensors::sum(self.ranks, gradient.clone())?.slice_dim(0, own.clone());
        }
        Ok(share)
    }

    /// The features of all ranks, and which of them are this rank's.
    fn gather(&self, features: &Features) -> Result<(Features, Range<usize>), TrainError> {
        let [images, texts] = features.clone();
        let (images, own) = tensors::gather_rows(self.ranks, images)?;
        let (texts, _) = tensors::gather_rows(self.ranks, texts)?;
        Ok(([images, texts], own))
    }

    /// The gradients of the logit scale's logarithm and of the bias.
    fn of_temperature(&self, model: &Clip, share: &Share) -> GradientsParams {
        let mut gradients = GradientsParams::new();
        let mut register = |param: &Param<Tensor<1>>, gradient: Tensor<1>| {
            let value = param.val();
            if value.is_require_grad() {
                let gradient = gradient.mul_scalar(self.grad_scale).cast(value.dtype());
                gradients.register(param.id, gradient);
            }
        };
        let scale = temperature(model).scale;
        register(&model.logit_scale, share.scale.clone() * scale);
        if let Some(bias) = &model.logit_bias {
            register(bias, share.bias.clone());
        }
        gradients
    }

    /// How many tokens the captions' loss is a mean over, on all ranks together.
    fn token_count(&self, batches: &[MicroBatch]) -> Result<Option<Tensor<1>>, TrainError> {
        let Some(caption) = self.objective.caption else {
            return Ok(None);
        };
        let counts = batches.iter().map(|batch| batch.label_count(caption.pad));
        let count = counts.reduce(|a, b| a + b);
        let count = count
            .map(|count| tensors::sum(self.ranks, count))
            .transpose()?;
        Ok(count.map(|count| count.clamp_min(1.0)))
    }
}

/// Micro-batches' features as one.
fn join(parts: impl Iterator<Item = Result<Features, TrainError>>) -> Result<Features, TrainError> {
    let parts: Vec<Features> = parts.collect::<Result<_, _>>()?;
    let (images, texts) = parts.into_iter().map(|[image, text]| (image, text)).unzip();
    Ok([Tensor::cat(images, 0), Tensor::cat(texts, 0)])
}

/// Of a model, without graph.
fn temperature(model: &Clip) -> Temperature {
    let plain = |param: &Param<Tensor<1>>| param.val().inner().cast(DType::F32);
    Temperature {
        scale: plain(&model.logit_scale).exp(),
        bias: model.logit_bias.as_ref().map(plain),
    }
}

/// Exports a parameter's gradient in its place; see [`openclip_model::params::export_with`].
#[derive(Debug)]
pub struct PickGradient<'a>(pub &'a GradientsParams);

impl Pick for PickGradient<'_> {
    fn pick<const D: usize>(&mut self, param: &Param<Tensor<D>>) -> Option<Tensor<D>> {
        self.0.get(param.id)
    }
}
