//! The training transform: random crop, resize, RGB, colour augmentation.

use openclip_model::config::Interpolation;
use rand::Rng;
use rand::seq::SliceRandom;

use super::color::{self, Jitter};
use super::picture::Picture;
use super::place::{Placement, place};
use super::resample::{Rect, Scaling};
use crate::error::DataError;

/// Range of the crop's aspect ratio; OpenCLIP leaves torchvision's default.
const RATIO: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);
/// Draws before falling back to the largest central crop.
const ATTEMPTS: usize = 10;

/// OpenCLIP's `aug_cfg` without timm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Augmentation {
    /// Range of the crop's area relative to the picture's.
    pub scale: (f64, f64),
    /// Strength of brightness, contrast, saturation and hue jitter, as torchvision's `ColorJitter`.
    pub color_jitter: Option<[f64; 4]>,
    /// Probability of the colour jitter; zero switches it off.
    pub color_jitter_prob: f64,
    /// Probability of turning grey.
    pub gray_scale_prob: f64,
}

impl Default for Augmentation {
    fn default() -> Self {
        Self {
            scale: (0.9, 1.0),
            color_jitter: None,
            color_jitter_prob: 0.0,
            gray_scale_prob: 0.0,
        }
    }
}

/// OpenCLIP's `image_transform(is_train=True)` up to the tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainTransform {
    width: usize,
    height: usize,
    augmentation: Augmentation,
}

impl TrainTransform {
    /// A transform to `height` × `width` pixels.
    ///
    /// # Errors
    /// If a side is zero, a probability lies outside `[0, 1]`, the scale range is empty or not positive, a
    /// jitter strength is negative (hue: above 0.5), or a jitter probability is given without strengths.
    pub fn new(height: usize, width: usize, augmentation: Augmentation) -> Result<Self, DataError> {
        let Augmentation {
            scale,
            color_jitter,
            color_jitter_prob,
            gray_scale_prob,
        } = augmentation;
        let strong = |s: f64| s.is_finite() && s >= 0.0;
        let require = |holds: bool, name, found: String, expected| {
            if holds {
                Ok(())
            } else {
                Err(DataError::Setting {
                    name,
                    found,
                    expected,
                })
            }
        };
        let size = format!("{height}x{width}");
        require(height > 0 && width > 0, "image size", size, "at least 1x1")?;
        require(
            scale.0 > 0.0 && scale.0 <= scale.1 && scale.1.is_finite(),
            "aug_cfg.scale",
            format!("{scale:?}"),
            "a positive range",
        )?;
        for (name, p) in [
            ("aug_cfg.color_jitter_prob", color_jitter_prob),
            ("aug_cfg.gray_scale_prob", gray_scale_prob),
        ] {
            require(
                (0.0..=1.0).contains(&p),
                name,
                p.to_string(),
                "a probability",
            )?;
        }
        require(
            color_jitter.is_some() || color_jitter_prob == 0.0,
            "aug_cfg.color_jitter",
            "missing".to_owned(),
            "four strengths, because color_jitter_prob is set",
        )?;
        require(
            color_jitter.is_none_or(|s| s.into_iter().all(strong) && s[3] <= 0.5),
            "aug_cfg.color_jitter",
            format!("{color_jitter:?}"),
            "strengths of at least 0, hue at most 0.5",
        )?;
        Ok(Self {
            width,
            height,
            augmentation,
        })
    }

    /// Height of the output in pixels.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// Width of the output in pixels.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Writes an augmented view of the picture into `out`, `u8` of shape `[3, height, width]`.
    ///
    /// # Errors
    /// If `out` has another length.
    pub fn apply(
        &self,
        picture: &Picture,
        rng: &mut impl Rng,
        out: &mut [u8],
    ) -> Result<(), DataError> {
        let Rect {
            left,
            top,
            width,
            height,
        } = self.crop(picture.width, picture.height, rng);
        self.resized_crop(picture, (left, top), (width, height), out)?;
        if let Some(strengths) = self.augmentation.color_jitter
            && rng.random_bool(self.augmentation.color_jitter_prob)
        {
            for jitter in draw_jitter(strengths, rng) {
                color::adjust(out, jitter);
            }
        }
        if self.augmentation.gray_scale_prob > 0.0
            && rng.random_bool(self.augmentation.gray_scale_prob)
        {
            color::grayscale(out);
        }
        Ok(())
    }

