//! RoBERTa, XLM-RoBERTa and BERT (`transformers/models/roberta`, `…/bert`): attention and MLP with a LayerNorm after each
//! residual sum (Liu et al. 2019, <https://arxiv.org/abs/1907.11692>).
#![allow(non_snake_case)] // Fields follow the state dict.

use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor};

use super::arch::{HfArch, HfFamily};
use super::attention::{Pass, Scores, attend};
use crate::family::Init;
use crate::layers::attention::split_heads;
use crate::layers::{Activation, Embedding, LayerNorm, Linear, Recompute};

/// Sum of a token's, its position's and its type's vectors.
#[derive(Module, Debug)]
pub struct RobertaEmbeddings {
    /// `[vocabulary, width]`.
    pub word_embeddings: Embedding,
    /// `[types, width]`; all tokens are of the first.
    pub token_type_embeddings: Embedding,
    /// On the sum.
    pub LayerNorm: LayerNorm,
    /// `[positions, width]`; RoBERTa's begin behind the row of the padding id.
    pub position_embeddings: Embedding,
}

/// Query, key and value.
#[derive(Module, Debug)]
pub struct RobertaSelfAttention {
    /// `width → width`.
    pub query: Linear,
    /// `width → width`.
    pub key: Linear,
    /// `width → width`.
    pub value: Linear,
}

/// The layer that ends a branch, and the norm after the residual sum.
#[derive(Module, Debug)]
pub struct RobertaOutput {
    /// To `width`.
    pub dense: Linear,
    /// On the sum.
    pub LayerNorm: LayerNorm,
}

/// One layer under the state dict's name of the module around it.
#[derive(Module, Debug)]
pub struct RobertaDense {
    /// The layer.
    pub dense: Linear,
}

/// Self-attention and what follows it.
#[derive(Module, Debug)]
pub struct RobertaAttention {
    /// `attention.self` of the state dict.
    pub self_: RobertaSelfAttention,
    /// `width → width`.
    pub output: RobertaOutput,
}

/// Attention and MLP.
#[derive(Module, Debug)]
pub struct RobertaLayer {
    /// Over all tokens that are no padding.
    pub attention: RobertaAttention,
    /// `width → hidden`.
    pub intermediate: RobertaDense,
    /// `hidden → width`.
    pub output: RobertaOutput,
    #[module(skip)]
    heads: usize,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    dropout: [f64; 2],
}

/// The stack of layers.
#[derive(Module, Debug)]
pub struct RobertaLayers {
    /// First layer first.
    pub layer: Vec<RobertaLayer>,
}

/// The encoder.
#[derive(Module, Debug)]
pub struct RobertaEncoder {
    /// Ids to vectors.
    pub embeddings: RobertaEmbeddings,
    /// Layers.
    pub encoder: RobertaLayers,
    /// On the first token, with a hyperbolic tangent after it.
    pub pooler: Option<RobertaDense>,
    /// What becomes of the blocks' activations.
    #[module(skip)]
    pub recompute: Recompute,
    #[module(skip)]
    counts_padding: bool,
    #[module(skip)]
    pad_id: usize,
    #[module(skip)]
    dropout: f64,
}

impl RobertaOutput {
    fn new(input: usize, arch: &HfArch, device: &Device) -> Self {
        Self {
            dense: Linear::new(input, arch.width, true, device),
            LayerNorm: LayerNorm::new(arch.width, arch.norm_eps, device),
        }
    }

    fn forward(&self, branch: Tensor<3>, x: Tensor<3>, dropout: f64, pass: &mut Pass) -> Tensor<3> {
        let branch = pass.noise.dropout(self.dense.forward(branch), dropout);
        self.LayerNorm.forward(branch + x)
    }
}

impl RobertaLayer {
    fn new(arch: &HfArch, device: &Device) -> Self {
        let width = arch.width;
        let square = || Linear::new(width, width, true, device);
        Self {
            attention: RobertaAttention {
                self_: RobertaSelfAttention {
                    query: square(),
                    key: square(),
                    value: square(),
                },
                output: RobertaOutput::new(width, arch, device),
            },
            intermediate: RobertaDense {
                dense: Linear::new(width, arch.hidden, true, device),
            },
            output: RobertaOutput::new(arch.hidden, arch, device),
            heads: arch.heads,
            activation: arch.activation,
            dropout: [arch.dropout, arch.attention_dropout],
        }
    }

