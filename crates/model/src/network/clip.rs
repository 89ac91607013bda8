//! The contrastive model: two towers, one space, one temperature.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Int, Tensor};

use super::coca::MultimodalTransformer;
use crate::files::ModelError;
use crate::files::config::ModelConfig;
use crate::layers::batch_norm::RankSum;
use crate::layers::{Bits, Recompute, parameter};
use crate::text::TextTower;
use crate::vision::VisionTower;

/// Image tower, text tower and logit scale of a CLIP model.
///
/// Features are not normalised unless asked for, as in OpenCLIP.
#[derive(Module, Debug)]
pub struct Clip {
    /// Image tower.
    pub visual: VisionTower,
    /// Text tower.
    pub text: TextTower,
    /// Caption decoder of a CoCa model; see [`crate::network::coca`].
    pub text_decoder: Option<MultimodalTransformer>,
    /// Logarithm of the inverse temperature, `[1]`.
    pub logit_scale: Param<Tensor<1>>,
    /// Added to every logit, `[1]`.
    pub logit_bias: Option<Param<Tensor<1>>>,
    /// Where the text tower's keys live: under `text.`, or at the root.
    #[module(skip)]
    pub(crate) custom_text: bool,
}

/// What [`Clip::forward`] returns.
#[derive(Debug, Clone)]
pub struct ClipOutput {
    /// `[images, embed_dim]`, of unit length.
    pub image_features: Tensor<2>,
    /// `[captions, embed_dim]`, of unit length.
    pub text_features: Tensor<2>,
    /// `exp(logit_scale)`, `[1]`.
    pub logit_scale: Tensor<1>,
    /// `[1]`, where the model has one.
    pub logit_bias: Option<Tensor<1>>,
}

impl Clip {
    /// A model with all parameters zero; give them values with [`super::init::initialise`] or those of a file with [`crate::load`].
    pub fn new(config: &ModelConfig, device: &Device) -> Result<Self, ModelError> {
        config.check_native()?;
        Ok(Self {
            visual: VisionTower::new(config, device)?,
            text: TextTower::new(config, device)?,
            text_decoder: MultimodalTransformer::new(config, device)?,
            logit_scale: parameter([1], device),
            logit_bias: config.init_logit_bias.map(|_| parameter([1], device)),
            custom_text: config.text_is_custom(),
        })
    }

    /// Normalised pixels `[batch, 3, height, width]` → features `[batch, embed_dim]` in f32.
    ///
    /// The tower computes in the dtype of `image`.
    pub fn encode_image(&self, image: Tensor<4>, normalize: bool) -> Tensor<2> {
        finish(self.visual.forward(image, None), normalize)
    }

    /// Like [`Self::encode_image`] as training sees it: `dropout` seeds patch dropout.
    pub fn encode_image_training(&self, image: Tensor<4>, dropout: u64) -> Tensor<2> {
        finish(self.visual.forward(image, Some(dropout)), true)
    }

    /// Token ids `[batch, length]` → features `[batch, embed_dim]` in f32; the tower computes in f32.
    pub fn encode_text(&self, tokens: Tensor<2, Int>, normalize: bool) -> Tensor<2> {
        self.encode_text_in(tokens, normalize, DType::F32)
    }

    /// Like [`Self::encode_text`], computed in `dtype`.
    pub fn encode_text_in(
        &self,
        tokens: Tensor<2, Int>,
        normalize: bool,
        dtype: DType,
    ) -> Tensor<2> {
        finish(self.text.forward(tokens, dtype, None), normalize)
    }

    /// Like [`Self::encode_text_in`] as training sees it, normalised: `dropout` seeds dropout.
    pub fn encode_text_training(
        &self,
        tokens: Tensor<2, Int>,
        dtype: DType,
        dropout: u64,
    ) -> Tensor<2> {
        finish(self.text.forward(tokens, dtype, Some(dropout)), true)
    }

    /// Both towers, normalised, with the inverse temperature; the text tower follows the dtype of `image`.
    pub fn forward(&self, image: Tensor<4>, tokens: Tensor<2, Int>) -> ClipOutput {
        let dtype = image.dtype();
        let image = self.encode_image(image, true);
        let text = self.encode_text_in(tokens, true, dtype);
        self.join(image, text)
    }

    /// Features that are computed already, with this model's inverse temperature and bias in f32.
    pub fn join(&self, image_features: Tensor<2>, text_features: Tensor<2>) -> ClipOutput {
        ClipOutput {
            image_features,
            text_features,
            logit_scale: self.logit_scale.val().cast(DType::F32).exp(),
            logit_bias: self.logit_bias.as_ref().map(|b| b.val().cast(DType::F32)),
        }
    }

