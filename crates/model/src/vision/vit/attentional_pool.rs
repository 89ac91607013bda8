//! CoCa's attentional pooler (`transformer.py::AttentionalPooler`): learned queries look at all tokens of a picture.

use std::ops::Range;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, module};

use crate::layers::attention::{join_heads, split_heads};
use crate::layers::linear::linear;
use crate::layers::{Attention, LayerNorm, Linear, parameter};

/// Attention from one width to another with a matrix for each projection, as `torch.nn.MultiheadAttention` stores it when the
/// widths of query and key differ.
#[derive(Module, Debug)]
pub struct CrossAttention {
    /// `[width, width]`, in PyTorch's layout.
    pub q_proj_weight: Param<Tensor<2>>,
    /// `[width, context]`, in PyTorch's layout.
    pub k_proj_weight: Param<Tensor<2>>,
    /// `[width, context]`, in PyTorch's layout.
    pub v_proj_weight: Param<Tensor<2>>,
    /// `[3·width]`: query, key and value side by side.
    pub in_proj_bias: Param<Tensor<1>>,
    /// `width → width`.
    pub out_proj: Linear,
    #[module(skip)]
    heads: usize,
}

impl CrossAttention {
    /// From tokens of `context` features to queries of `width` features in `heads` heads, which must divide the width.
    pub fn new(width: usize, context: usize, heads: usize, device: &Device) -> Self {
        Self {
            q_proj_weight: parameter([width, width], device),
            k_proj_weight: parameter([width, context], device),
            v_proj_weight: parameter([width, context], device),
            in_proj_bias: parameter([3 * width], device),
            out_proj: Linear::new(width, width, true, device),
            heads,
        }
    }

    /// Queries `[batch, queries, width]` and tokens `[batch, tokens, context]` → `[batch, queries, width]`.
    pub fn forward(&self, query: Tensor<3>, tokens: Tensor<3>) -> Tensor<3> {
        let [_, _, width] = query.dims();
        let project = |x: Tensor<3>, weight: &Param<Tensor<2>>, part: usize| {
            let bias = self
                .in_proj_bias
                .val()
                .slice_dim(0, part * width..(part + 1) * width);
            let weight = weight.val().cast(x.dtype()).transpose();
            let bias = bias.cast(x.dtype());
            split_heads(linear(x, weight, Some(bias)), self.heads)
        };
        let query = project(query, &self.q_proj_weight, 0);
        let key = project(tokens.clone(), &self.k_proj_weight, 1);
        let value = project(tokens, &self.v_proj_weight, 2);
        let mixed = module::attention(query, key, value, None, None, Default::default());
        self.out_proj.forward(join_heads(mixed))
    }
}

/// Attention of the queries to the tokens, as `torch.nn.MultiheadAttention` stores it.
#[derive(Module, Debug)]
pub enum PoolAttention {
    /// Queries and tokens of one width: one packed matrix.
    Packed(Attention),
    /// Of two widths.
    Split(CrossAttention),
}

impl PoolAttention {
    /// Queries `[batch, queries, width]` and tokens `[batch, tokens, context]` → `[batch, queries, width]`.
    pub fn forward(&self, query: Tensor<3>, tokens: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Packed(attn) => {
                let keys = [1, 2].map(|part| attn.project(tokens.clone(), part));
                attn.look(query, keys)
            }
            Self::Split(attn) => attn.forward(query, tokens),
        }
    }
}

/// Learned queries that attend to a picture's tokens.
#[derive(Module, Debug)]
pub struct AttentionalPooler {
    /// `[queries, width]`.
    pub query: Param<Tensor<2>>,
    /// From the tokens to the queries.
    pub attn: PoolAttention,
    /// On the queries.
    pub ln_q: LayerNorm,
    /// On the tokens.
    pub ln_k: LayerNorm,
}

impl AttentionalPooler {
    /// `queries` queries of `width` features on tokens of `context` features.
    pub fn new(
        queries: usize,
        [width, context]: [usize; 2],
        heads: usize,
        norm_eps: f64,
        device: &Device,
    ) -> Self {
        Self {
            query: parameter([queries, width], device),
            attn: match width == context {
                true => PoolAttention::Packed(Attention::new(width, heads, device)),
                false => PoolAttention::Split(CrossAttention::new(width, context, heads, device)),
            },
            ln_q: LayerNorm::new(width, norm_eps, device),
            ln_k: LayerNorm::new(context, norm_eps, device),
        }
    }

    /// Number of queries.
    pub fn queries(&self) -> usize {
        self.query.dims()[0]
    }

    /// Tokens `[batch, tokens, context]` → `[batch, n, width]` for the `n` queries of a range; no query sees another.
    pub fn forward(&self, tokens: Tensor<3>, queries: Range<usize>) -> Tensor<3> {
        let [batch, ..] = tokens.dims();
        let query = self.query.val().cast(tokens.dtype()).slice_dim(0, queries);
        let [n, width] = query.dims();
        let query = self.ln_q.forward(query).unsqueeze::<3>();
        let query = query.expand([batch, n, width]);
        self.attn.forward(query, self.ln_k.forward(tokens))
    }
}
