//! Whole evaluations: a loader's batches in, metrics out.

use burn::tensor::Tensor;
use openclip_data::error::DataError;
use openclip_data::loader::Batch;
use openclip_data::tokenizer::Tokenizer;
use openclip_model::ClipOutput;
use openclip_model::device::is_processor;
use openclip_model::loss::{caption_loss, clip_loss};

use crate::eight_bits::Change;
use crate::encode::Encoder;
use crate::error::EvalError;
use crate::gallery::Gallery;
use crate::progress::Progress;
use crate::ranking::{PairRetrieval, retrieval};
use crate::zero_shot::{Accuracy, Prompts};

pub use crate::host::host;
pub use crate::ranking::ranks;

/// Logits of zero-shot classification are this many times the cosine, whatever the model's own scale.
pub const ZERO_SHOT_SCALE: f64 = 100.0;

/// Prompts that are encoded together, those of whole classes: on an accelerator, and on a processor, which is as fast with few.
const PROMPTS: [usize; 2] = [1024, 64];

/// One column per class: the normalised mean of its prompts' features; `[embed_dim, classes]`.
///
/// # Errors
/// There is no class or no prompt, or the tokenizer has no ids for one.
pub fn zero_shot_classifier(
    encoder: &Encoder,
    tokenizer: &dyn Tokenizer,
    prompts: &Prompts,
    progress: &Progress,
) -> Result<Tensor<2>, EvalError> {
    let classes: Vec<usize> = (0..prompts.classes.len()).collect();
    let (each, mut columns) = (prompts.templates.len(), Vec::new());
    let most = PROMPTS[usize::from(is_processor(&encoder.device))];
    for classes in classes.chunks((most / each.max(1)).max(1)) {
        let texts = classes.iter().flat_map(|class| prompts.of_class(*class));
        let features = encoder.texts(tokenizer, &texts.collect::<Vec<_>>())?;
        for class in 0..classes.len() {
            let features = features
                .clone()
                .slice_dim(0, class * each..(class + 1) * each);
            columns.push(openclip_model::l2_normalize(features.mean_dim(0)));
            progress.inc(1);
        }
    }
    match columns.is_empty() {
        true => Err(EvalError::NoSamples),
        false => Ok(Tensor::cat(columns, 0).transpose()),
    }
}

/// Top-1 and top-5 accuracy of `classifier` over labelled batches; what 8 bits change in them is added to `change`.
pub(crate) fn zero_shot(
    encoder: &Encoder,
    classifier: &Tensor<2>,
    mut change: Option<&mut Change>,
    batches: impl Iterator<Item = Result<Batch, DataError>>,
    progress: &Progress,
) -> Result<Accuracy, EvalError> {
    let [_, classes] = classifier.dims();
    let mut accuracy = Accuracy::default();
    for batch in batches {
        let mut batch = batch?;
        let scores = scores(encoder, classifier, change.as_deref_mut(), &mut batch)?;
        accuracy.add(&scores, classes, &batch.labels)?;
        progress.inc(batch.size as u64);
    }
    Ok(accuracy)
}

/// Scores `[batch, classes]` of a batch's pictures, which it has no more afterwards.
pub(crate) fn scores(
    encoder: &Encoder,
    classifier: &Tensor<2>,
    change: Option<&mut Change>,
    batch: &mut Batch,
) -> Result<Vec<f32>, EvalError> {
    let planes = std::mem::take(&mut batch.images);
    let change = change.filter(|change| change.is_open());
    let again = change.is_some().then(|| planes.clone());
    let features = encoder.images(planes, batch.size);
    let scores = features.clone().matmul(classifier.clone());
    let scores = host(scores.mul_scalar(ZERO_SHOT_SCALE))?;
    if let (Some(change), Some(planes)) = (change, again) {
        change.add(planes, &features, &scores)?;
    }
    Ok(scores)
}

