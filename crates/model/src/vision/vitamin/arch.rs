//! Sizes of timm's ViTamins by timm's names.
//!
//! The picture's size in a name tells the number of positions in timm; here the configuration's `image_size` does. The two
//! differ in one configuration, OpenCLIP's `ViTamin-XL-384`, which says 256: the XL towers have no positional embedding, so
//! its weights are for any size, and `--force-image-size 384` is what its name promises.

use serde::{Deserialize, Serialize};

use crate::files::ModelError;
use crate::files::config::{
    ImageSize, TimmOptions, check_extent, check_heads, check_hidden, check_layers,
};

/// Arguments of timm's `vitamin_*` functions, under timm's names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitaminConfig {
    /// The convolutions before the transformer.
    pub embed_cfg: StagesConfig,
    /// Token width.
    pub embed_dim: usize,
    /// Number of transformer blocks.
    pub depth: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Hidden width of the MLPs relative to the token width; the product is truncated.
    pub mlp_ratio: f64,
    /// Whether patches have positions.
    pub pos_embed: PosEmbed,
}

/// Arguments of timm's `VitCfg`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StagesConfig {
    /// Channels of the stem.
    pub stem_width: usize,
    /// Channels of the two stages, and the token width.
    pub embed_dim: [usize; 3],
    /// Blocks of the two stages; timm's third number has no effect.
    pub depths: [usize; 3],
}

/// Positions of the patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PosEmbed {
    /// A learned vector for each.
    Learn,
    /// None: the convolutions' zeros at the border are all that tells a place.
    None,
}

/// Pixels per patch: stem, both stages and the last convolution each halve the map, rounding up.
const HALVINGS: usize = 4;
/// Inner channels of a convolution block relative to its output.
const EXPAND: usize = 4;

impl StagesConfig {
    /// Channels between the pointwise convolutions of a block with `output` channels.
    pub fn hidden(output: usize) -> usize {
        make_divisible(output * EXPAND)
    }
}

impl VitaminConfig {
    /// The architecture that timm knows under this name, apart from the picture's size that the name ends with.
    pub fn named(name: &str) -> Option<Self> {
        let (size, image) = name.strip_prefix("vitamin_")?.split_once('_')?;
        let sized = |first, embed_dim, depth, num_heads| Self {
            embed_cfg: StagesConfig {
                stem_width: first,
                embed_dim: [first, 2 * first, embed_dim],
                depths: [2, 4, 1],
            },
            embed_dim,
            depth,
            num_heads,
            mlp_ratio: 2.0,
            pos_embed: PosEmbed::Learn,
        };
        Some(match (size, image) {
            ("small", "224") => sized(64, 384, 14, 6),
            ("base", "224") => sized(128, 768, 14, 12),
            ("large" | "large2", "224" | "256" | "336" | "384") => sized(160, 1024, 31, 16),
            ("xlarge", "256" | "336" | "384") => Self {
                pos_embed: PosEmbed::None,
                ..sized(192, 1152, 32, 16)
            },
            _ => return None,
        })
    }

    /// The named architecture with the configuration's changes.
    ///
    /// # Errors
    /// The name is another family's, or a size or switch is one that no ViTamin has.
    pub fn of(options: &TimmOptions) -> Result<Self, ModelError> {
        let config: Self = options.merged(Self::named(&options.model_name))?;
        let stages = &config.embed_cfg;
        check_extent("vision_cfg.timm_kwargs.embed_dim", config.embed_dim)?;
        check_extent(
            "vision_cfg.timm_kwargs.embed_cfg.stem_width",
            stages.stem_width,
        )?;
        for (width, depth) in stages.embed_dim.into_iter().zip(stages.depths) {
            check_extent("vision_cfg.timm_kwargs.embed_cfg.embed_dim", width)?;
            check_layers("vision_cfg.timm_kwargs.embed_cfg.depths", depth)?;
        }
        if stages.depths[..2].contains(&0) {
            return Err(ModelError::invalid(
                "vision_cfg.timm_kwargs.embed_cfg.depths",
                format!(
                    "{:?}: a stage begins with a block that halves the map",
                    stages.depths
                ),
            ));
        }
        check_layers("vision_cfg.timm_kwargs.depth", config.depth)?;
        check_hidden(
            "vision_cfg.timm_kwargs.mlp_ratio",
            config.embed_dim,
            config.mlp_ratio,
        )?;
        let last = stages.embed_dim[2];
        if last != config.embed_dim {
            return Err(ModelError::invalid(
                "vision_cfg.timm_kwargs.embed_cfg.embed_dim",
                format!("ends with {last}, but the tokens have {}", config.embed_dim),
            ));
        }
        check_heads(config.num_heads, config.embed_dim)?;
        options.check_mean_pool()?;
        Ok(config)
    }

    /// Rows and columns of patches of a picture.
    pub fn grid(image_size: ImageSize) -> Result<(usize, usize), ModelError> {
        let (height, width) = image_size.at_least(1)?;
        let patches = |side: usize| (0..HALVINGS).fold(side, |side, _| side.div_ceil(2));
        Ok((patches(height), patches(width)))
    }
}

/// The multiple of eight that timm takes for a number of channels: the nearest, but not less than nine tenths of it.
fn make_divisible(channels: usize) -> usize {
    const DIVISOR: usize = 8;
    let near = ((channels + DIVISOR / 2) / DIVISOR * DIVISOR).max(DIVISOR);
    match near * 10 < channels * 9 {
        true => near + DIVISOR,
        false => near,
    }
}
