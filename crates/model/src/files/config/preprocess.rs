//! `preprocess_cfg` of OpenCLIP: how a picture becomes the image tower's input.

use serde::{Deserialize, Serialize};

/// Mean of the OpenAI CLIP training pictures, RGB in `[0, 1]`.
#[allow(clippy::excessive_precision)] // As published.
pub const OPENAI_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
/// Standard deviation of the OpenAI CLIP training pictures, RGB in `[0, 1]`.
#[allow(clippy::excessive_precision)] // As published.
pub const OPENAI_STD: [f32; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];

/// Resampling filter, with Pillow's definitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// Cubic convolution with a = −0.5.
    #[default]
    Bicubic,
    /// Triangle filter.
    Bilinear,
}

/// What becomes of a picture that is not square.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResizeMode {
    /// Shorter side to the target, then the centre is cut out.
    #[default]
    Shortest,
    /// Longer side to the target, then padded with the fill colour.
    Longest,
    /// Both sides to the target, the aspect ratio is lost.
    Squash,
}

/// How a picture becomes the image tower's input, apart from its size, which the model fixes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PreprocessConfig {
    /// Subtracted from each channel after scaling to `[0, 1]`.
    pub mean: [f32; 3],
    /// Divides each channel after the mean is subtracted.
    pub std: [f32; 3],
    /// Resampling filter.
    pub interpolation: Interpolation,
    /// Treatment of the aspect ratio.
    pub resize_mode: ResizeMode,
}

impl Default for PreprocessConfig {
    fn default() -> Self {
        Self {
            mean: OPENAI_MEAN,
            std: OPENAI_STD,
            interpolation: Interpolation::default(),
            resize_mode: ResizeMode::default(),
        }
    }
}