    /// Cuts the region of `width` × `height` pixels at `(left, top)`, resizes it to the output size and converts it
    /// to RGB, without any colour augmentation.
    ///
    /// # Errors
    /// If the region is empty or reaches beyond the picture, or if `out` has another length.
    pub fn resized_crop(
        &self,
        picture: &Picture,
        (left, top): (usize, usize),
        (width, height): (usize, usize),
        out: &mut [u8],
    ) -> Result<(), DataError> {
        let fits = |start: usize, length: usize, side| {
            length > 0 && start.checked_add(length).is_some_and(|end| end <= side)
        };
        if !fits(left, width, picture.width) || !fits(top, height, picture.height) {
            return Err(DataError::Setting {
                name: "crop",
                found: format!("{width}x{height} at ({left}, {top})"),
                expected: "a region inside the picture",
            });
        }
        let output = (self.width, self.height);
        let region = Rect {
            left,
            top,
            width,
            height,
        };
        let window = Rect {
            left: 0,
            top: 0,
            width: self.width,
            height: self.height,
        };
        let scaling = Scaling {
            region,
            resized: output,
            window,
        };
        place(
            picture,
            &Placement {
                scaling,
                offset: (0, 0),
                output,
            },
            Interpolation::Bicubic,
            out,
        )
    }

    /// torchvision's `RandomResizedCrop.get_params`.
    fn crop(&self, width: usize, height: usize, rng: &mut impl Rng) -> Rect {
        let (w, h) = (width as f64, height as f64);
        let (smallest, largest) = self.augmentation.scale;
        for _ in 0..ATTEMPTS {
            let area = w * h * rng.random_range(smallest..=largest);
            let ratio = rng.random_range(RATIO.0.ln()..=RATIO.1.ln()).exp();
            let crop_width = (area * ratio).sqrt().round_ties_even() as usize;
            let crop_height = (area / ratio).sqrt().round_ties_even() as usize;
            if (1..=width).contains(&crop_width) && (1..=height).contains(&crop_height) {
                return Rect {
                    top: rng.random_range(0..=height - crop_height),
                    left: rng.random_range(0..=width - crop_width),
                    width: crop_width,
                    height: crop_height,
                };
            }
        }
        let (crop_width, crop_height) = if w / h < RATIO.0 {
            (width, (w / RATIO.0).round_ties_even() as usize)
        } else if w / h > RATIO.1 {
            ((h * RATIO.1).round_ties_even() as usize, height)
        } else {
            (width, height)
        };
        Rect {
            left: (width - crop_width) / 2,
            top: (height - crop_height) / 2,
            width: crop_width,
            height: crop_height,
        }
    }
}

/// torchvision's `ColorJitter.get_params`: the operations in random order; one of strength zero is left out.
fn draw_jitter(
    [brightness, contrast, saturation, hue]: [f64; 4],
    rng: &mut impl Rng,
) -> Vec<Jitter> {
    let mut order = [0, 1, 2, 3];
    order.shuffle(rng);
    let mut factor = |strength: f64| {
        (strength > 0.0).then(|| rng.random_range((1.0 - strength).max(0.0)..=1.0 + strength))
    };
    let mut drawn = [
        factor(brightness).map(Jitter::Brightness),
        factor(contrast).map(Jitter::Contrast),
        factor(saturation).map(Jitter::Saturation),
        None,
    ];
    drawn[3] = (hue > 0.0).then(|| Jitter::Hue(rng.random_range(-hue..=hue)));
    order.into_iter().filter_map(|i| drawn[i]).collect()
}
