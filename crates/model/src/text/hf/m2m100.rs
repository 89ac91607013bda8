//! The encoder of M2M100 and NLLB (`transformers/models/m2m_100`): pre-norm blocks with ReLU and fixed sine–cosine positions
//! (Fan et al. 2020, <https://arxiv.org/abs/2010.11125>).

use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::arch::HfArch;
use super::attention::{Pass, Scores, attend};
use super::roberta::places;
use crate::family::Init;
use crate::layers::attention::split_heads;
use crate::layers::{Activation, Embedding, LayerNorm, Linear, PerSize, Recompute};

/// Query, key, value and output.
#[derive(Module, Debug)]
pub struct M2m100Attention {
    /// `width → width`.
    pub k_proj: Linear,
    /// `width → width`.
    pub v_proj: Linear,
    /// `width → width`.
    pub q_proj: Linear,
    /// `width → width`.
    pub out_proj: Linear,
}

/// Attention and MLP, each on a normalised copy of the residual stream.
#[derive(Module, Debug)]
pub struct M2m100Layer {
    /// Over all tokens that are no padding.
    pub self_attn: M2m100Attention,
    /// Before the attention.
    pub self_attn_layer_norm: LayerNorm,
    /// `width → hidden`.
    pub fc1: Linear,
    /// `hidden → width`.
    pub fc2: Linear,
    /// Before the MLP.
    pub final_layer_norm: LayerNorm,
    #[module(skip)]
    heads: usize,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    shares: Shares,
}

/// Shares of values that training drops, in their places.
#[derive(Debug, Clone, Copy)]
struct Shares {
    branch: f64,
    attention: f64,
    activation: f64,
    layer: f64,
}

/// The encoder.
#[derive(Module, Debug)]
pub struct M2m100Encoder {
    /// `[vocabulary, width]`.
    pub embed_tokens: Embedding,
    /// First layer first.
    pub layers: Vec<M2m100Layer>,
    /// After the last layer.
    pub layer_norm: LayerNorm,
    /// What becomes of the blocks' activations.
    #[module(skip)]
    pub recompute: Recompute,
    #[module(skip)]
    scale: f64,
    #[module(skip)]
    pad_id: usize,
    #[module(skip)]
    shares: Shares,
    /// Vectors of positions, by their number.
    #[module(skip)]
    sines: PerSize<Tensor<2>>,
}

impl Shares {
    fn of(arch: &HfArch) -> Self {
        Self {
            branch: arch.dropout,
            attention: arch.attention_dropout,
            activation: arch.activation_dropout,
            layer: arch.layer_drop,
        }
    }
}

impl M2m100Layer {
    fn new(arch: &HfArch, device: &Device) -> Self {
        let width = arch.width;
        let square = || Linear::new(width, width, true, device);
        let norm = || LayerNorm::new(width, arch.norm_eps, device);
        Self {
            self_attn: M2m100Attention {
                k_proj: square(),
                v_proj: square(),
                q_proj: square(),
                out_proj: square(),
            },
            self_attn_layer_norm: norm(),
            fc1: Linear::new(width, arch.hidden, true, device),
            fc2: Linear::new(arch.hidden, width, true, device),
            final_layer_norm: norm(),
            heads: arch.heads,
            activation: arch.activation,
            shares: Shares::of(arch),
        }
    }

    /// `[batch, length, width]` → the same shape.
    fn forward(&self, x: Tensor<3>, pass: &mut Pass) -> Tensor<3> {
        let normed = self.self_attn_layer_norm.forward(x.clone());
        let M2m100Attention {
            k_proj,
            v_proj,
            q_proj,
            out_proj,
        } = &self.self_attn;
        let heads = [q_proj, k_proj, v_proj]
            .map(|layer| split_heads(layer.forward(normed.clone()), self.heads));
        let [.., head_width] = heads[0].dims();
        let scores = Scores {
            scale: (head_width as f64).powf(-0.5),
            bias: None,
            dropout: self.shares.attention,
        };
        let branch = out_proj.forward(attend(heads, scores, pass));
        let x = x + pass.noise.dropout(branch, self.shares.branch);
        let normed = self.final_layer_norm.forward(x.clone());
        let hidden = self.activation.forward(self.fc1.forward(normed));
        let hidden = pass.noise.dropout(hidden, self.shares.activation);
        let branch = self.fc2.forward(hidden);
        x + pass.noise.dropout(branch, self.shares.branch)
    }
}

