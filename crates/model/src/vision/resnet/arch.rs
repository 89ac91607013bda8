//! CLIP's ResNets: a `vision_cfg` whose `layers` is a list.

use crate::files::ModelError;
use crate::files::config::{VisionConfig, check_extent, check_extra, check_layers};

/// By how much a ResNet shrinks a picture.
const REDUCTION: usize = 32;

/// Sizes of a ResNet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResNetSizes {
    /// Bottlenecks of each of the four stages.
    pub layers: [usize; 4],
    /// Channels behind the stem.
    pub width: usize,
    /// Heads of the attention pool.
    pub heads: usize,
    /// Side of the last feature map.
    pub side: usize,
}

impl ResNetSizes {
    /// Channels of the last feature map.
    pub fn channels(&self) -> usize {
        self.width * 32
    }

    /// Those of a configuration, all fields checked.
    ///
    /// # Errors
    /// The field that no ResNet has.
    pub fn of(vision: &VisionConfig) -> Result<Self, ModelError> {
        check_extra(
            &vision.extra,
            "vision_cfg",
            &["timm_model_name"],
            |key, value| {
                key == "output_tokens"
                    || key.starts_with("attn")
                    || key.starts_with("timm_")
                    || key == "block_type" && value == "default"
            },
        )?;
        let invalid = |field, reason: String| Err(ModelError::invalid(field, reason));
        let Ok(layers) = serde_json::from_value::<[usize; 4]>(vision.layers.clone()) else {
            let reason = format!("{}, expected four numbers for a ResNet", vision.layers);
            return invalid("vision_cfg.layers", reason);
        };
        for count in layers {
            check_layers("vision_cfg.layers", count)?;
            check_extent("vision_cfg.layers", count)?;
        }
        check_extent("vision_cfg.width", vision.width.saturating_mul(32))?;
        if vision.width < 2 {
            return invalid(
                "vision_cfg.width",
                format!("{}, expected 2 or more", vision.width),
            );
        }
        let channels = vision.width * 32;
        let heads = channels.checked_div(vision.head_width).unwrap_or(0);
        if heads == 0 || !channels.is_multiple_of(heads) {
            let reason = format!(
                "{} gives {heads} heads, which do not divide the {channels} channels",
                vision.head_width
            );
            return invalid("vision_cfg.head_width", reason);
        }
        let (height, width) = vision.image_size.at_least(REDUCTION)?;
        if height != width {
            let reason = "but a ResNet needs a square".to_string();
            return Err(vision.image_size.refused(reason));
        }
        // The stem's stride rounds up, its pool and those of three stages round down.
        let side = height.div_ceil(2) / (REDUCTION / 2);
        if side != height / REDUCTION {
            return Err(vision.image_size.refused(format!(
                "which gives a ResNet a feature map of {side} rows where its attention pool expects {}; {} fits",
                height / REDUCTION,
                side * REDUCTION
            )));
        }
        Ok(Self {
            layers,
            width: vision.width,
            heads,
            side,
        })
    }
}
