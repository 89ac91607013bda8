//! Multi-head self-attention as `torch.nn.MultiheadAttention` computes it.

use burn::module::{Module, Param};
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, Tensor, module};

use super::{Linear, parameter};

/// Self-attention with query, key and value projections packed in one matrix, scale `1/√head_width`, no dropout.
#[derive(Module, Debug)]
pub struct Attention {
    /// `[width, 3·width]`: query, key and value side by side; the transpose of PyTorch's layout.
    pub in_proj_weight: Param<Tensor<2>>,
    /// `[3·width]`.
    pub in_proj_bias: Param<Tensor<1>>,
    /// `[width, width]`.
    pub out_proj: Linear,
    #[module(skip)]
    heads: usize,
}

impl Attention {
    /// Attention over `width` features in `heads` heads, which must divide the width.
    pub fn new(width: usize, heads: usize, device: &Device) -> Self {
        Self {
            in_proj_weight: parameter([width, 3 * width], device),
            in_proj_bias: parameter([3 * width], device),
            out_proj: Linear::new(width, width, true, device),
            heads,
        }
    }

    /// `[batch, tokens, width]` → the same shape. With `causal`, a token sees itself and what comes before it.
    pub fn forward(&self, x: Tensor<3>, causal: bool) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        let head_width = width / self.heads;
        let weight = self.in_proj_weight.val().cast(x.dtype());
        let bias = self.in_proj_bias.val().cast(x.dtype());
        // The packed parameter is cut, not its product: the backward pass of a cut allocates the whole, and the
        // parameter is smaller than the activations of any batch worth training on.
        let project = |part: usize| {
            let columns = part * width..(part + 1) * width;
            module::linear(
                x.clone(),
                weight.clone().slice_dim(1, columns.clone()),
                Some(bias.clone().slice_dim(0, columns)),
            )
            .reshape([batch, tokens, self.heads, head_width])
            .swap_dims(1, 2)
        };
        let options = AttentionModuleOptions {
            is_causal: causal,
            ..Default::default()
        };
        let mixed = module::attention(project(0), project(1), project(2), None, None, options);
        self.out_proj
            .forward(mixed.swap_dims(1, 2).reshape([batch, tokens, width]))
    }
}
