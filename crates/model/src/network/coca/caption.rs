//! Caption logits of a model whose decoder is there.

use burn::tensor::{DType, Int, Tensor};

use super::decoder::MultimodalTransformer;
use crate::files::ModelError;
use crate::network::clip::{Clip, ClipOutput, l2_normalize};
use crate::text::TextTower;
use crate::vision::VisionTower;
use crate::vision::vit::VisionTransformer;

/// What [`Clip::forward_caption`] returns.
#[derive(Debug, Clone)]
pub struct CaptionOutput {
    /// Features of unit length, and the inverse temperature.
    pub features: ClipOutput,
    /// Prediction of the token after each but the last, `[batch, length − 1, vocabulary]` in f32.
    pub logits: Tensor<3>,
    /// Those tokens, `[batch, length − 1]`.
    pub labels: Tensor<2, Int>,
}

/// The parts of a model that can write captions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Captioner<'a> {
    pub(crate) visual: &'a VisionTransformer,
    pub(crate) text: &'a TextTower,
    pub(crate) decoder: &'a MultimodalTransformer,
}

impl Captioner<'_> {
    /// Tokens of the longest caption that both towers of text have room for.
    pub(crate) fn longest(&self) -> usize {
        let longest = self.decoder.context_length();
        self.text.longest().unwrap_or(longest).min(longest)
    }
}

impl Clip {
    /// The parts that write captions.
    ///
    /// # Errors
    /// The model has no caption decoder, or towers of a family that gives it no tokens.
    pub(crate) fn captioner(&self) -> Result<Captioner<'_>, ModelError> {
        let refuse = |reason: &str| Err(ModelError::invalid("multimodal_cfg", reason));
        let Some(decoder) = &self.text_decoder else {
            return refuse("the model has no caption decoder; a coca_* model has");
        };
        match &self.visual {
            VisionTower::Vit(visual) => Ok(Captioner {
                visual,
                text: &self.text,
                decoder,
            }),
            _ => refuse("only the native ViT gives a caption decoder its tokens"),
        }
    }

    /// Tokens of the longest caption that the model writes, start and end included.
    ///
    /// # Errors
    /// The model writes no captions.
    pub fn longest_caption(&self) -> Result<usize, ModelError> {
        Ok(self.captioner()?.longest())
    }

    /// Whether the model can write captions.
    pub fn writes_captions(&self) -> bool {
        self.captioner().is_ok()
    }

    /// Normalised pixels `[batch, 3, height, width]` and token ids `[batch, length]` → features and caption logits; the whole
    /// model computes in the dtype of `image`.
    ///
    /// `training` seeds what is random in training, such as patch dropout.
    ///
    /// # Errors
    /// As [`Self::writes_captions`] says; captions of one token or of more than the decoder's context.
    pub fn forward_caption(
        &self,
        image: Tensor<4>,
        tokens: Tensor<2, Int>,
        training: Option<u64>,
    ) -> Result<CaptionOutput, ModelError> {
        let parts = self.captioner()?;
        let [_, length] = tokens.dims();
        let longest = parts.decoder.context_length() + 1;
        if !(2..=longest).contains(&length) {
            return Err(ModelError::invalid(
                "multimodal_cfg.context_length",
                format!("captions of {length} tokens, expected 2 to {longest}"),
            ));
        }
        let dtype = image.dtype();
        let unit = |features: Tensor<2>| l2_normalize(features.cast(DType::F32));
        let (image, image_tokens) = parts.visual.forward_with_tokens(image, training);
        let (text, text_tokens) = parts
            .text
            .forward_with_tokens(tokens.clone(), dtype, training);
        let text_tokens = text_tokens.slice_dim(1, 0..length - 1);
        Ok(CaptionOutput {
            features: self.join(unit(image), unit(text)),
            logits: parts
                .decoder
                .forward(image_tokens, text_tokens)
                .cast(DType::F32),
            labels: tokens.slice_dim(1, 1..length),
        })
    }
}
