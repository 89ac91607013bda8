//! The objectives: contrastive ones on features that are already gathered, and the captions' own.

use burn::tensor::{DType, Int, Tensor, activation};
use openclip_model::ClipOutput;

/// `½·(CE(logits) + CE(logitsᵀ))`, where row `i` belongs to column `i` (OpenCLIP's `ClipLoss`); `[1]`.
///
/// Features are `[batch, embed_dim]`, of unit length, in f32.
pub fn clip_loss(output: ClipOutput) -> Tensor<1> {
    let logits = output.logits();
    (diagonal_cross_entropy(logits.clone()) + diagonal_cross_entropy(logits.transpose()))
        .mul_scalar(0.5)
}

/// A loss of features that are already gathered.
pub type Loss = fn(ClipOutput) -> Tensor<1>;

/// What a step minimises: `contrastive_weight · contrastive + caption.weight · caption`.
#[derive(Debug, Clone, Copy)]
pub struct Objective {
    /// Loss of the gathered features.
    pub contrastive: Loss,
    /// Zero leaves that loss out.
    pub contrastive_weight: f64,
    /// The captions that the model writes, where it learns that (CoCa).
    pub caption: Option<CaptionObjective>,
}

/// How much the next token counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CaptionObjective {
    /// Of [`caption_loss`].
    pub weight: f64,
    /// Id of padding, which does not count.
    pub pad: i64,
}

impl From<Loss> for Objective {
    fn from(contrastive: Loss) -> Self {
        Self {
            contrastive,
            contrastive_weight: 1.0,
            caption: None,
        }
    }
}

/// Where the logit scale's logarithm and the logit bias start under [`siglip_loss`]: `ln 10` and −10.
pub const SIGLIP_LOGITS: [f64; 2] = [std::f64::consts::LN_10, -10.0];

/// `−Σᵢⱼ log σ(yᵢⱼ·logitᵢⱼ) / batch` with `y` = 1 for a picture and its own caption and −1 for all others; `[1]`.
///
/// SigLIP's pairwise loss (arXiv 2303.15343; OpenCLIP's `SigLipLoss`). Features are `[batch, embed_dim]`, of unit length, in
/// f32; the model should have a logit bias.
pub fn siglip_loss(output: ClipOutput) -> Tensor<1> {
    let logits = output.logits();
    let [rows, _] = logits.dims();
    let signs = Tensor::<2>::eye(rows, &logits.device())
        .mul_scalar(2.0)
        .sub_scalar(1.0);
    activation::log_sigmoid(logits * signs)
        .sum()
        .div_scalar(rows as f32)
        .neg()
}

/// Mean over rows of `−log softmax(row)[row index]`.
fn diagonal_cross_entropy(logits: Tensor<2>) -> Tensor<1> {
    let [rows, _] = logits.dims();
    let diagonal = Tensor::<1, Int>::arange(0..rows as i64, &logits.device()).unsqueeze_dim(1);
    activation::log_softmax(logits, 1)
        .gather(1, diagonal)
        .mean()
        .neg()
}

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
