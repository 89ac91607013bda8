//! From an encoder's tokens to one vector, and from there to the shared embedding.

use burn::module::Module;
use burn::tensor::{Bool, DType, Device, Tensor};

use super::arch::HfArch;
use crate::files::ModelError;
use crate::files::config::{HfPool, HfProj};
use crate::layers::{Activation, Linear};

/// Map from the encoder's width to the shared embedding.
#[derive(Module, Debug)]
pub enum HfProjection {
    /// One matrix.
    Linear(Linear),
    /// `proj.0` and `proj.2` of the state dict, with a GELU between them.
    Mlp((Linear, Unweighted, Linear)),
}

/// Holds the place of a layer without weights.
#[derive(Module, Debug)]
pub struct Unweighted {
    #[module(skip)]
    activation: Activation,
}

impl HfProjection {
    /// The map that a configuration asks for; none where the encoder's output is the embedding.
    ///
    /// # Errors
    /// No map is configured and the widths differ.
    pub fn new(
        kind: Option<HfProj>,
        arch: &HfArch,
        embed_dim: usize,
        device: &Device,
    ) -> Result<Option<Self>, ModelError> {
        let width = arch.width;
        let layer = |input, output| Linear::new(input, output, false, device);
        match kind {
            Some(HfProj::Linear) => Ok(Some(Self::Linear(layer(width, embed_dim)))),
            Some(HfProj::Mlp) => {
                let hidden = (width + embed_dim) / 2;
                let activation = Activation::Gelu;
                Ok(Some(Self::Mlp((
                    layer(width, hidden),
                    Unweighted { activation },
                    layer(hidden, embed_dim),
                ))))
            }
            None if width == embed_dim => Ok(None),
            None => Err(ModelError::invalid(
                "text_cfg.hf_proj_type",
                format!("null, but the encoder's width is {width} and embed_dim is {embed_dim}"),
            )),
        }
    }

    /// `[batch, width]` → `[batch, embed_dim]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Linear(layer) => layer.forward(x),
            Self::Mlp((first, between, last)) => {
                last.forward(between.activation.forward(first.forward(x)))
            }
        }
    }
}

/// Tokens `[batch, length, width]`, of which those where `padding` is true do not count → `[batch, width]`.
pub(super) fn pool(kind: HfPool, tokens: Tensor<3>, padding: Tensor<2, Bool>) -> Tensor<2> {
    let dtype = tokens.dtype();
    let [batch, _, width] = tokens.dims();
    let hidden = padding.clone().unsqueeze_dim::<3>(2).expand(tokens.dims());
    match kind {
        HfPool::Mean => {
            let tokens = tokens.cast(DType::F32);
            let sum = tokens.mask_fill(hidden, 0.0).sum_dim(1);
            let count = padding.bool_not().float().cast(DType::F32).sum_dim(1);
            // At least one, so that a caption of nothing but padding gives no NaN.
            (sum.reshape([batch, width]) / count.clamp_min(1.0)).cast(dtype)
        }
        HfPool::Max => {
            let tokens = tokens.cast(DType::F32).mask_fill(hidden, f32::MIN);
            let empty = padding.int().min_dim(1).equal_scalar(1);
            tokens
                .max_dim(1)
                .reshape([batch, width])
                .mask_fill(empty.expand([batch, width]), 0.0)
                .cast(dtype)
        }
        HfPool::Cls | HfPool::First => tokens.slice_dim(1, 0..1).reshape([batch, width]),
    }
}
