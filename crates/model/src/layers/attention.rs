//! Multi-head self-attention as `torch.nn.MultiheadAttention` computes it.

use burn::module::{Module, Param};
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, DType, Device, Int, Tensor, activation, module};

use super::flex::linear::Layer;
use super::linear::linear;
use super::{Linear, flex, parameter};

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

    /// Number of heads.
    pub(super) fn heads(&self) -> usize {
        self.heads
    }

    /// `[batch, tokens, width]` → the same shape. With `causal`, a token sees itself and what comes before it.
    pub fn forward(&self, x: Tensor<3>, causal: bool) -> Tensor<3> {
        let weight = self.in_proj_weight.val().cast(x.dtype());
        let bias = self.in_proj_bias.val().cast(x.dtype());
        self.out_proj
            .forward(packed_attention(x, weight, Some(bias), self.heads, causal))
    }

    /// The layer that makes query, key and value, in f32.
    pub(super) fn packed(&self) -> Layer {
        let bias = self.in_proj_bias.val().cast(DType::F32);
        (self.in_proj_weight.val().cast(DType::F32), Some(bias))
    }

    /// Query (`part` 0), key (1) or value (2) of `[batch, tokens, width]`, cut into heads: `[batch, heads, tokens, head_width]`.
    pub(crate) fn project(&self, x: Tensor<3>, part: usize) -> Tensor<4> {
        let [_, _, width] = x.dims();
        let columns = part * width..(part + 1) * width;
        let weight = self.in_proj_weight.val().slice_dim(1, columns.clone());
        let bias = self.in_proj_bias.val().slice_dim(0, columns);
        let (weight, bias) = (weight.cast(x.dtype()), bias.cast(x.dtype()));
        split_heads(linear(x, weight, Some(bias)), self.heads)
    }

    /// `[batch, tokens, width]` → the same shape; `[batch, tokens, tokens]` of `hidden` says which keys (last axis) a query does
    /// not see.
    pub(crate) fn forward_masked(&self, x: Tensor<3>, hidden: Tensor<3, Bool>) -> Tensor<3> {
        let [batch, tokens, _] = x.dims();
        let hidden = hidden
            .unsqueeze_dim::<4>(1)
            .expand([batch, self.heads, tokens, tokens]);
        let [query, key, value] = [0, 1, 2].map(|part| self.project(x.clone(), part));
        let mixed = module::attention(query, key, value, Some(hidden), None, Default::default());
        self.out_proj.forward(join_heads(mixed))
    }

    /// Queries of `[batch, tokens, width]` on keys and values that are projected already; every query sees all of them.
    pub(crate) fn look(&self, x: Tensor<3>, [key, value]: [Tensor<4>; 2]) -> Tensor<3> {
        let query = self.project(x, 0);
        let mixed = module::attention(query, key, value, None, None, Default::default());
        self.out_proj.forward(join_heads(mixed))
    }

    /// Causal attention of the tokens that follow those in `past`, which takes them up: any number at first, then one by one.
    pub(crate) fn step(&self, x: Tensor<3>, past: &mut KeyValues) -> Tensor<3> {
        let options = AttentionModuleOptions {
            is_causal: past.0.is_none(),
            ..Default::default()
        };
        // A few tokens: the product is cut, which is far smaller than the packed matrix.
        let [_, _, width] = x.dims();
        let weight = self.in_proj_weight.val().cast(x.dtype());
        let bias = self.in_proj_bias.val().cast(x.dtype());
        let packed = linear(x, weight, Some(bias));
        let [query, key, value] = [0, 1, 2].map(|part| {
            let columns = part * width..(part + 1) * width;
            split_heads(packed.clone().slice_dim(2, columns), self.heads)
        });
        let [keys, values] = past.append([key, value]);
        let mixed = module::attention(query, keys, values, None, None, options);
        self.out_proj.forward(join_heads(mixed))
    }
}

