//! From pixels to patch tokens.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::index;

use super::linear::linear;
use super::parameter;
use crate::files::ModelError;

/// A convolution whose stride is its kernel, written as one matrix product.
#[derive(Module, Debug)]
pub struct PatchEmbed {
    /// `[width, 3, patch, patch]`.
    pub weight: Param<Tensor<4>>,
    /// `[width]`.
    pub bias: Option<Param<Tensor<1>>>,
}

impl PatchEmbed {
    /// Square patches of `patch` pixels, to `width` features, without bias.
    pub fn new(width: usize, patch: usize, device: &Device) -> Self {
        Self {
            weight: parameter([width, 3, patch, patch], device),
            bias: None,
        }
    }

    /// The same with a bias.
    pub fn biased(width: usize, patch: usize, device: &Device) -> Self {
        Self {
            bias: Some(parameter([width], device)),
            ..Self::new(width, patch, device)
        }
    }

    /// `[batch, 3, height, width]` → `[batch, rows·columns, features]`, row by row. Pixels that do not fill a
    /// patch at the right and bottom edge are left out.
    pub fn forward(&self, image: Tensor<4>) -> Tensor<3> {
        let weight = self.weight.val().cast(image.dtype());
        let bias = self
            .bias
            .as_ref()
            .map(|bias| bias.val().cast(weight.dtype()));
        project_patches(image, weight, bias)
    }
}

/// The product of [`PatchEmbed`] with weights in the dtype of `image`.
pub(crate) fn project_patches(
    image: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
) -> Tensor<3> {
    let [features, channels, patch, _] = weight.dims();
    let [batch, _, height, width] = image.dims();
    let (rows, columns) = (height / patch, width / patch);
    let inputs = channels * patch * patch;
    let patches = crop(crop(image, 2, rows * patch), 3, columns * patch)
        .reshape([batch, channels, rows, patch, columns, patch])
        .permute([0, 2, 4, 1, 3, 5])
        .reshape([batch, rows * columns, inputs]);
    linear(
        patches,
        weight.reshape([features, inputs]).transpose(),
        bias,
    )
}

/// The first `length` rows of an axis, by their numbers: Burn 0.22's fused WGSL kernels read a picture that is cut and then
/// reshaped as if it were whole.
fn crop(x: Tensor<4>, axis: usize, length: usize) -> Tensor<4> {
    match x.dims()[axis] == length {
        true => x,
        false => {
            let rows = Tensor::<1, Int>::arange(0..length as i64, &x.device());
            x.select(axis, rows)
        }
    }
}

/// Refuses what is no share of patches that may be left out.
pub(crate) fn check_patch_dropout(share: f64) -> Result<(), ModelError> {
    match (0.0..1.0).contains(&share) {
        true => Ok(()),
        false => Err(ModelError::invalid(
            "vision_cfg.patch_dropout",
            format!("{share}, expected a share below 1"),
        )),
    }
}

/// Which patches of each picture a training pass keeps: a random subset of the same size in each.
#[derive(Debug, Clone)]
pub struct KeptPatches {
    /// Numbers of the kept patches, picture after picture.
    kept: Vec<usize>,
    batch: usize,
    /// Patches before.
    n: usize,
}

impl KeptPatches {
    /// `max(1, ⌊n·(1−share)⌋)` of the `n` patches of each of `batch` pictures.
    ///
    /// The draw depends on `seed` alone, so that a second pass with the same seed sees the same patches.
    pub fn draw(batch: usize, n: usize, share: f64, seed: u64) -> Self {
        let keep = ((n as f64 * (1.0 - share)) as usize).max(1);
        let mut rng = StdRng::seed_from_u64(seed);
        let kept = (0..batch)
            .flat_map(|_| index::sample(&mut rng, n, keep).into_vec())
            .collect();
        Self { kept, batch, n }
    }

    /// Numbers of the kept patches of each picture, picture after picture.
    pub fn numbers(&self) -> &[usize] {
        &self.kept
    }

    /// `[batch, n, width]` → `[batch, kept, width]`.
    pub fn of(&self, tokens: Tensor<3>) -> Tensor<3> {
        let [batch, n, width] = tokens.dims();
        let keep = self.kept.len() / self.batch;
        let place = |(at, patch): (usize, &usize)| (at / keep * self.n + patch) as i64;
        let places = self.kept.iter().enumerate().map(place).collect();
        self.select(tokens.reshape([batch * n, width]), places)
    }

    /// Rows of a table `[n, width]` that all pictures share → `[batch, kept, width]`.
    pub fn rows(&self, table: Tensor<2>) -> Tensor<3> {
        self.select(table, self.kept.iter().map(|patch| *patch as i64).collect())
    }

    fn select(&self, rows: Tensor<2>, places: Vec<i64>) -> Tensor<3> {
        let [_, width] = rows.dims();
        let keep = places.len() / self.batch;
        let places = TensorData::new(places, [self.batch * keep]);
        let places = Tensor::<1, Int>::from_data(places, &rows.device());
        rows.select(0, places).reshape([self.batch, keep, width])
    }
}

/// Keeps a random subset of each picture's patch tokens `[batch, n, width]`; see [`KeptPatches::draw`].
pub fn patch_dropout(tokens: Tensor<3>, share: f64, seed: u64) -> Tensor<3> {
    let [batch, n, _] = tokens.dims();
    KeptPatches::draw(batch, n, share, seed).of(tokens)
}
