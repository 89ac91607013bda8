//! Sizes of timm's ConvNeXts by timm's names.

use serde::{Deserialize, Serialize};

use crate::files::ModelError;
use crate::files::config::{ImageSize, TimmOptions, check_extent, check_layers};

/// Arguments of timm's `ConvNeXt`, under timm's names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvNextConfig {
    /// Blocks of each stage.
    pub depths: [usize; 4],
    /// Channels of each stage.
    pub dims: [usize; 4],
    /// Start value of the factor on a block's branch.
    pub ls_init_value: f64,
    /// Added to the variance in every LayerNorm.
    pub norm_eps: f64,
}

/// Pixels per position of the last stage.
const REDUCTION: usize = 32;

impl ConvNextConfig {
    /// The architecture that timm knows under this name.
    pub fn named(name: &str) -> Option<Self> {
        let sized = |depths, first| Self {
            depths,
            dims: [1_usize, 2, 4, 8].map(|factor| factor * first),
            ls_init_value: 1e-6,
            norm_eps: 1e-6,
        };
        Some(match name {
            "convnext_tiny" => sized([3, 3, 9, 3], 96),
            "convnext_small" => sized([3, 3, 27, 3], 96),
            "convnext_base" => sized([3, 3, 27, 3], 128),
            "convnext_large" => sized([3, 3, 27, 3], 192),
            "convnext_xlarge" => sized([3, 3, 27, 3], 256),
            "convnext_xxlarge" => Self {
                norm_eps: 1e-5,
                ..sized([3, 4, 30, 3], 384)
            },
            _ => return None,
        })
    }

    /// The named architecture with the configuration's changes.
    ///
    /// # Errors
    /// The name is another family's, or a size or switch is one that no ConvNeXt has.
    pub fn of(options: &TimmOptions) -> Result<Self, ModelError> {
        let config: Self = options.merged(Self::named(&options.model_name))?;
        for (depth, width) in config.depths.into_iter().zip(config.dims) {
            check_layers("vision_cfg.timm_kwargs.depths", depth)?;
            check_extent("vision_cfg.timm_kwargs.dims", width)?;
        }
        options.check_mean_pool()?;
        Ok(config)
    }

    /// Refuses pictures of which the last stage would see nothing.
    pub fn check_image(&self, image_size: ImageSize) -> Result<(), ModelError> {
        image_size.at_least(REDUCTION).map(drop)
    }
}
