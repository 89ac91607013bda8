//! The loss of the captions that a model writes.

use burn::tensor::{DType, Int, Tensor, activation};

/// Mean of `−log softmax(logits)[label]` over the labels that are not `pad` (OpenCLIP's caption loss, `CoCaLoss`); `[1]`.
///
/// `logits` are `[batch, length, vocabulary]` in f32 and `labels` `[batch, length]`. Zero when all labels are `pad`.
pub fn caption_loss(logits: Tensor<3>, labels: Tensor<2, Int>, pad: i64) -> Tensor<1> {
    let count = counted(labels.clone(), pad).sum().clamp_min(1.0);
    caption_sum(logits, labels, pad) / count
}

/// Sum in place of the mean of [`caption_loss`].
pub fn caption_sum(logits: Tensor<3>, labels: Tensor<2, Int>, pad: i64) -> Tensor<1> {
    let [batch, length, vocabulary] = logits.dims();
    let rows = batch * length;
    let counted = counted(labels.clone(), pad).reshape([rows, 1]);
    let logits = activation::log_softmax(logits.reshape([rows, vocabulary]), 1);
    let found = logits.gather(1, labels.reshape([rows, 1]));
    (found * counted).sum().neg()
}

/// One where a label is not `pad`, else zero, in f32.
pub fn counted(labels: Tensor<2, Int>, pad: i64) -> Tensor<2> {
    labels.not_equal_scalar(pad).float().cast(DType::F32)
}