    /// Updates the running statistics of BatchNorm by the batches that [`Self::encode_image_training`] has seen since the last
    /// call; to be called once after each optimizer step. A batch that was encoded twice counts twice, as in OpenCLIP.
    pub fn apply_pending_statistics(mut self) -> Self {
        if let Some(pending) = self.visual.pending_statistics().cloned() {
            self.visual = pending.apply(self.visual);
        }
        self
    }

    /// Forgets those batches, for a step that is skipped.
    pub fn drop_pending_statistics(&self) {
        if let Some(pending) = self.visual.pending_statistics() {
            pending.clear();
        }
    }

    /// The same model, whose blocks keep nothing for the backward pass but their inputs and are computed again there: the same
    /// gradients in less memory and more time.
    ///
    /// # Errors
    /// A block has more parameters than can be computed again.
    pub fn with_grad_checkpointing(mut self) -> Result<Self, ModelError> {
        self.text.family_mut().recompute_blocks()?;
        if let Some(decoder) = &mut self.text_decoder {
            // With the picture's tokens beside the text's.
            decoder.recompute = Recompute::of(&decoder.cross_attn, 2)?;
        }
        self.visual.family_mut().recompute_blocks()?;
        Ok(self)
    }

    /// The same model, whose MLPs multiply 8-bit operands (SwitchBack), in training and inference.
    ///
    /// # Errors
    /// When neither tower is a native transformer, whose MLPs alone do so, as in OpenCLIP.
    pub fn with_int8_linear(mut self) -> Result<Self, ModelError> {
        let mut blocks = Vec::new();
        blocks.extend(self.visual.family_mut().resblocks());
        blocks.extend(self.text.family_mut().resblocks());
        if let Some(decoder) = &mut self.text_decoder {
            blocks.extend(&mut decoder.resblocks);
            blocks.extend(&mut decoder.cross_attn);
        }
        if blocks.is_empty() {
            let reason =
                "neither tower is a native transformer, whose MLPs alone are computed in 8 bits";
            return Err(ModelError::invalid("int8_linear", reason));
        }
        blocks.into_iter().for_each(|block| block.mlp.int8 = true);
        Ok(self)
    }

    /// Makes BatchNorm normalise by the statistics of all ranks' batches together, in this model and its copies.
    ///
    /// Every rank then has to encode batches in training mode, and to take their gradients, the same number of times. False where
    /// the model has no BatchNorm.
    pub fn synchronise_batch_norm(&self, ranks: Arc<dyn RankSum>) -> bool {
        let pending = self.visual.pending_statistics();
        pending.map(|pending| pending.synchronise(ranks)).is_some()
    }

    /// The same model with the parallel branches and BatchNorms of its image tower joined to single convolutions, where it has
    /// any, and on the CPU with the weights of transformers' blocks packed for its kernels: the same features in less time.
    ///
    /// For inference only. These weights follow from the parameters as they are now, and training mode does not use them;
    /// parameters, and what is saved, stay as they were.
    pub fn folded(mut self) -> Self {
        self.visual.family_mut().fold(Bits::All);
        self.text.family_mut().fold(Bits::All);
        self
    }

    /// Like [`Self::folded`], with the blocks of native and timm's transformers multiplied in 8 bits: weights by output feature,
    /// activations by row. On the CPU alone; says which tower stays in f32.
    #[must_use]
    pub fn in_8_bits(mut self) -> Self {
        let towers = [
            ("image", self.visual.family_mut().fold(Bits::Eight)),
            ("text", self.text.family_mut().fold(Bits::Eight)),
        ];
        for (tower, _) in towers.into_iter().filter(|(_, folded)| !folded) {
            log::warn!("the {tower} tower has no layers in 8 bits and is computed in fp32");
        }
        self
    }

    /// `scale · image · textᵀ + bias`, `[images, captions]`; its transpose is the captions' view.
    pub fn logits(&self, image: Tensor<4>, tokens: Tensor<2, Int>) -> Tensor<2> {
        self.forward(image, tokens).logits()
    }
}

impl ClipOutput {
    /// `scale · image · textᵀ + bias`, `[images, captions]`.
    pub fn logits(self) -> Tensor<2> {
        let cosine = self.image_features.matmul(self.text_features.transpose());
        let logits = cosine * self.logit_scale.unsqueeze();
        match self.logit_bias {
            Some(bias) => logits + bias.unsqueeze(),
            None => logits,
        }
    }
}

fn finish(features: Tensor<2>, normalize: bool) -> Tensor<2> {
    let features = features.cast(DType::F32);
    if normalize {
        l2_normalize(features)
    } else {
        features
    }
}

/// `x / max(‖x‖₂, 1e-12)` over the last axis, as `torch.nn.functional.normalize`.
pub fn l2_normalize(x: Tensor<2>) -> Tensor<2> {
    // Clamped before the root, whose derivative at zero is infinite.
    let norm = x.clone().square().sum_dim(1).clamp_min(1e-24).sqrt();
    x / norm
}
