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
        let weight = self.in_proj_weight.val().cast(x.dtype());
        let bias = self.in_proj_bias.val().cast(x.dtype());
        let project =
            |part| project_part(x.clone(), weight.clone(), Some(bias.clone()), part, 3, self.heads);
        let options = AttentionModuleOptions {
            is_causal: causal,
            ..Default::default()
        };
        let mixed = module::attention(project(0), project(1), project(2), None, None, options);
        self.out_proj.forward(join_heads(mixed))
    }
}

/// One of `parts` outputs that are packed side by side in a linear layer, cut into heads:
/// `[batch, tokens, width]` → `[batch, heads, tokens, head_width]`.
pub(crate) fn project_heads(
    x: Tensor<3>,
    packed: &Linear,
    part: usize,
    parts: usize,
    heads: usize,
) -> Tensor<4> {
    let weight = packed.weight.val().cast(x.dtype());
    let bias = packed.bias.as_ref().map(|bias| bias.val().cast(x.dtype()));
    project_part(x, weight, bias, part, parts, heads)
}

/// Like [`project_heads`] with weights in the dtype of `x`.
///
/// The packed parameter is cut, not its product: the backward pass of a cut allocates the whole, and the parameter is smaller
/// than the activations of any batch worth training on.
fn project_part(
    x: Tensor<3>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    part: usize,
    parts: usize,
    heads: usize,
) -> Tensor<4> {
    let [batch, tokens, _] = x.dims();
    let [_, packed] = weight.dims();
    let width = packed / parts;
    let columns = part * width..(part + 1) * width;
    module::linear(
        x,
        weight.slice_dim(1, columns.clone()),
        bias.map(|bias| bias.slice_dim(0, columns)),
    )
    .reshape([batch, tokens, heads, width / heads])
    .swap_dims(1, 2)
}

/// `[batch, heads, tokens, head_width]` → `[batch, tokens, heads·head_width]`.
pub(crate) fn join_heads(x: Tensor<4>) -> Tensor<3> {
    let [batch, heads, tokens, head_width] = x.dims();
    x.swap_dims(1, 2).reshape([batch, tokens, heads * head_width])
}
