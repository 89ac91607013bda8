//! From a file's bytes to the planes of a batch: decoding and transforming in one.

use std::sync::Arc;

use openclip_model::config::PreprocessConfig;
use rand::rngs::StdRng;

use super::augmentation::Augmentation;
use super::decode::{Limits, decode};
use super::erase::Erasure;
use super::eval::EvalTransform;
use super::fast;
use super::picture::Picture;
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
        transform.apply(&picture(bytes, rgb_first, limits)?, out)?;
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
        if fast && let Some(erased) = fast::view(&transform, bytes, limits, rng, out)? {
            return Ok(erased);
        }
        transform.apply(&picture(bytes, rgb_first, limits)?, rng, out)
    }))
}

fn picture(bytes: &[u8], rgb_first: bool, limits: Limits) -> Result<Picture, DataError> {
    let picture = decode(bytes, limits)?;
    Ok(match rgb_first {
        true => picture.into_rgb(),
        false => picture,
    })
}