/// Validation loss and retrieval in both directions.
#[derive(Debug, Clone, PartialEq)]
pub struct PairMetrics {
    /// Retrieval by either rule.
    pub retrieval: PairRetrieval,
    /// Mean over batches of the contrastive loss within a batch, weighted by size.
    pub clip_val_loss: f64,
    /// The same of the captions' loss, of a model that writes captions.
    pub val_generative_loss: Option<f64>,
    /// Pairs seen.
    pub num_samples: u64,
    /// Different pictures among them.
    pub num_pictures: u64,
    /// Whether every feature is a number.
    pub is_finite: bool,
}

impl PairMetrics {
    /// Every metric under OpenCLIP's name, then those under CLIP_benchmark's.
    pub fn named(&self) -> Vec<(String, f64)> {
        let found = &self.retrieval;
        let mut metrics = found.image_to_text.named("image_to_text").to_vec();
        metrics.extend(found.text_to_image.named("text_to_image"));
        metrics.push(("clip_val_loss".into(), self.clip_val_loss));
        metrics.push(("num_samples".into(), self.num_samples as f64));
        let captions = self.val_generative_loss;
        metrics.extend(captions.map(|loss| ("val_generative_loss".into(), loss)));
        metrics.extend(found.image_retrieval.named("image_retrieval"));
        metrics.extend(found.text_retrieval.named("text_retrieval"));
        metrics
    }
}

/// Encodes all pairs and ranks each against all others. Pairs of one name have one picture where `named_by_picture` says so; it is
/// encoded once.
pub fn pairs(
    encoder: &Encoder,
    batches: impl Iterator<Item = Result<Batch, DataError>>,
    named_by_picture: bool,
    progress: &Progress,
) -> Result<PairMetrics, EvalError> {
    let (mut gallery, mut texts) = (Gallery::new(named_by_picture), Vec::new());
    let (mut loss_sum, mut caption_sum) = (0.0, 0.0);
    let model = encoder.model();
    let writes_captions = model.writes_captions();
    let mean =
        |loss: Tensor<1>| Ok::<_, EvalError>(host(loss)?.first().copied().unwrap_or(f32::NAN));
    for batch in batches {
        let mut batch = batch?;
        let size = batch.size;
        let new = gallery.place(&batch);
        let text = if writes_captions {
            let output = encoder.captioned(batch)?;
            let pad = model.text.pad_id() as i64;
            let loss = mean(caption_loss(output.logits, output.labels, pad))?;
            caption_sum += f64::from(loss) * size as f64;
            gallery.hang_some(output.features.image_features, &new)?;
            output.features.text_features
        } else {
            if new.count() > 0 {
                let planes = new.planes(std::mem::take(&mut batch.images));
                gallery.hang(encoder.images(planes, new.count()))?;
            }
            encoder.tokens(batch.tokens, size)
        };
        let image = gallery.last(size, &text.device());
        // OpenCLIP's validation loss knows no bias.
        let output = ClipOutput {
            logit_bias: None,
            ..model.join(image, text.clone())
        };
        loss_sum += f64::from(mean(clip_loss(output))?) * size as f64;
        texts.push(text);
        progress.inc(size as u64);
    }
    let count = gallery.of_pair.len();
    if count == 0 {
        return Err(EvalError::NoSamples);
    }
    let texts = Tensor::cat(texts, 0);
    let (images, of_pair) = gallery.into_features(&texts.device());
    let num_pictures = images.dims()[0] as u64;
    Ok(PairMetrics {
        retrieval: retrieval(&images, &texts, &of_pair)?,
        clip_val_loss: loss_sum / count as f64,
        val_generative_loss: writes_captions.then_some(caption_sum / count as f64),
        num_samples: count as u64,
        num_pictures,
        // A feature that is no number makes the loss of its batch none.
        is_finite: loss_sum.is_finite() && caption_sum.is_finite(),
    })
}
