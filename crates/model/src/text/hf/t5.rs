//! The encoder of mT5 (`transformers/models/mt5`): pre-norm blocks with a gated MLP, no biases, no scale on attention, and a
//! learned addend for each distance of two tokens (Raffel et al. 2020, <https://arxiv.org/abs/1910.10683>).
#![allow(non_snake_case)] // Fields follow the state dict.

use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::arch::HfArch;
use super::attention::{Pass, Scores, attend};
use crate::family::Init;
use crate::layers::attention::split_heads;
use crate::layers::{Activation, Embedding, Linear, PerSize, Recompute, RmsNorm};

/// Query, key, value and output; the first block's has the table of distances for all.
#[derive(Module, Debug)]
pub struct T5Attention {
    /// `width → heads·head_width`.
    pub q: Linear,
    /// `width → heads·head_width`.
    pub k: Linear,
    /// `width → heads·head_width`.
    pub v: Linear,
    /// `heads·head_width → width`.
    pub o: Linear,
    /// `[buckets, heads]`.
    pub relative_attention_bias: Option<Embedding>,
}

/// Attention on a normalised copy of the residual stream.
#[derive(Module, Debug)]
pub struct T5LayerSelfAttention {
    /// Over all tokens that are no padding.
    pub SelfAttention: T5Attention,
    /// Before the attention.
    pub layer_norm: RmsNorm,
}

/// `wo(gelu(wi_0·x) ∘ wi_1·x)`.
#[derive(Module, Debug)]
pub struct T5GatedMlp {
    /// `width → hidden`, the gate.
    pub wi_0: Linear,
    /// `width → hidden`.
    pub wi_1: Linear,
    /// `hidden → width`.
    pub wo: Linear,
}

/// MLP on a normalised copy of the residual stream.
#[derive(Module, Debug)]
pub struct T5LayerFF {
    /// The gated MLP.
    pub DenseReluDense: T5GatedMlp,
    /// Before the MLP.
    pub layer_norm: RmsNorm,
}

/// Attention and MLP.
#[derive(Module, Debug)]
pub struct T5Block {
    /// `layer.0` and `layer.1` of the state dict.
    pub layer: (T5LayerSelfAttention, T5LayerFF),
    #[module(skip)]
    heads: usize,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    dropout: f64,
}

/// The encoder.
#[derive(Module, Debug)]
pub struct T5Encoder {
    /// `[vocabulary, width]`.
    pub embed_tokens: Embedding,
    /// First block first.
    pub block: Vec<T5Block>,
    /// After the last block.
    pub final_layer_norm: RmsNorm,
    /// What becomes of the blocks' activations.
    #[module(skip)]
    pub recompute: Recompute,
    #[module(skip)]
    dropout: f64,
    #[module(skip)]
    buckets: usize,
    #[module(skip)]
    max_distance: usize,
    /// By the number of tokens.
    #[module(skip)]
    places: PerSize<Tensor<2, Int>>,
}

impl T5Block {
    fn new(first: bool, arch: &HfArch, device: &Device) -> Self {
        let (width, inner) = (arch.width, arch.heads * arch.head_width);
        let layer = |input, output| Linear::new(input, output, false, device);
        let norm = || RmsNorm::new(width, arch.norm_eps, device);
        Self {
            layer: (
                T5LayerSelfAttention {
                    SelfAttention: T5Attention {
                        q: layer(width, inner),
                        k: layer(width, inner),
                        v: layer(width, inner),
                        o: layer(inner, width),
                        relative_attention_bias: first
                            .then(|| Embedding::new(arch.buckets, arch.heads, device)),
                    },
                    layer_norm: norm(),
                },
                T5LayerFF {
                    DenseReluDense: T5GatedMlp {
                        wi_0: layer(width, arch.hidden),
                        wi_1: layer(width, arch.hidden),
                        wo: layer(arch.hidden, width),
                    },
                    layer_norm: norm(),
                },
            ),
            heads: arch.heads,
            activation: arch.activation,
            dropout: arch.dropout,
        }
    }

    /// `[batch, length, width]` → the same shape; `bias` `[heads, length, length]` is added to the scores.
    fn forward(&self, x: Tensor<3>, bias: Tensor<3>, pass: &mut Pass) -> Tensor<3> {
        let (attn, mlp) = &self.layer;
        let normed = attn.layer_norm.forward(x.clone());
        let T5Attention { q, k, v, o, .. } = &attn.SelfAttention;
        let heads = [q, k, v].map(|layer| split_heads(layer.forward(normed.clone()), self.heads));
        let scores = Scores {
            scale: 1.0,
            bias: Some(bias.unsqueeze()),
            dropout: self.dropout,
        };
        let branch = o.forward(attend(heads, scores, pass));
        let x = x + pass.noise.dropout(branch, self.dropout);
        let normed = mlp.layer_norm.forward(x.clone());
        let T5GatedMlp { wi_0, wi_1, wo } = &mlp.DenseReluDense;
        let gate = self.activation.forward(wi_0.forward(normed.clone()));
        let hidden = pass
            .noise
            .dropout(gate * wi_1.forward(normed), self.dropout);
        x + pass.noise.dropout(wo.forward(hidden), self.dropout)
    }
}