/// Keys and values `[batch, heads, tokens, head_width]` of the tokens that an attention has seen.
#[derive(Debug, Clone, Default)]
pub struct KeyValues(Option<[Tensor<4>; 2]>);

impl KeyValues {
    /// Adds those of further tokens; gives all.
    fn append(&mut self, fresh: [Tensor<4>; 2]) -> [Tensor<4>; 2] {
        let all = match self.0.take() {
            None => fresh,
            Some([keys, values]) => {
                let [key, value] = fresh;
                [
                    Tensor::cat(vec![keys, key], 2),
                    Tensor::cat(vec![values, value], 2),
                ]
            }
        };
        self.0.insert(all).clone()
    }

    /// Takes batch rows in another order.
    pub fn select(&mut self, rows: &Tensor<1, Int>) {
        self.0 = self
            .0
            .take()
            .map(|both| both.map(|x| x.select(0, rows.clone())));
    }
}

/// `[batch, tokens, width]` → `[batch, heads, tokens, width / heads]`.
pub(crate) fn split_heads(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [batch, tokens, width] = x.dims();
    x.reshape([batch, tokens, heads, width / heads])
        .swap_dims(1, 2)
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

/// Attention of `[batch, tokens, width]` by packed weights `[width, 3·width]` in the dtype of `x`, before the projection behind it:
/// the same shape. With `causal`, a token sees itself and what comes before it.
pub(crate) fn packed_attention(
    x: Tensor<3>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    heads: usize,
    causal: bool,
) -> Tensor<3> {
    if flex::takes(&x) {
        let packed = linear(x.clone(), weight.clone(), bias.clone());
        if let Some(mixed) = flex::attention::attention(&packed, heads, causal) {
            return mixed;
        }
    }
    let project = |part| project_part(x.clone(), weight.clone(), bias.clone(), part, 3, heads);
    let options = AttentionModuleOptions {
        is_causal: causal,
        ..Default::default()
    };
    join_heads(module::attention(
        project(0),
        project(1),
        project(2),
        None,
        None,
        options,
    ))
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
    linear(
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
    x.swap_dims(1, 2)
        .reshape([batch, tokens, heads * head_width])
}

/// What one query of each sequence, `[batch, width]`, makes of tokens `[batch, tokens, width]`: the same shape as the query. `seen` is weight
/// and bias of keys and of values.
///
/// It needs neither keys nor values: it meets the tokens by way of the keys' weights, and the values' weights see what it makes of them.
pub(crate) fn attend_once(
    query: Tensor<2>,
    tokens: Tensor<3>,
    seen: [(Tensor<2>, Option<Tensor<1>>); 2],
    heads: usize,
) -> Tensor<2> {
    let [batch, _, features] = tokens.dims();
    let (dtype, width) = (tokens.dtype(), features / heads);
    // `[features, features]` → `[heads, features, width]`.
    let [(key, key_bias), (value, value_bias)] = seen.map(|(weight, bias)| {
        let weight = weight.cast(dtype).reshape([features, heads, width]);
        let bias = bias.map(|bias| bias.cast(dtype).reshape([heads, 1, width]));
        (weight.swap_dims(0, 1), bias)
    });
    let query = query.reshape([batch, heads, width]);
    let query = query.swap_dims(0, 1) / (width as f64).sqrt();
    // `[heads, batch, features]`, and back at the end.
    let asks = query.clone().matmul(key.swap_dims(1, 2));
    let scores = asks.swap_dims(0, 1).matmul(tokens.clone().swap_dims(1, 2));
    let scores = match key_bias {
        Some(bias) => scores + (query * bias).sum_dim(2).swap_dims(0, 1),
        None => scores,
    };
    let shares = activation::softmax(scores.cast(DType::F32), 2).cast(dtype);
    let mixed = shares.matmul(tokens).swap_dims(0, 1);
    let mixed = mixed.matmul(value);
    let mixed = match value_bias {
        Some(bias) => mixed + bias,
        None => mixed,
    };
    mixed.swap_dims(0, 1).reshape([batch, features])
}
