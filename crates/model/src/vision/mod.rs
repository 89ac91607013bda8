//! Image towers: pixels → one vector.
//!
//! * [`vit`] – OpenCLIP's native vision transformer

pub mod vit;

pub use vit::VisionTransformer;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::config::ModelConfig;
use crate::error::ModelError;

/// An image tower of any family.
#[derive(Module, Debug)]
pub enum VisionTower {
    /// Native ViT.
    Vit(VisionTransformer),
}

impl VisionTower {
    /// Builds the tower that `config` describes.
    pub fn new(config: &ModelConfig, device: &Device) -> Result<Self, ModelError> {
        Ok(Self::Vit(VisionTransformer::new(config, device)?))
    }

    /// Normalised pixels `[batch, 3, height, width]` → features `[batch, embed_dim]`.
    ///
    /// `training` seeds what is random in training, such as patch dropout; without it the tower is in evaluation mode.
    pub fn forward(&self, image: Tensor<4>, training: Option<u64>) -> Tensor<2> {
        match self {
            Self::Vit(tower) => tower.forward(image, training),
        }
    }
}
