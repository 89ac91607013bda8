//! What the training transform leaves to chance.

use openclip_model::config::Interpolation;

use crate::error::DataError;

/// Settings of the training transform: OpenCLIP's `aug_cfg`, and what timm's `create_transform` adds to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Augmentation {
    /// Range of the crop's area relative to the picture's.
    pub scale: (f64, f64),
    /// Range of the crop's width over its height.
    pub ratio: (f64, f64),
    /// Filter of the resize; [`Interpolation::Random`] draws one for each picture.
    pub interpolation: Interpolation,
    /// Strength of brightness, contrast, saturation and hue jitter, as torchvision's `ColorJitter`.
    pub color_jitter: Option<[f64; 4]>,
    /// Probability of the colour jitter; zero switches it off.
    pub color_jitter_prob: f64,
    /// Probability of turning grey.
    pub gray_scale_prob: f64,
    /// Probability that rectangles become noise.
    pub erase_prob: f64,
    /// Most rectangles that become noise.
    pub erase_count: usize,
}

impl Default for Augmentation {
    /// OpenCLIP's own transform: a crop of nearly the whole picture and nothing else.
    fn default() -> Self {
        Self {
            scale: (0.9, 1.0),
            ratio: (3.0 / 4.0, 4.0 / 3.0),
            interpolation: Interpolation::Bicubic,
            color_jitter: None,
            color_jitter_prob: 0.0,
            gray_scale_prob: 0.0,
            erase_prob: 0.0,
            erase_count: 1,
        }
    }
}

impl Augmentation {
    /// # Errors
    /// If a probability lies outside `[0, 1]`, a range is empty or not positive, a jitter strength is negative (hue: above
    /// 0.5), or a jitter probability is given without strengths.
    pub(super) fn check(&self) -> Result<(), DataError> {
        let strong = |s: f64| s.is_finite() && s >= 0.0;
        for (name, (low, high)) in [("aug_cfg.scale", self.scale), ("aug_cfg.ratio", self.ratio)] {
            require(
                low > 0.0 && low <= high && high.is_finite(),
                name,
                format!("{:?}", (low, high)),
                "a positive range",
            )?;
        }
        for (name, p) in [
            ("aug_cfg.color_jitter_prob", self.color_jitter_prob),
            ("aug_cfg.gray_scale_prob", self.gray_scale_prob),
            ("aug_cfg.re_prob", self.erase_prob),
        ] {
            require(
                (0.0..=1.0).contains(&p),
                name,
                p.to_string(),
                "a probability",
            )?;
        }
        require(
            self.color_jitter.is_some() || self.color_jitter_prob == 0.0,
            "aug_cfg.color_jitter",
            "missing".to_owned(),
            "four strengths, because color_jitter_prob is set",
        )?;
        require(
            self.color_jitter
                .is_none_or(|s| s.into_iter().all(strong) && s[3] <= 0.5),
            "aug_cfg.color_jitter",
            format!("{:?}", self.color_jitter),
            "strengths of at least 0, hue at most 0.5",
        )
    }
}

pub(super) fn require(
    holds: bool,
    name: &'static str,
    found: String,
    expected: &'static str,
) -> Result<(), DataError> {
    match holds {
        true => Ok(()),
        false => Err(DataError::Setting {
            name,
            found,
            expected,
        }),
    }
}
