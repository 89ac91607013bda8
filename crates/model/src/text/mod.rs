//! Text towers: token ids → one vector.
//!
//! * [`multimodal`] – CoCa's caption decoder
//! * [`transformer`] – OpenCLIP's native text transformer

pub mod multimodal;
pub mod transformer;

pub use multimodal::MultimodalTransformer;
pub use transformer::TextTransformer;

use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor};

use crate::config::ModelConfig;
use crate::error::ModelError;

/// A text tower of any family.
#[derive(Module, Debug)]
pub enum TextTower {
    /// Native transformer.
    Native(TextTransformer),
}

impl TextTower {
    /// Builds the tower that `config` describes.
    pub fn new(config: &ModelConfig, device: &Device) -> Result<Self, ModelError> {
        Ok(Self::Native(TextTransformer::new(config, device)?))
    }

    /// Token ids `[batch, length]` → features `[batch, embed_dim]`, computed in `dtype`.
    pub fn forward(&self, tokens: Tensor<2, Int>, dtype: DType) -> Tensor<2> {
        match self {
            Self::Native(tower) => tower.forward(tokens, dtype),
        }
    }
}
