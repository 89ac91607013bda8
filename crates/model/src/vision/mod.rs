//! Image towers: pixels → one vector.
//!
//! * [`vit`] – OpenCLIP's native vision transformer
//! * [`resnet`] – CLIP's ResNets
//! * [`timm_vit`] – timm's vision transformer: SigLIP, SigLIP2 and some of MobileCLIP, with its sizes in [`timm_arch`] and the
//!   convolutions before it in [`conv_stem`]
//! * [`convnext`] – timm's ConvNeXt, with its sizes in [`convnext_arch`]
//! * [`vitamin`] – timm's ViTamin: convolutions of [`vitamin_stem`], then a transformer; its sizes in [`vitamin_arch`]
//! * [`fastvit`] – timm's FastViT: MobileCLIP, with its sizes in [`fastvit_arch`] and its blocks in [`fastvit_block`]
//! * [`eva`] – timm's `Eva`: EVA-CLIP and the Perception Encoder, with their sizes in [`eva_arch`]
//! * [`swin`] – timm's Swin transformer: attention in the windows of [`swin_window`]; its sizes in [`swin_arch`]
//! * [`relpos`] – timm's vision transformer with relative positions; its sizes in [`relpos_arch`]
//! * [`timm_head`] – the map behind a timm tower

pub mod conv_stem;
pub mod convnext;
pub mod convnext_arch;
pub mod eva;
pub mod eva_arch;
pub mod fastvit;
pub mod fastvit_arch;
pub mod fastvit_block;
pub mod relpos;
pub mod relpos_arch;
pub mod resnet;
pub mod swin;
pub mod swin_arch;
pub mod swin_window;
pub mod timm_arch;
pub mod timm_head;
pub mod timm_vit;
pub mod vit;
pub mod vitamin;
pub mod vitamin_arch;
pub mod vitamin_stem;

pub use convnext::ConvNextTower;
pub use eva::EvaTower;
pub use fastvit::FastVitTower;
pub use relpos::RelPosTower;
pub use resnet::ModifiedResNet;
pub use swin::SwinTower;
pub use timm_vit::TimmVitTower;
pub use vit::VisionTransformer;
pub use vitamin::VitaminTower;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::init::Init;
use crate::layers::Recompute;
use crate::layers::batch_norm::PendingStatistics;
use convnext_arch::ConvNextConfig;
use eva_arch::EvaConfig;
use fastvit_arch::FastVitConfig;
use relpos_arch::RelPosConfig;
use swin_arch::SwinConfig;
use timm_arch::TimmVitConfig;
use vitamin_arch::VitaminConfig;

/// An image tower of any family.
#[allow(clippy::large_enum_variant)] // There is one tower per model.
#[derive(Module, Debug)]
pub enum VisionTower {
    /// Native ViT.
    Vit(VisionTransformer),
    /// CLIP's ResNet.
    ResNet(ModifiedResNet),
    /// timm's ViT.
    TimmVit(TimmVitTower),
    /// timm's ConvNeXt.
    ConvNext(ConvNextTower),
    /// timm's ViTamin.
    Vitamin(VitaminTower),
    /// timm's FastViT.
    FastVit(FastVitTower),
    /// timm's `Eva`.
    Eva(EvaTower),
    /// timm's Swin transformer.
    Swin(SwinTower),
    /// timm's ViT with relative positions.
    RelPos(RelPosTower),
}

impl VisionTower {
    /// Builds the tower that `config` describes.
    pub fn new(config: &ModelConfig, device: &Device) -> Result<Self, ModelError> {
        Ok(match config.vision_cfg.timm_model_name() {
            Some(name) if TimmVitConfig::named(name).is_some() => {
                Self::TimmVit(TimmVitTower::new(config, device)?)
            }
            Some(name) if ConvNextConfig::named(name).is_some() => {
                Self::ConvNext(ConvNextTower::new(config, device)?)
            }
            Some(name) if VitaminConfig::named(name).is_some() => {
                Self::Vitamin(VitaminTower::new(config, device)?)
            }
            Some(name) if FastVitConfig::named(name).is_some() => {
                Self::FastVit(FastVitTower::new(config, device)?)
            }
            Some(name) if EvaConfig::named(name).is_some() => {
                Self::Eva(EvaTower::new(config, device)?)
            }
            Some(name) if SwinConfig::named(name).is_some() => {
                Self::Swin(SwinTower::new(config, device)?)
            }
            Some(name) if RelPosConfig::named(name).is_some() => {
                Self::RelPos(RelPosTower::new(config, device)?)
            }
            _ if config.vision_cfg.is_resnet() => {
                Self::ResNet(ModifiedResNet::new(config, device)?)
            }
            _ => Self::Vit(VisionTransformer::new(config, device)?),
        })
    }