    fn forward(&self, x: Tensor<3>, pass: &mut Pass) -> Tensor<3> {
        let [dropout, attention_dropout] = self.dropout;
        let RobertaSelfAttention { query, key, value } = &self.attention.self_;
        let heads =
            [query, key, value].map(|layer| split_heads(layer.forward(x.clone()), self.heads));
        let [.., head_width] = heads[0].dims();
        let scores = Scores {
            scale: (head_width as f64).powf(-0.5),
            bias: None,
            dropout: attention_dropout,
        };
        let mixed = attend(heads, scores, pass);
        let x = self.attention.output.forward(mixed, x, dropout, pass);
        let hidden = self.intermediate.dense.forward(x.clone());
        let hidden = self.activation.forward(hidden);
        self.output.forward(hidden, x, dropout, pass)
    }
}

impl RobertaEncoder {
    /// The encoder that `arch` describes, with a layer on the first token when `pooler`.
    pub fn new(arch: &HfArch, pooler: bool, device: &Device) -> Self {
        let width = arch.width;
        Self {
            embeddings: RobertaEmbeddings {
                word_embeddings: Embedding::new(arch.vocab_size, width, device),
                token_type_embeddings: Embedding::new(arch.types, width, device),
                LayerNorm: LayerNorm::new(width, arch.norm_eps, device),
                position_embeddings: Embedding::new(arch.positions, width, device),
            },
            encoder: RobertaLayers {
                layer: (0..arch.layers)
                    .map(|_| RobertaLayer::new(arch, device))
                    .collect(),
            },
            pooler: pooler.then(|| RobertaDense {
                dense: Linear::new(width, width, true, device),
            }),
            recompute: Recompute::default(),
            counts_padding: arch.family == HfFamily::Bert,
            pad_id: arch.pad_id,
            dropout: arch.dropout,
        }
    }

    /// Ids `[batch, length]` → `[batch, length, width]`.
    pub(super) fn forward(
        &self,
        tokens: Tensor<2, Int>,
        dtype: DType,
        pass: &mut Pass,
    ) -> Tensor<3> {
        let x = self.embed(tokens, pass).cast(dtype);
        let x = self.embeddings.LayerNorm.forward(x);
        let x = pass.noise.dropout(x, self.dropout);
        let layers = self.encoder.layer.iter();
        layers.fold(x, |x, layer| {
            pass.block(self.recompute, layer, [x], |layer, [x], pass| {
                layer.forward(x, pass)
            })
        })
    }

    /// What the encoder makes of its first token `[batch, width]`, where it has a layer for that.
    pub(super) fn pool(&self, first: Tensor<2>) -> Tensor<2> {
        match &self.pooler {
            Some(pooler) => pooler.dense.forward(first).tanh(),
            None => first,
        }
    }

    fn embed(&self, tokens: Tensor<2, Int>, pass: &Pass) -> Tensor<3> {
        let device = tokens.device();
        let [batch, length] = tokens.dims();
        let words = &self.embeddings.word_embeddings;
        let positions = &self.embeddings.position_embeddings;
        let x = words.forward_padded(tokens, pass.padding.clone());
        let kind = self.embeddings.token_type_embeddings.weight.val();
        let x = x + kind.slice_dim(0, 0..1).unsqueeze();
        if self.counts_padding {
            let counted = Tensor::<1, Int>::arange(0..length as i64, &device);
            let counted = counted.unsqueeze::<2>().expand([batch, length]);
            return x + positions.forward(counted);
        }
        let places = places(pass, self.pad_id);
        x + positions.forward_padded(places, pass.padding.clone())
    }
}

/// Positions that count from `pad_id + 1` and pass over padding, which stands at `pad_id`.
pub(super) fn places(pass: &Pass, pad_id: usize) -> Tensor<2, Int> {
    let there = pass.padding.clone().bool_not().int();
    (there.clone().cumsum(1) * there).add_scalar(pad_id as i64)
}

/// How a parameter of the encoder starts (`PreTrainedModel._init_weights`); `name` lies under `text.transformer.`.
pub(super) fn initial(name: &str, arch: &HfArch) -> Init {
    let padded = Init::NormalButRow(arch.pad_id, arch.init_std);
    match name {
        _ if name.ends_with(".bias") => Init::Constant(0.0),
        _ if name.ends_with("LayerNorm.weight") => Init::Constant(1.0),
        "embeddings.word_embeddings.weight" => padded,
        "embeddings.position_embeddings.weight" if arch.family == HfFamily::Roberta => padded,
        _ => Init::Normal(arch.init_std),
    }
}