impl T5Encoder {
    /// The encoder that `arch` describes.
    pub fn new(arch: &HfArch, device: &Device) -> Self {
        Self {
            embed_tokens: Embedding::new(arch.vocab_size, arch.width, device),
            block: (0..arch.layers)
                .map(|i| T5Block::new(i == 0, arch, device))
                .collect(),
            final_layer_norm: RmsNorm::new(arch.width, arch.norm_eps, device),
            recompute: Recompute::default(),
            dropout: arch.dropout,
            buckets: arch.buckets,
            max_distance: arch.max_distance,
            places: PerSize::default(),
        }
    }

    /// Ids `[batch, length]` → `[batch, length, width]`.
    pub(super) fn forward(
        &self,
        tokens: Tensor<2, Int>,
        dtype: DType,
        pass: &mut Pass,
    ) -> Tensor<3> {
        let [_, length] = tokens.dims();
        let x = self.embed_tokens.forward(tokens).cast(dtype);
        let mut x = pass.noise.dropout(x, self.dropout);
        if let Some(bias) = self.bias(length, &x.device()) {
            for block in &self.block {
                let inputs = [x, bias.clone()];
                x = pass.block(self.recompute, block, inputs, |block, [x, bias], pass| {
                    block.forward(x, bias, pass)
                });
            }
        }
        let x = self.final_layer_norm.forward(x);
        pass.noise.dropout(x, self.dropout)
    }

    /// Addends of the scores of all pairs of tokens, `[heads, length, length]`; `None` without blocks.
    fn bias(&self, length: usize, device: &Device) -> Option<Tensor<3>> {
        let table = &self.block.first()?.layer.0.SelfAttention;
        let table = table.relative_attention_bias.as_ref()?;
        let n = length as i64;
        let buckets = || {
            let buckets: Vec<i64> = (0..n)
                .flat_map(|query| (0..n).map(move |key| key - query))
                .map(|distance| bucket(distance, self.buckets, self.max_distance) as i64)
                .collect();
            Tensor::from_data(TensorData::new(buckets, [length, length]), device)
        };
        let buckets = self.places.get([length; 2], device, buckets);
        Some(table.forward(buckets).permute([2, 0, 1]))
    }
}

/// The row of the table for a key that stands `distance` tokens behind the query: small distances have one each, larger ones
/// share rows whose width grows logarithmically; the second half of the table is for keys behind the query.
fn bucket(distance: i64, buckets: usize, max_distance: usize) -> usize {
    let half = buckets / 2;
    let exact = half / 2;
    let side = if distance > 0 { half } else { 0 };
    let distance = distance.unsigned_abs() as usize;
    if distance < exact {
        return side + distance;
    }
    // In f32 as upstream, so that a distance on the border falls to the same side.
    let share =
        (distance as f32 / exact as f32).ln() / (max_distance as f64 / exact as f64).ln() as f32;
    let beyond = (share * (half - exact) as f32) as usize;
    side + (exact + beyond).min(half - 1)
}

/// How a parameter of the encoder starts (`MT5PreTrainedModel._init_weights`); `name` lies under `text.transformer.`.
pub(super) fn initial(name: &str, arch: &HfArch) -> Init {
    let mut parts = name.rsplit('.').skip(1);
    let width = arch.width as f64;
    let inner = (arch.heads * arch.head_width) as f64;
    let std = match parts.next().unwrap_or_default() {
        "layer_norm" | "final_layer_norm" => return Init::Constant(arch.init_std),
        "embed_tokens" => 1.0,
        "q" => (width * arch.head_width as f64).powf(-0.5),
        "o" => inner.powf(-0.5),
        "wo" => (arch.hidden as f64).powf(-0.5),
        _ => width.powf(-0.5),
    };
    Init::Normal(arch.init_std * std)
}

#[cfg(test)]
mod tests {
    use super::bucket;

    #[test]
    fn distances_share_rows_from_a_quarter_of_the_table_on() {
        let rows: Vec<usize> = (-10..=10).map(|d| bucket(d, 32, 128)).collect();
        let expected = [
            8, 8, 8, 7, 6, 5, 4, 3, 2, 1, 0, 17, 18, 19, 20, 21, 22, 23, 24, 24, 24,
        ];
        assert_eq!(rows, expected);
        assert_eq!(bucket(-1000, 32, 128), 15);
        assert_eq!(bucket(1000, 32, 128), 31);
    }
}
