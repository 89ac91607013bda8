//! Pieces that towers are built from.
//!
//! A layer computes in the dtype of its input: parameters stay in the dtype they were loaded in and are cast on
//! use. Reductions that lose accuracy in half precision (LayerNorm, softmax of the loss) run in f32.
//!
//! Parameters are declared lazily and as zeros; [`crate::init`] or [`crate::files::weights`] gives them their values.
//!
//! * [`activation`] – GELU and QuickGELU
//! * [`attention`] – multi-head self-attention with one packed projection
//! * [`batch_norm`] – BatchNorm and its running statistics
//! * [`block`] – pre-norm residual block and the stack of them
//! * [`depthwise`] – convolution with one kernel per channel
//! * [`derivative`] – functions whose derivative is written by hand
//! * [`dropout`] – dropout whose masks follow from a seed
//! * [`drop_path`] – stochastic depth
//! * [`embedding`] – table of vectors by id
//! * [`conv`] – convolution of feature maps
//! * `flex` – what Burn's CPU backend takes long for
//! * [`folded`] – several layers as one convolution, for inference
//! * [`linear`] – matrix product in the dtype of the input
//! * [`norm`] – LayerNorm, RMSNorm and LayerScale
//! * [`patch`] – patch embedding and patch dropout
//! * [`pool`] – means of squares of pixels
//! * [`position`] – fixed sine–cosine positions
//! * [`sized`] – tensors that follow from sizes alone
//! * [`switch_back`] – a matrix product of 8-bit operands
//! * [`recompute`] – blocks that are computed again in the backward pass
//! * [`relative`] – attention scores by the displacement of key and query
//! * [`timm`] – block, attention and attention pool of timm's vision transformers

pub mod activation;
pub mod attention;
pub mod batch_norm;
pub mod block;
pub mod conv;
pub mod depthwise;
pub mod derivative;
pub mod drop_path;
pub mod dropout;
pub mod embedding;
pub mod flex;
pub mod folded;
pub mod linear;
pub mod norm;
pub mod patch;
pub mod pool;
pub mod position;
pub mod recompute;
pub mod relative;
pub mod sized;
pub mod switch_back;
pub mod timm;

pub use activation::Activation;
pub use attention::Attention;
pub use batch_norm::BatchNorm2d;
pub use block::{ResidualBlock, Transformer, TransformerConfig};
pub use conv::Conv2d;
pub use dropout::Noise;
pub use embedding::Embedding;
pub use flex::affine::Bits;
pub use flex::depthwise::Channels;
pub use flex::normed::Then;
pub use linear::Linear;
pub use norm::{LayerNorm, LayerScale, LayerScale2d, RmsNorm};
pub use patch::PatchEmbed;
pub use recompute::Recompute;
pub use sized::PerSize;
pub use timm::{LatentPool, QkvAttention, TimmBlock, TimmBlockConfig, TimmMlp};

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Tensor};

/// A trainable parameter of the given shape that is allocated on first use, as zeros.
pub fn parameter<const D: usize>(shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    Param::uninitialized(
        ParamId::new(),
        move |device, require_grad| Tensor::zeros(shape, device).set_require_grad(require_grad),
        device.clone(),
        true,
        shape.into(),
    )
}