    /// Normalised pixels `[batch, 3, height, width]` → features `[batch, embed_dim]`.
    ///
    /// `training` seeds what is random in training, such as patch dropout; without it the tower is in evaluation mode.
    pub fn forward(&self, image: Tensor<4>, training: Option<u64>) -> Tensor<2> {
        match self {
            Self::Vit(tower) => tower.forward(image, training),
            Self::ResNet(tower) => tower.forward(image, training),
            Self::TimmVit(tower) => tower.forward(image, training),
            Self::ConvNext(tower) => tower.forward(image, training),
            Self::Vitamin(tower) => tower.forward(image, training),
            Self::FastVit(tower) => tower.forward(image, training),
            Self::Eva(tower) => tower.forward(image, training),
            Self::Swin(tower) => tower.forward(image, training),
            Self::RelPos(tower) => tower.forward(image, training),
        }
    }

    /// Statistics of batches that wait for the running ones, in a tower that has BatchNorm.
    pub fn pending_statistics(&self) -> Option<&PendingStatistics> {
        match self {
            Self::ResNet(tower) => Some(tower.pending()),
            Self::FastVit(tower) => Some(tower.pending()),
            Self::TimmVit(tower) => Some(tower.pending()),
            _ => None,
        }
    }

    /// Makes training compute the tower's blocks again in the backward pass.
    pub(crate) fn recompute_blocks(&mut self) {
        let again = Recompute(true);
        match self {
            Self::Vit(tower) => tower.transformer.recompute = again,
            Self::ResNet(tower) => tower.recompute = again,
            Self::TimmVit(tower) => tower.trunk.recompute = again,
            Self::ConvNext(tower) => tower.trunk.recompute = again,
            Self::Vitamin(tower) => {
                tower.trunk.patch_embed.backbone.recompute = again;
                tower.trunk.recompute = again;
            }
            Self::FastVit(tower) => tower.trunk.recompute = again,
            Self::Eva(tower) => tower.trunk.recompute = again,
            Self::Swin(tower) => tower.trunk.recompute = again,
            Self::RelPos(tower) => tower.trunk.recompute = again,
        }
    }

    /// Makes evaluation use one convolution where several layers amount to one, in a tower that was made for that.
    pub(crate) fn fold(&mut self) {
        match self {
            Self::FastVit(tower) => tower.fold(),
            Self::TimmVit(tower) => tower.fold(),
            _ => {}
        }
    }

    /// Rows and columns of patches that the `pos_embed` of a timm transformer is for.
    pub(crate) fn timm_grid(&self) -> Option<(usize, usize)> {
        match self {
            Self::TimmVit(tower) => Some(tower.grid()),
            Self::Vitamin(tower) => Some(tower.grid()),
            Self::Eva(tower) => Some(tower.grid()),
            _ => None,
        }
    }
}

/// How a parameter of an image tower with rules of its own starts; `None` for the native ViT and the text tower.
pub(crate) fn initial(key: &str, shape: &[usize], config: &ModelConfig) -> Option<Init> {
    if !key.starts_with("visual.") {
        return None;
    }
    if config.vision_cfg.is_resnet() {
        return resnet::initial(key, shape, config);
    }
    let name = config.vision_cfg.timm_model_name()?;
    if ConvNextConfig::named(name).is_some() {
        return convnext::initial(key, shape, config);
    }
    if VitaminConfig::named(name).is_some() {
        return vitamin::initial(key, shape, config);
    }
    if FastVitConfig::named(name).is_some() {
        return fastvit::initial(key, shape, config);
    }
    if EvaConfig::named(name).is_some() {
        return eva::initial(key, shape, config);
    }
    if SwinConfig::named(name).is_some() {
        return swin::initial(key, shape, config);
    }
    if RelPosConfig::named(name).is_some() {
        return relpos::initial(key, shape, config);
    }
    TimmVitConfig::named(name)?;
    timm_vit::initial(key, shape, config)
}
