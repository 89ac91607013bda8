//! The training transform: random crop, resize, RGB, colour augmentation, random erasing.

use openclip_model::config::Interpolation;
use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::augmentation::{Augmentation, require};
use super::color::{self, Jitter};
use super::erase::{self, Erasure};
use super::picture::Picture;
use super::place::{Placement, place};
use super::resample::{Rect, Scaling};
use crate::error::DataError;

/// Draws before falling back to the largest central crop.
const ATTEMPTS: usize = 10;

/// OpenCLIP's `image_transform(is_train=True)` up to the tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainTransform {
    width: usize,
    height: usize,
    augmentation: Augmentation,
}

/// What chance decided about one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// First column of the crop.
    pub left: usize,
    /// First row of the crop.
    pub top: usize,
    /// Width of the crop in pixels.
    pub width: usize,
    /// Height of the crop in pixels.
    pub height: usize,
    /// Filter of the resize.
    pub interpolation: Interpolation,
    /// Changes of the colours, in their order.
    pub jitter: Vec<Jitter>,
    /// Whether the picture turns grey.
    pub grey: bool,
    /// What becomes noise once the pixels are normalised.
    pub erased: Vec<Erasure>,
}

impl TrainTransform {
    /// A transform to `height` × `width` pixels.
    ///
    /// # Errors
    /// If a side is zero, a probability lies outside `[0, 1]`, a range is empty or not positive, a jitter strength is
    /// negative (hue: above 0.5), or a jitter probability is given without strengths.
    pub fn new(height: usize, width: usize, augmentation: Augmentation) -> Result<Self, DataError> {
        let size = format!("{height}x{width}");
        require(height > 0 && width > 0, "image size", size, "at least 1x1")?;
        augmentation.check()?;
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

    /// Writes an augmented view of the picture into `out`, `u8` of shape `[3, height, width]`. What is erased is left to
    /// the caller, because it replaces normalised pixels.
    ///
    /// # Errors
    /// If `out` has another length.
    pub fn apply(
        &self,
        picture: &Picture,
        rng: &mut impl Rng,
        out: &mut [u8],
    ) -> Result<Vec<Erasure>, DataError> {
        let view = self.draw((picture.width, picture.height), rng);
        self.show(picture, &view, out)?;
        Ok(view.erased)
    }

    /// Writes `view` of the picture into `out`, but for what is erased.
    pub(super) fn show(
        &self,
        picture: &Picture,
        view: &View,
        out: &mut [u8],
    ) -> Result<(), DataError> {
        self.resized_crop(
            picture,
            (view.left, view.top),
            (view.width, view.height),
            view.interpolation,
            out,
        )?;
        view.recolor(out);
        Ok(())
    }

    /// Draws the view of a picture of `width` × `height` pixels.
    pub fn draw(&self, (width, height): (usize, usize), rng: &mut impl Rng) -> View {
        let Augmentation {
            color_jitter,
            color_jitter_prob,
            gray_scale_prob,
            erase_prob,
            erase_count,
            ..
        } = self.augmentation;
        let crop = self.crop(width, height, rng);
        let interpolation = match self.augmentation.interpolation {
            Interpolation::Random => [Interpolation::Bilinear, Interpolation::Bicubic]
                .choose(rng)
                .copied()
                .unwrap_or_default(),
            fixed => fixed,
        };
        // Where nothing is left to chance nothing is drawn, so that a run's crops do not depend on settings that are off.
        let happens = |p: f64, rng: &mut _| p > 0.0 && Rng::random_bool(rng, p);
        let jitter = match color_jitter {
            Some(strengths) if happens(color_jitter_prob, rng) => draw_jitter(strengths, rng),
            _ => Vec::new(),
        };
        let grey = happens(gray_scale_prob, rng);
        let erased = match happens(erase_prob, rng) {
            true => erase::draw((self.width, self.height), erase_count, rng),
            false => Vec::new(),
        };
        View {
            left: crop.left,
            top: crop.top,
            width: crop.width,
            height: crop.height,
            interpolation,
            jitter,
            grey,
            erased,
        }
    }

    /// Cuts the region of `width` × `height` pixels at `(left, top)`, resizes it to the output size by `filter` and converts
    /// it to RGB, without any colour augmentation.
    ///
    /// # Errors
    /// If the region is empty or reaches beyond the picture, or if `out` has another length.
    pub fn resized_crop(
        &self,
        picture: &Picture,
        (left, top): (usize, usize),
        (width, height): (usize, usize),
        filter: Interpolation,
        out: &mut [u8],
    ) -> Result<(), DataError> {
        let fits = |start: usize, length: usize, side| {
            length > 0 && start.checked_add(length).is_some_and(|end| end <= side)
        };
        require(
            fits(left, width, picture.width) && fits(top, height, picture.height),
            "crop",
            format!("{width}x{height} at ({left}, {top})"),
            "a region inside the picture",
        )?;
        let region = Rect {
            left,
            top,
            width,
            height,
        };
        place(picture, &self.placement(region), filter, out)
    }

    /// Where `region` is shown.
    pub(super) fn placement(&self, region: Rect) -> Placement {
        let output = (self.width, self.height);
        let window = Rect {
            left: 0,
            top: 0,
            width: self.width,
            height: self.height,
        };
        let scaling = Scaling {
            region,
            part: region.whole(),
            resized: output,
            window,
        };
        Placement {
            scaling,
            offset: (0, 0),
            output,
        }
    }

    /// torchvision's `RandomResizedCrop.get_params`, which is timm's as well.
    fn crop(&self, width: usize, height: usize, rng: &mut impl Rng) -> Rect {
        let (w, h) = (width as f64, height as f64);
        let Augmentation { scale, ratio, .. } = self.augmentation;
        for _ in 0..ATTEMPTS {
            let area = w * h * rng.random_range(scale.0..=scale.1);
            let aspect = rng.random_range(ratio.0.ln()..=ratio.1.ln()).exp();
            let crop_width = (area * aspect).sqrt().round_ties_even() as usize;
            let crop_height = (area / aspect).sqrt().round_ties_even() as usize;
            if (1..=width).contains(&crop_width) && (1..=height).contains(&crop_height) {
                return Rect {
                    top: rng.random_range(0..=height - crop_height),
                    left: rng.random_range(0..=width - crop_width),
                    width: crop_width,
                    height: crop_height,
                };
            }
        }
        let side = |length: f64| (length.round_ties_even() as usize).max(1);
        let (crop_width, crop_height) = if w / h < ratio.0 {
            (width, side(w / ratio.0))
        } else if w / h > ratio.1 {
            (side(h * ratio.1), height)
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

impl View {
    /// What is cut out of the picture.
    pub(super) fn crop(&self) -> Rect {
        Rect {
            left: self.left,
            top: self.top,
            width: self.width,
            height: self.height,
        }
    }

    /// Changes the colours of `[3, height, width]` planes.
    pub(super) fn recolor(&self, planes: &mut [u8]) {
        for jitter in &self.jitter {
            color::adjust(planes, *jitter);
        }
        if self.grey {
            color::grayscale(planes);
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
