//! Text towers: token ids → one vector.
//!
//! * [`hf`] – Hugging Face's encoders: RoBERTa, mT5, NLLB
//! * [`multimodal`] – CoCa's caption decoder
//! * [`transformer`] – OpenCLIP's native text transformer

pub mod hf;
pub mod multimodal;
pub mod transformer;

pub use hf::HfTextTower;
pub use multimodal::MultimodalTransformer;
pub use transformer::TextTransformer;

use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor};

use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::init::Init;
use crate::layers::Recompute;

/// A text tower of any family.
#[allow(clippy::large_enum_variant)] // There is one tower per model.
#[derive(Module, Debug)]
pub enum TextTower {
    /// Native transformer.
    Native(TextTransformer),
    /// Hugging Face's encoder.
    Hf(HfTextTower),
}

impl TextTower {
    /// Builds the tower that `config` describes.
    pub fn new(config: &ModelConfig, device: &Device) -> Result<Self, ModelError> {
        if config.text_cfg.hf_model_name().is_some() {
            return Ok(Self::Hf(HfTextTower::new(config, device)?));
        }
        Ok(Self::Native(TextTransformer::new(config, device)?))
    }

    /// Token ids `[batch, length]` → features `[batch, embed_dim]`, computed in `dtype`.
    ///
    /// `training` seeds what is random in training, dropout; without it the tower is in evaluation mode.
    pub fn forward(
        &self,
        tokens: Tensor<2, Int>,
        dtype: DType,
        training: Option<u64>,
    ) -> Tensor<2> {
        match self {
            Self::Native(tower) => tower.forward(tokens, dtype),
            Self::Hf(tower) => tower.forward(tokens, dtype, training),
        }
    }

    /// Like [`Self::forward`], with the tokens `[batch, length, width]` that a caption decoder reads.
    pub fn forward_with_tokens(
        &self,
        tokens: Tensor<2, Int>,
        dtype: DType,
        training: Option<u64>,
    ) -> (Tensor<2>, Tensor<3>) {
        match self {
            Self::Native(tower) => {
                let (pooled, tokens) = tower.forward_with_tokens(tokens, dtype);
                (pooled, tower.decoder_tokens(tokens))
            }
            Self::Hf(tower) => tower.forward_with_tokens(tokens, dtype, training),
        }
    }

    /// Tokens for a caption decoder of ids `[batch, length]`, `[batch, length, width]`.
    pub fn decoder_input(&self, tokens: Tensor<2, Int>, dtype: DType) -> Tensor<3> {
        match self {
            Self::Native(tower) => tower.decoder_input(tokens, dtype),
            Self::Hf(tower) => tower.forward_with_tokens(tokens, dtype, None).1,
        }
    }

    /// Makes training compute the tower's blocks again in the backward pass.
    pub(crate) fn recompute_blocks(&mut self) {
        *match self {
            Self::Native(tower) => &mut tower.transformer.recompute,
            Self::Hf(tower) => match &mut tower.transformer {
                hf::HfEncoder::Roberta(encoder) => &mut encoder.recompute,
                hf::HfEncoder::T5(encoder) => &mut encoder.recompute,
                hf::HfEncoder::M2m100(encoder) => &mut encoder.recompute,
            },
        } = Recompute(true);
    }

    /// Id of padding.
    pub fn pad_id(&self) -> usize {
        match self {
            Self::Native(tower) => tower.pad_id(),
            Self::Hf(tower) => tower.pad_id(),
        }
    }

    /// Most tokens of a caption, a class token not counted, where there is a limit.
    pub fn longest(&self) -> Option<usize> {
        match self {
            Self::Native(tower) => Some(tower.context_length()),
            Self::Hf(tower) => tower.longest(),
        }
    }
}

/// How a parameter of a text tower with rules of its own starts; `None` for the native tower and everything else.
pub(crate) fn initial(key: &str, shape: &[usize], config: &ModelConfig) -> Option<Init> {
    hf::initial(key, shape, config)
}