impl M2m100Encoder {
    /// The encoder that `arch` describes.
    pub fn new(arch: &HfArch, device: &Device) -> Self {
        Self {
            embed_tokens: Embedding::new(arch.vocab_size, arch.width, device),
            layers: (0..arch.layers)
                .map(|_| M2m100Layer::new(arch, device))
                .collect(),
            layer_norm: LayerNorm::new(arch.width, arch.norm_eps, device),
            recompute: Recompute::default(),
            scale: arch.embed_scale,
            pad_id: arch.pad_id,
            shares: Shares::of(arch),
            sines: PerSize::default(),
        }
    }

    /// Ids `[batch, length]` → `[batch, length, width]`.
    pub(super) fn forward(
        &self,
        tokens: Tensor<2, Int>,
        dtype: DType,
        pass: &mut Pass,
    ) -> Tensor<3> {
        let words = self
            .embed_tokens
            .forward_padded(tokens.clone(), pass.padding.clone());
        let x = words * self.scale + self.positions(&tokens, pass);
        let mut x = pass.noise.dropout(x.cast(dtype), self.shares.branch);
        for layer in &self.layers {
            if !pass.noise.chance(self.shares.layer) {
                x = pass.block(self.recompute, layer, [x], |layer, [x], pass| {
                    layer.forward(x, pass)
                });
            }
        }
        self.layer_norm.forward(x)
    }

    /// Vectors of the tokens' positions, `[batch, length, width]`; padding has none.
    fn positions(&self, tokens: &Tensor<2, Int>, pass: &Pass) -> Tensor<3> {
        let [batch, length] = tokens.dims();
        let [_, width] = self.embed_tokens.weight.dims();
        let rows = self.pad_id + 1 + length;
        let device = self.embed_tokens.weight.val().device();
        let table = self.sines.get([rows, width], &device, || {
            let table = sine_table(rows, width, self.pad_id);
            Tensor::from_data(TensorData::new(table, [rows, width]), &device)
        });
        let places = places(pass, self.pad_id);
        table
            .select(0, places.reshape([batch * length]))
            .reshape([batch, length, width])
    }
}

/// `[rows, width]`, row-major: the sines of a row's features first, then the cosines; zeros for the row `empty`.
fn sine_table(rows: usize, width: usize, empty: usize) -> Vec<f32> {
    let half = width / 2;
    // In f32 as upstream: at large positions the rounding of a frequency shows.
    let step = (10000f64.ln() / half.saturating_sub(1).max(1) as f64) as f32;
    let frequencies: Vec<f32> = (0..half).map(|i| (i as f32 * -step).exp()).collect();
    let mut table = Vec::with_capacity(rows * width);
    for row in 0..rows {
        let angles = frequencies.iter().map(|frequency| row as f32 * frequency);
        match row == empty {
            true => table.resize(table.len() + 2 * half, 0.0),
            false => {
                table.extend(angles.clone().map(f32::sin));
                table.extend(angles.map(f32::cos));
            }
        }
        table.resize((row + 1) * width, 0.0);
    }
    table
}

/// How a parameter of the encoder starts (`PreTrainedModel._init_weights`); `name` lies under `text.transformer.`.
pub(super) fn initial(name: &str, arch: &HfArch) -> Init {
    match name {
        _ if name.ends_with(".bias") => Init::Constant(0.0),
        _ if name.ends_with("layer_norm.weight") => Init::Constant(1.0),
        "embed_tokens.weight" => Init::NormalButRow(arch.pad_id, arch.init_std),
        _ => Init::Normal(arch.init_std),
    }
}
