//! From a file's bytes to the planes of a batch: decoding and transforming in one.

use std::sync::Arc;

use openclip_model::config::{Interpolation, PreprocessConfig};
use openclip_model::panics::caught;
use rand::rngs::StdRng;

use super::augmentation::Augmentation;
use super::decode::{Baseline, Limits, baseline, decode, with_room};
use super::erase::Erasure;
use super::eval::EvalTransform;
use super::fast;
use super::picture::Picture;
use super::place::{Placement, place_lines};
use super::train::TrainTransform;
use crate::error::DataError;

/// Turns an encoded image into `[3, height, width]` planes of `u8`, all of which it must write: the buffer holds the
/// pixels of an earlier sample. The generator is seeded for this sample alone. What comes back is to be written over the
/// pixels when they are normalised.
pub type Transform =
    dyn Fn(&[u8], &mut StdRng, &mut [u8]) -> Result<Vec<Erasure>, DataError> + Send + Sync;

/// OpenCLIP's evaluation transform of `[height, width]` pixels. `rgb_first` converts before the resize, as its webdataset reader does.
///
/// # Errors
/// As those of [`EvalTransform::new`].
pub fn eval_transform(
    [height, width]: [usize; 2],
    preprocess: &PreprocessConfig,
    rgb_first: bool,
    limits: Limits,
) -> Result<Arc<Transform>, DataError> {
    let transform = EvalTransform::new(height, width, preprocess)?;
    Ok(Arc::new(move |bytes, _, out| {
        let is_shown = match baseline(bytes, limits)? {
            Some(jpeg) => {
                let placement = transform.placement(jpeg.size());
                show(&jpeg, &placement, transform.filter(), out)?
            }
            None => false,
        };
        if !is_shown {
            transform.apply(&picture(bytes, rgb_first, limits)?, out)?;
        }
        Ok(Vec::new())
    }))
}

/// How the training transform reads its pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoding {
    /// RGB before the resize, as in [`eval_transform`].
    pub rgb_first: bool,
    /// JPEGs are decoded no further than the view needs, which changes pixels by less than 1/255 in the mean.
    pub fast: bool,
    /// What a picture may cost.
    pub limits: Limits,
}

/// OpenCLIP's training transform of `[height, width]` pixels.
///
/// # Errors
/// As those of [`TrainTransform::new`].
pub fn train_transform(
    [height, width]: [usize; 2],
    augmentation: Augmentation,
    decoding: Decoding,
) -> Result<Arc<Transform>, DataError> {
    let Decoding {
        rgb_first,
        fast,
        limits,
    } = decoding;
    let transform = TrainTransform::new(height, width, augmentation)?;
    Ok(Arc::new(move |bytes, rng, out| {
        let Some(jpeg) = baseline(bytes, limits)? else {
            return transform.apply(&picture(bytes, rgb_first, limits)?, rng, out);
        };
        let view = transform.draw(jpeg.size(), rng);
        let is_shown = match fast {
            true => fast::show(&jpeg, &view, (width, height), out)?,
            false => {
                let placement = transform.placement(view.crop());
                show(&jpeg, &placement, view.interpolation, out)?
            }
        };
        match is_shown {
            true => view.recolor(out),
            false => transform.show(&decode(bytes, limits)?, &view, out)?,
        }
        Ok(view.erased)
    }))
}

/// Shows a JPEG with the pixels that its decoded picture would have, of which no more is made than is shown: damage below that is not
/// noticed. `false`, and nothing of use written, where that cannot be: what is shown is damaged, or the picture needed as a whole.
fn show(
    jpeg: &Baseline<'_>,
    placement: &Placement,
    filter: Interpolation,
    out: &mut [u8],
) -> Result<bool, DataError> {
    let shown = caught(|| {
        with_room(|room| place_lines(|wanted| jpeg.lines(wanted, room), placement, filter, out))
    });
    shown.unwrap_or(Ok(false))
}

fn picture(bytes: &[u8], rgb_first: bool, limits: Limits) -> Result<Picture, DataError> {
    let picture = decode(bytes, limits)?;
    Ok(match rgb_first {
        true => picture.into_rgb(),
        false => picture,
    })
}
