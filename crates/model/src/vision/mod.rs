//! Image towers: pixels → one vector.
//!
//! A family is one folder, which answers the questions of [`ImageFamily`], and one line in the table below.
//!
//! * [`vit`] – OpenCLIP's native vision transformer
//! * [`resnet`] – CLIP's ResNets
//! * [`convnext`] – timm's ConvNeXt
//! * [`mobileclip`] – timm's FastViT
//! * [`vitamin`] – timm's ViTamin: convolutions, then a transformer
//! * [`swin`] – timm's Swin transformer: attention in windows
//! * [`relpos`] – timm's vision transformer with relative positions
//! * [`eva`] – timm's `Eva`: EVA-CLIP and the Perception Encoder
//! * [`timm_vit`] – timm's vision transformer: SigLIP, SigLIP2 and some of MobileCLIP
//! * [`timm`] – what timm's towers have in common

pub mod convnext;
pub mod eva;
pub mod mobileclip;
pub mod relpos;
pub mod resnet;
pub mod swin;
pub mod timm;
pub mod timm_vit;
pub mod vit;
pub mod vitamin;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::family::ImageFamily;
use crate::family::keys::{Foreign, Marks};
use crate::files::ModelError;
use crate::files::config::{ModelConfig, VisionConfig};
use crate::layers::batch_norm::PendingStatistics;

/// A line of the table.
struct Row {
    configures: fn(&VisionConfig) -> bool,
    new: fn(&ModelConfig, &Device) -> Result<VisionTower, ModelError>,
    marks: fn() -> &'static [Marks],
    foreign: fn() -> &'static [Foreign],
}

/// Makes the enum of the towers and the table of their families.
macro_rules! families {
    ($($(#[$doc:meta])* $variant:ident($tower:ty),)*) => {
        /// An image tower of any family.
        #[allow(clippy::large_enum_variant)] // There is one tower per model.
        #[derive(Module, Debug)]
        pub enum VisionTower {
            $($(#[$doc])* $variant($tower),)*
        }

        const FAMILIES: &[Row] = &[$(Row {
            configures: <$tower as ImageFamily>::configures,
            new: |config, device| Ok(VisionTower::$variant(ImageFamily::new(config, device)?)),
            marks: <$tower as ImageFamily>::marks,
            foreign: <$tower as ImageFamily>::foreign,
        },)*];

        impl VisionTower {
            /// The tower's answers as its family gives them.
            pub fn family(&self) -> &dyn ImageFamily {
                match self {
                    $(Self::$variant(tower) => tower,)*
                }
            }

            pub(crate) fn family_mut(&mut self) -> &mut dyn ImageFamily {
                match self {
                    $(Self::$variant(tower) => tower,)*
                }
            }
        }
    };
}

// Weights are of the first family whose marks they have.
families! {
    /// Native ViT.
    Vit(vit::VisionTransformer),
    /// CLIP's ResNet.
    ResNet(resnet::ModifiedResNet),
    /// timm's ConvNeXt.
    ConvNext(convnext::ConvNextTower),
    /// timm's FastViT.
    FastVit(mobileclip::FastVitTower),
    /// timm's ViTamin.
    Vitamin(vitamin::VitaminTower),
    /// timm's Swin transformer.
    Swin(swin::SwinTower),
    /// timm's ViT with relative positions.
    RelPos(relpos::RelPosTower),
    /// timm's `Eva`.
    Eva(eva::EvaTower),
    /// timm's ViT.
    TimmVit(timm_vit::TimmVitTower),
}

impl VisionTower {
    /// Builds the tower that `config` describes.
    ///
    /// # Errors
    /// No family has such a tower, or not with these sizes and switches.
    pub fn new(config: &ModelConfig, device: &Device) -> Result<Self, ModelError> {
        let mut families = FAMILIES.iter();
        match families.find(|family| (family.configures)(&config.vision_cfg)) {
            Some(family) => (family.new)(config, device),
            None => Err(ModelError::Family {
                field: "timm_model_name",
                value: format!("{:?}", config.vision_cfg.timm_model_name().unwrap_or("")),
            }),
        }
    }

    /// Normalised pixels `[batch, 3, height, width]` → features `[batch, embed_dim]`.
    ///
    /// `training` seeds what is random in training, such as patch dropout; without it the tower is in evaluation mode.
    pub fn forward(&self, image: Tensor<4>, training: Option<u64>) -> Tensor<2> {
        self.family().forward(image, training)
    }

    /// Statistics of batches that wait for the running ones, in a tower that has BatchNorm.
    pub fn pending_statistics(&self) -> Option<&PendingStatistics> {
        self.family().pending_statistics()
    }
}

/// By which keys the families are known, in the order in which they are looked for.
pub(crate) fn marks() -> impl Iterator<Item = &'static Marks> {
    FAMILIES.iter().flat_map(|family| (family.marks)())
}

/// The forms in which other libraries publish models.
pub(crate) fn foreign() -> impl Iterator<Item = &'static Foreign> {
    FAMILIES.iter().flat_map(|family| (family.foreign)())
}
