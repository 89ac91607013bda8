//! Whole evaluations: a loader's batches in, metrics out.

use burn::tensor::{Tensor, TensorReadError};
use openclip_data::error::DataError;
use openclip_data::loader::Batch;
use openclip_data::tokenizer::Tokenizer;
use openclip_model::ClipOutput;
use openclip_model::loss::{caption_loss, clip_loss};

use crate::encode::Encoder;
use crate::error::EvalError;
use crate::progress::Progress;
use crate::retrieval::{RetrievalMetrics, ranks_of_chunk};
use crate::zero_shot::{Accuracy, Prompts};

/// Logits of zero-shot classification are this many times the cosine, whatever the model's own scale.
pub const ZERO_SHOT_SCALE: f64 = 100.0;

/// Rows of the score matrix that exist at a time.
const RETRIEVAL_CHUNK: usize = 1024;

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
    let columns = (0..prompts.classes.len()).map(|class| {
        let features = encoder.texts(tokenizer, &prompts.of_class(class))?;
        progress.inc(1);
        Ok(openclip_model::l2_normalize(features.mean_dim(0)))
    });
    let columns = columns.collect::<Result<Vec<_>, EvalError>>()?;
    match columns.is_empty() {
        true => Err(EvalError::NoSamples),
        false => Ok(Tensor::cat(columns, 0).transpose()),
    }
}

/// Top-1 and top-5 accuracy of `classifier` over labelled batches.
pub fn zero_shot(
    encoder: &Encoder,
    classifier: &Tensor<2>,
    batches: impl Iterator<Item = Result<Batch, DataError>>,
    progress: &Progress,
) -> Result<Accuracy, EvalError> {
    let [_, classes] = classifier.dims();
    let mut accuracy = Accuracy::default();
    for batch in batches {
        let batch = batch?;
        let features = encoder.images(batch.images, batch.size);
        let logits = features
            .matmul(classifier.clone())
            .mul_scalar(ZERO_SHOT_SCALE);
        accuracy.add(&host(logits)?, classes, &batch.labels)?;
        progress.inc(batch.size as u64);
    }
    Ok(accuracy)
}

/// Validation loss and retrieval in both directions.
#[derive(Debug, Clone, PartialEq)]
pub struct PairMetrics {
    /// From pictures to captions.
    pub image_to_text: RetrievalMetrics,
    /// From captions to pictures.
    pub text_to_image: RetrievalMetrics,
    /// Mean over batches of the contrastive loss within a batch, weighted by size.
    pub clip_val_loss: f64,
    /// The same of the captions' loss, of a model that writes captions.
    pub val_generative_loss: Option<f64>,
    /// Pairs seen.
    pub num_samples: u64,
}

impl PairMetrics {
    /// Every metric under OpenCLIP's name.
    pub fn named(&self) -> Vec<(String, f64)> {
        let mut metrics = self.image_to_text.named("image_to_text").to_vec();
        metrics.extend(self.text_to_image.named("text_to_image"));
        metrics.push(("clip_val_loss".into(), self.clip_val_loss));
        metrics.push(("num_samples".into(), self.num_samples as f64));
        let captions = self.val_generative_loss;
        metrics.extend(captions.map(|loss| ("val_generative_loss".into(), loss)));
        metrics
    }
}

/// Encodes all pairs and ranks each against all others.
pub fn pairs(
    encoder: &Encoder,
    batches: impl Iterator<Item = Result<Batch, DataError>>,
    progress: &Progress,
) -> Result<PairMetrics, EvalError> {
    let (mut images, mut texts) = (Vec::new(), Vec::new());
    let (mut loss_sum, mut caption_sum, mut count) = (0.0, 0.0, 0);
    let model = encoder.model();
    let writes_captions = model.writes_captions();
    let mean =
        |loss: Tensor<1>| Ok::<_, EvalError>(host(loss)?.first().copied().unwrap_or(f32::NAN));
    for batch in batches {
        let batch = batch?;
        let size = batch.size;
        let [image, text] = if writes_captions {
            let output = encoder.captioned(batch)?;
            let pad = model.text.pad_id() as i64;
            let loss = mean(caption_loss(output.logits, output.labels, pad))?;
            caption_sum += f64::from(loss) * size as f64;
            [
                output.features.image_features,
                output.features.text_features,
            ]
        } else {
            encoder.pairs(batch)
        };
        // OpenCLIP's validation loss knows no bias.
        let output = ClipOutput {
            logit_bias: None,
            ..model.join(image.clone(), text.clone())
        };
        loss_sum += f64::from(mean(clip_loss(output))?) * size as f64;
        count += size;
        images.push(image);
        texts.push(text);
        progress.inc(size as u64);
    }
    let (images, texts) = match count {
        0 => return Err(EvalError::NoSamples),
        _ => (Tensor::cat(images, 0), Tensor::cat(texts, 0)),
    };
    let image_ranks = ranks(&images, &texts)?;
    let text_ranks = ranks(&texts, &images)?;
    Ok(PairMetrics {
        image_to_text: RetrievalMetrics::from_ranks(&image_ranks),
        text_to_image: RetrievalMetrics::from_ranks(&text_ranks),
        clip_val_loss: loss_sum / count as f64,
        val_generative_loss: writes_captions.then_some(caption_sum / count as f64),
        num_samples: count as u64,
    })
}

/// Rank of `keys[i]` among all keys for `queries[i]`, from zero; both `[items, embed_dim]`.
///
/// Scores exist for a thousand queries at a time.
pub fn ranks(queries: &Tensor<2>, keys: &Tensor<2>) -> Result<Vec<usize>, EvalError> {
    let [count, _] = queries.dims();
    let columns = keys.clone().transpose();
    let mut ranks = Vec::with_capacity(count);
    for first in (0..count).step_by(RETRIEVAL_CHUNK) {
        let last = count.min(first + RETRIEVAL_CHUNK);
        let scores = queries
            .clone()
            .slice_dim(0, first..last)
            .matmul(columns.clone());
        ranks.extend(ranks_of_chunk(&host(scores)?, count, first));
    }
    Ok(ranks)
}

/// Values on the host, row-major.
pub fn host<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, EvalError> {
    tensor
        .try_into_vec_as()
        .map_err(|error: TensorReadError| EvalError::Device(error.to_string()))
}
