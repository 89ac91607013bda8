//! The questions that every family of image towers answers.

use std::fmt::Debug;

use burn::tensor::{Device, Tensor};

use super::cost::Cost;
use super::depth::{self, Depth};
use super::init::Init;
use super::keys::{Foreign, Marks};
use super::param::ParamInfo;
use crate::files::ModelError;
use crate::files::config::{ModelConfig, VisionConfig};
use crate::files::weights::{RawTensor, WeightsError};
use crate::layers::batch_norm::PendingStatistics;
use crate::layers::{Bits, ResidualBlock};

/// Keys of timm's towers whose length is the width of the features, the first that is there.
const FEATURES: [&str; 5] = [
    "visual.trunk.norm.weight",
    "visual.trunk.fc_norm.weight",
    "visual.trunk.head.norm.weight",
    "visual.trunk.head.fc.weight",
    "visual.head.proj.weight",
];

/// An image tower of a family: `visual.` of the state dict.
///
/// What the trait says by itself is right for a tower of timm's under `visual.trunk.` with a map under `visual.head.`.
pub trait ImageFamily: Debug {
    /// Whether a configuration asks for a tower of this family.
    fn configures(vision: &VisionConfig) -> bool
    where
        Self: Sized;

    /// Builds the tower that `config` describes; its parameters are zeros that are not allocated.
    ///
    /// # Errors
    /// A name, size or switch that no tower of the family has.
    fn new(config: &ModelConfig, device: &Device) -> Result<Self, ModelError>
    where
        Self: Sized;

    /// By which keys a tower of this family is known in a state dict.
    fn marks() -> &'static [Marks]
    where
        Self: Sized;

    /// Forms in which other libraries publish models with such a tower.
    fn foreign() -> &'static [Foreign]
    where
        Self: Sized,
    {
        &[]
    }

    /// Normalised pixels `[batch, 3, height, width]` → features `[batch, embed_dim]`.
    ///
    /// `training` seeds what is random in training, such as patch dropout, and lets the statistics of the batch normalise where there
    /// is BatchNorm; without it the tower is in evaluation mode.
    fn forward(&self, image: Tensor<4>, training: Option<u64>) -> Tensor<2>;

    /// How the parameter under a key of the state dict starts; `None` for the default of PyTorch's layers.
    fn initial(&self, key: &str, shape: &[usize], config: &ModelConfig) -> Option<Init>;

    /// Beginning of the keys that [`Self::depth`] is asked for; what lies beside them is the map behind the tower.
    fn root(&self) -> &'static str {
        "visual.trunk."
    }

    /// Where the parameter under a key, without the root, stands in the tower; `None` for what is in no layer.
    fn depth(&self, key: &str) -> Option<Depth> {
        depth::timm(key)
    }

    /// Operations and kept values of a picture; `params` are the parameters under `visual.`. `None` if one of them has no rule.
    fn cost(&self, config: &ModelConfig, params: &[&ParamInfo]) -> Option<Cost>;

    /// Side of a patch in pixels, where the first layer makes tokens of patches, and width of the features, as OpenCLIP's table of
    /// models has them.
    fn patch_and_width(
        &self,
        vision: &VisionConfig,
        params: &[ParamInfo],
    ) -> (Option<usize>, usize) {
        let shape = |key: &str| {
            let found = params.iter().find(|param| param.key == key);
            found.map(|param| param.shape.as_slice())
        };
        let patches = shape("visual.trunk.patch_embed.proj.weight");
        let features = FEATURES.into_iter().find_map(shape);
        let patch = patches.and_then(|shape| shape.get(2).copied());
        let width = features.or(patches).and_then(|shape| match *shape {
            [_, features] => Some(features),
            _ => shape.first().copied(),
        });
        (patch, width.unwrap_or(vision.width))
    }

    /// A positional embedding, or another table that goes by the picture's size, fitted to this tower's `shape`; `None` for every
    /// other parameter.
    ///
    /// # Errors
    /// The table cannot be fitted.
    fn resized(
        &self,
        _key: &str,
        _table: &RawTensor,
        _shape: &[usize],
    ) -> Result<Option<RawTensor>, WeightsError> {
        Ok(None)
    }

    /// Makes training compute the blocks again in the backward pass.
    ///
    /// # Errors
    /// Those of [`Recompute::of`](crate::layers::Recompute::of).
    fn recompute_blocks(&mut self) -> Result<(), ModelError>;

    /// Statistics of batches that wait for the running ones, where there is BatchNorm.
    fn pending_statistics(&self) -> Option<&PendingStatistics> {
        None
    }

    /// Makes evaluation use what amounts to the same in less time: one convolution for several layers, packed weights. Gives whether
    /// the tower's blocks are multiplied in so many bits.
    fn fold(&mut self, _bits: Bits) -> bool {
        false
    }

    /// OpenCLIP's own residual blocks.
    fn resblocks(&mut self) -> &mut [ResidualBlock] {
        &mut []
    }
}
