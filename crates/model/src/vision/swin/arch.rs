//! Sizes of timm's Swin transformers by timm's names.

use serde::{Deserialize, Serialize};

use crate::files::ModelError;
use crate::files::config::{
    ImageSize, TimmOptions, check_extent, check_heads, check_hidden, check_layers,
};

/// Arguments of timm's `SwinTransformer`, under timm's names and with timm's defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwinConfig {
    /// Picture that `window_size` is for; for another one windows grow and shrink with the map, as by timm's `set_input_size`.
    pub img_size: ImageSize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Channels of the first stage; each further one has twice as many.
    pub embed_dim: usize,
    /// Blocks of each stage.
    pub depths: [usize; 4],
    /// Attention heads of each stage.
    pub num_heads: [usize; 4],
    /// Side of a window in positions.
    pub window_size: usize,
    /// Hidden width of the MLPs relative to the channels; the product is truncated.
    pub mlp_ratio: f64,
    /// Query, key and value have biases.
    pub qkv_bias: bool,
}

/// A stage for a picture of a certain size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageSize {
    /// Channels.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Rows and columns of a window: the whole map where that is smaller.
    pub window: [usize; 2],
    /// Rows and columns by which every second block shifts its windows: half a window, or 0 where one covers the map.
    pub shift: [usize; 2],
}

/// Stochastic depth where the configuration says nothing.
pub const DROP_PATH: f64 = 0.1;

impl SwinConfig {
    /// The architecture that timm knows under this name.
    pub fn named(name: &str) -> Option<Self> {
        (name == "swin_base_patch4_window7_224").then_some(Self {
            img_size: ImageSize::Square(224),
            patch_size: 4,
            embed_dim: 128,
            depths: [2, 2, 18, 2],
            num_heads: [4, 8, 16, 32],
            window_size: 7,
            mlp_ratio: 4.0,
            qkv_bias: true,
        })
    }

    /// The named architecture with the configuration's changes.
    ///
    /// # Errors
    /// The name is another family's, or a size or switch is one that no Swin transformer has.
    pub fn of(options: &TimmOptions) -> Result<Self, ModelError> {
        let config: Self = options.merged(Self::named(&options.model_name))?;
        check_extent("vision_cfg.timm_kwargs.patch_size", config.patch_size)?;
        check_extent("vision_cfg.timm_kwargs.window_size", config.window_size)?;
        check_extent("vision_cfg.timm_kwargs.embed_dim", config.embed_dim)?;
        for (stage, depth) in config.depths.into_iter().enumerate() {
            let width = config.embed_dim << stage;
            check_extent("vision_cfg.timm_kwargs.embed_dim", width)?;
            check_layers("vision_cfg.timm_kwargs.depths", depth)?;
            check_heads(config.num_heads[stage], width)?;
            check_hidden("vision_cfg.timm_kwargs.mlp_ratio", width, config.mlp_ratio)?;
        }
        options.check_mean_pool()?;
        Ok(config)
    }

    /// Stages for pictures of `image_size`.
    pub fn stages(&self, image_size: ImageSize) -> Result<[StageSize; 4], ModelError> {
        let map = self.grid(image_size)?;
        let (height, width) = self.img_size.dims();
        let usual = [height / self.patch_size, width / self.patch_size];
        for side in usual {
            check_extent("vision_cfg.timm_kwargs.img_size", side)?;
        }
        let stages = [0, 1, 2, 3].map(|stage| {
            let sides = [0, 1].map(|axis| {
                let own = map[axis].div_ceil(1 << stage);
                let window = (self.window_size * map[axis] / usual[axis]).max(1);
                // In timm a window that started with one position never shifts.
                match own <= window {
                    true => (own, 0),
                    false if self.window_size == 1 => (window, 0),
                    false => (window, window / 2),
                }
            });
            StageSize {
                width: self.embed_dim << stage,
                heads: self.num_heads[stage],
                window: sides.map(|(window, _)| window),
                shift: sides.map(|(_, shift)| shift),
            }
        });
        Ok(stages)
    }

    /// Rows and columns of patches; pixels that do not fill a patch are left out.
    pub(crate) fn grid(&self, size: ImageSize) -> Result<[usize; 2], ModelError> {
        let (rows, columns) = size.patches(self.patch_size)?;
        Ok([rows, columns])
    }
}
