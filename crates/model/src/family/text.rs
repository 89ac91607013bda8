//! The questions that every family of text towers answers.

use std::fmt::Debug;

use burn::tensor::{DType, Device, Int, Tensor};

use super::cost::Cost;
use super::depth::Depth;
use super::init::Init;
use super::keys::Marks;
use super::param::ParamInfo;
use crate::files::ModelError;
use crate::files::config::{ModelConfig, TextConfig};
use crate::files::weights::{RawTensor, WeightsError};
use crate::layers::{Bits, ResidualBlock};

/// A text tower of a family: `text.` of the state dict, where a plain CLIP has it at the root.
pub trait TextFamily: Debug {
    /// Whether a configuration asks for a tower of this family.
    fn configures(text: &TextConfig) -> bool
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

    /// Token ids `[batch, length]` → features `[batch, embed_dim]`, computed in `dtype`.
    ///
    /// `training` seeds what is random in training, dropout; without it the tower is in evaluation mode.
    fn forward(&self, tokens: Tensor<2, Int>, dtype: DType, training: Option<u64>) -> Tensor<2>;

    /// Like [`Self::forward`], with the tokens `[batch, length, width]` that a caption decoder reads.
    fn forward_with_tokens(
        &self,
        tokens: Tensor<2, Int>,
        dtype: DType,
        training: Option<u64>,
    ) -> (Tensor<2>, Tensor<3>);

    /// Tokens for a caption decoder of ids `[batch, length]`, `[batch, length, width]`.
    fn decoder_input(&self, tokens: Tensor<2, Int>, dtype: DType) -> Tensor<3> {
        self.forward_with_tokens(tokens, dtype, None).1
    }

    /// Id of padding.
    fn pad_id(&self) -> usize;

    /// Most tokens of a caption, a class token not counted, where there is a limit.
    fn longest(&self) -> Option<usize>;

    /// How the parameter under a key, without `text.`, starts; `None` for the default of PyTorch's layers.
    fn initial(&self, key: &str, shape: &[usize], config: &ModelConfig) -> Option<Init>;

    /// Beginning of the keys behind `text.` that [`Self::depth`] is asked for.
    fn root(&self) -> &'static str {
        ""
    }

    /// Where the parameter under a key, without the root, stands in the tower; `None` for what is in no layer.
    fn depth(&self, key: &str) -> Option<Depth>;

    /// Whether the parameter under a key, without `text.`, is of the map behind the layers, which is one more layer.
    fn is_head(&self, _key: &str) -> bool {
        false
    }

    /// Whether a tower that is frozen but for the last `unlocked` layers has what is in no layer frozen too.
    fn freezes_rest(&self, _unlocked: usize) -> bool {
        true
    }

    /// Whether the norms called `LayerNorm` of a frozen tower go on learning unless they are to be frozen by name.
    fn keeps_norms(&self) -> bool {
        false
    }

    /// Operations and kept values of a caption of full length; the keys of `params` have `text.` where the state dict has it. `None`
    /// if one of them has no rule.
    fn cost(&self, config: &ModelConfig, params: &[&ParamInfo]) -> Option<Cost>;

    /// A positional embedding fitted to this tower's `shape`, its key without `text.`; `None` for every other parameter.
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

    /// Makes evaluation use what amounts to the same in less time: packed weights. Gives whether the tower's blocks are multiplied in so
    /// many bits.
    fn fold(&mut self, _bits: Bits) -> bool {
        false
    }

    /// OpenCLIP's own residual blocks.
    fn resblocks(&mut self) -> &mut [ResidualBlock] {
        &mut []
    }
}
