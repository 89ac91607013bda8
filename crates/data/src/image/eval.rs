//! The evaluation transform: resize, cut or pad, RGB.

use openclip_model::config::{Interpolation, PreprocessConfig, ResizeMode};

use super::picture::Picture;
use super::place::{Placement, place};
use super::resample::{Rect, Scaling};
use crate::error::DataError;

/// OpenCLIP's `image_transform(is_train=False)` up to the tensor; scaling to `[0, 1]` and normalisation
/// are the device's work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvalTransform {
    width: usize,
    height: usize,
    mode: ResizeMode,
    filter: Interpolation,
}

impl EvalTransform {
    /// A transform to `height` × `width` pixels.
    ///
    /// # Errors
    /// If a side is zero.
    pub fn new(height: usize, width: usize, config: &PreprocessConfig) -> Result<Self, DataError> {
        if height == 0 || width == 0 {
            return Err(DataError::Setting {
                name: "image size",
                found: format!("{height}x{width}"),
                expected: "at least 1x1",
            });
        }
        // Upstream resizes the shorter side to a target that is not square with its own default filter.
        let fixed_filter = config.resize_mode == ResizeMode::Shortest && height != width;
        let filter = if fixed_filter {
            Interpolation::Bicubic
        } else {
            config.interpolation
        };
        Ok(Self {
            width,
            height,
            mode: config.resize_mode,
            filter,
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

    /// Writes the transformed picture into `out`, `u8` of shape `[3, height, width]`.
    ///
    /// # Errors
    /// If `out` has another length.
    pub fn apply(&self, picture: &Picture, out: &mut [u8]) -> Result<(), DataError> {
        place(
            picture,
            &self.placement((picture.width, picture.height)),
            self.filter,
            out,
        )
    }

    /// The filter of the resize.
    pub(super) fn filter(&self) -> Interpolation {
        self.filter
    }

    /// What is shown of a picture of `width` × `height` pixels, and where.
    pub(super) fn placement(&self, (width, height): (usize, usize)) -> Placement {
        let (resized_width, resized_height) = self.resized(width, height);
        let (left, x, shown_width) = self.cut(resized_width, self.width);
        let (top, y, shown_height) = self.cut(resized_height, self.height);
        let region = Rect {
            left: 0,
            top: 0,
            width,
            height,
        };
        Placement {
            scaling: Scaling {
                region,
                part: region.whole(),
                resized: (resized_width, resized_height),
                window: Rect {
                    left,
                    top,
                    width: shown_width,
                    height: shown_height,
                },
            },
            offset: (x, y),
            output: (self.width, self.height),
        }
    }

    /// Size after resizing: truncated where torchvision's `Resize` truncates, else rounded half to even.
    fn resized(&self, width: usize, height: usize) -> (usize, usize) {
        let (w, h) = (width as f64, height as f64);
        let ratios = (h / self.height as f64, w / self.width as f64);
        let ratio = match self.mode {
            ResizeMode::Squash => return (self.width, self.height),
            ResizeMode::Shortest if self.width == self.height => {
                let long = |long: usize, short: usize| {
                    (self.width as f64 * long as f64 / short as f64) as usize
                };
                return if width <= height {
                    (self.width, long(height, width))
                } else {
                    (long(width, height), self.height)
                };
            }
            ResizeMode::Shortest => ratios.0.min(ratios.1),
            ResizeMode::Longest => ratios.0.max(ratios.1),
        };
        let side = |length: f64| ((length / ratio).round_ties_even() as usize).max(1);
        (side(w), side(h))
    }

    /// Along one axis: the first pixel shown, where it lands, and how many are shown.
    fn cut(&self, resized: usize, target: usize) -> (usize, usize, usize) {
        match resized.checked_sub(target) {
            Some(surplus) => ((surplus as f64 / 2.0).round_ties_even() as usize, 0, target),
            None => (0, (target - resized) / 2, resized),
        }
    }
}
