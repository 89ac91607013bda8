//! Pieces of timm's `Eva` (EVA-02, <https://arxiv.org/abs/2303.11331>; Perception Encoder,
//! <https://arxiv.org/abs/2504.13181>), under timm's names: attention that turns queries and keys, the gated MLP, and the block
//! with its norms before or behind the branches.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, module};

use super::rope::Rotation;
use crate::layers::activation::silu;
use crate::layers::attention::{join_heads, project_heads, split_heads};
use crate::layers::drop_path::{branch_seed, drop_path};
use crate::layers::linear::linear;
use crate::layers::{Activation, LayerNorm, Linear, TimmMlp, parameter};

/// How query, key and value come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvaQkv {
    /// One layer, `qkv`, whose bias is part of it.
    Packed {
        /// The layer has a bias.
        bias: bool,
    },
    /// One layer without bias, and biases of query and value as parameters of their own.
    PackedWithoutKeyBias,
    /// A layer each.
    Separate {
        /// Biases of query, key and value.
        biases: [bool; 3],
    },
}

/// Widths and switches of an [`EvaBlock`].
#[derive(Debug, Clone, Copy)]
pub struct EvaBlockConfig {
    /// Token width.
    pub width: usize,
    /// Attention heads, which must divide the width.
    pub heads: usize,
    /// Hidden width of the MLP.
    pub hidden: usize,
    /// How query, key and value come about.
    pub qkv: EvaQkv,
    /// A LayerNorm on the heads' output, before the attention's last layer.
    pub inner_norm: bool,
    /// [`SwiGlu`] instead of the MLP with GELU.
    pub gated: bool,
    /// The LayerNorms are behind attention and MLP instead of before them.
    pub post_norm: bool,
    /// Added to the variance in every LayerNorm.
    pub norm_eps: f64,
}

/// Self-attention (timm's `EvaAttention` and `AttentionRope`).
#[derive(Module, Debug)]
pub struct EvaAttention {
    /// `width → 3·width`: query, key and value side by side.
    pub qkv: Option<Linear>,
    /// `[width]`.
    pub q_bias: Option<Param<Tensor<1>>>,
    /// `[width]`.
    pub v_bias: Option<Param<Tensor<1>>>,
    /// `width → width`.
    pub q_proj: Option<Linear>,
    /// `width → width`.
    pub k_proj: Option<Linear>,
    /// `width → width`.
    pub v_proj: Option<Linear>,
    /// On the heads' output.
    pub norm: Option<LayerNorm>,
    /// `width → width`.
    pub proj: Linear,
    #[module(skip)]
    heads: usize,
}

impl EvaAttention {
    /// Builds the layers.
    pub fn new(config: &EvaBlockConfig, device: &Device) -> Self {
        let width = config.width;
        let packed = |bias| Some(Linear::new(width, 3 * width, bias, device));
        let own_bias = (config.qkv == EvaQkv::PackedWithoutKeyBias).then_some(());
        let own_bias = || own_bias.map(|()| parameter([width], device));
        let separate = |part: usize| match config.qkv {
            EvaQkv::Separate { biases } => Some(Linear::new(width, width, biases[part], device)),
            _ => None,
        };
        Self {
            qkv: match config.qkv {
                EvaQkv::Packed { bias } => packed(bias),
                EvaQkv::PackedWithoutKeyBias => packed(false),
                EvaQkv::Separate { .. } => None,
            },
            q_bias: own_bias(),
            v_bias: own_bias(),
            q_proj: separate(0),
            k_proj: separate(1),
            v_proj: separate(2),
            norm: config
                .inner_norm
                .then(|| LayerNorm::new(width, config.norm_eps, device)),
            proj: Linear::new(width, width, true, device),
            heads: config.heads,
        }
    }

    /// `[batch, tokens, width]` → the same shape; every token sees every token.
    pub fn forward(&self, x: Tensor<3>, rotation: Option<&Rotation>) -> Tensor<3> {
        let [query, key, value] = [0, 1, 2].map(|part| self.project(x.clone(), part));
        let (query, key) = match rotation {
            Some(rotation) => (rotation.turn(query), rotation.turn(key)),
            None => (query, key),
        };
        let mixed = module::attention(query, key, value, None, None, Default::default());
        let mixed = join_heads(mixed);
        let mixed = match &self.norm {
            Some(norm) => norm.forward(mixed),
            None => mixed,
        };
        self.proj.forward(mixed)
    }

    /// Query (`part` 0), key (1) or value (2) in heads: `[batch, heads, tokens, head_width]`.
    fn project(&self, x: Tensor<3>, part: usize) -> Tensor<4> {
        let (own, bias) = match part {
            0 => (&self.q_proj, &self.q_bias),
            1 => (&self.k_proj, &None),
            _ => (&self.v_proj, &self.v_bias),
        };
        match (own, &self.qkv) {
            (Some(own), _) => split_heads(own.forward(x), self.heads),
            (None, Some(qkv)) if bias.is_some() => {
                let [width, _] = qkv.weight.dims();
                let columns = part * width..(part + 1) * width;
                let weight = qkv.weight.val().slice_dim(1, columns).cast(x.dtype());
                let bias = bias.as_ref().map(|bias| bias.val().cast(x.dtype()));
                split_heads(linear(x, weight, bias), self.heads)
            }
            (None, Some(qkv)) => project_heads(x, qkv, part, 3, self.heads),
            // Not built: one of them is always there.
            (None, None) => split_heads(x, self.heads),
        }
    }
}

/// `W₂·norm(silu(W_g·x) ⊙ W_x·x)`, all with biases (timm's `SwiGLU` with a norm; <https://arxiv.org/abs/2002.05202>).
#[derive(Module, Debug)]
pub struct SwiGlu {
    /// `width → hidden`, the gate.
    pub fc1_g: Linear,
    /// `width → hidden`.
    pub fc1_x: Linear,
    /// On the product.
    pub norm: LayerNorm,
    /// `hidden → width`.
    pub fc2: Linear,
}

impl SwiGlu {
    /// `[batch, tokens, width]` → the same shape.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let gate = silu(self.fc1_g.forward(x.clone()));
        let product = gate * self.fc1_x.forward(x);
        self.fc2.forward(self.norm.forward(product))
    }
}

/// The MLP of an [`EvaBlock`].
#[allow(clippy::large_enum_variant)] // There is one MLP per block.
#[derive(Module, Debug)]
pub enum EvaMlp {
    /// With GELU.
    Plain(TimmMlp),
    /// With a gate.
    Gated(SwiGlu),
}

impl EvaMlp {
    /// Builds the layers.
    pub fn new(config: &EvaBlockConfig, device: &Device) -> Self {
        let EvaBlockConfig { width, hidden, .. } = *config;
        if !config.gated {
            let widths = [width, hidden, width];
            return Self::Plain(TimmMlp::new(widths, true, Activation::Gelu, device));
        }
        Self::Gated(SwiGlu {
            fc1_g: Linear::new(width, hidden, true, device),
            fc1_x: Linear::new(width, hidden, true, device),
            norm: LayerNorm::new(hidden, config.norm_eps, device),
            fc2: Linear::new(hidden, width, true, device),
        })
    }

    /// `[batch, tokens, width]` → the same shape.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Plain(mlp) => mlp.forward(x),
            Self::Gated(mlp) => mlp.forward(x),
        }
    }
}

/// Attention and MLP on residual branches (timm's `EvaBlock` and `EvaBlockPostNorm`).
#[derive(Module, Debug)]
pub struct EvaBlock {
    /// Before the attention, or behind it.
    pub norm1: LayerNorm,
    /// Self-attention.
    pub attn: EvaAttention,
    /// Before the MLP, or behind it.
    pub norm2: LayerNorm,
    /// `width → hidden → width`.
    pub mlp: EvaMlp,
    #[module(skip)]
    post_norm: bool,
    /// Share of samples for which training leaves a branch out.
    #[module(skip)]
    drop: f64,
    /// Number of the block in the tower.
    #[module(skip)]
    index: usize,
}

impl EvaBlock {
    /// Block number `index` of a tower, whose branches training leaves out for the share `drop` of samples.
    pub fn new(config: &EvaBlockConfig, index: usize, drop: f64, device: &Device) -> Self {
        let norm = || LayerNorm::new(config.width, config.norm_eps, device);
        Self {
            norm1: norm(),
            attn: EvaAttention::new(config, device),
            norm2: norm(),
            mlp: EvaMlp::new(config, device),
            post_norm: config.post_norm,
            drop,
            index,
        }
    }

    /// `[batch, tokens, width]` → the same shape; `training` seeds stochastic depth.
    pub fn forward(
        &self,
        x: Tensor<3>,
        rotation: Option<&Rotation>,
        training: Option<u64>,
    ) -> Tensor<3> {
        let seed = |branch| training.map(|seed| branch_seed(seed, 2 * self.index + branch));
        let x = self.residual(x, &self.norm1, seed(0), |x| self.attn.forward(x, rotation));
        self.residual(x, &self.norm2, seed(1), |x| self.mlp.forward(x))
    }

    fn residual(
        &self,
        x: Tensor<3>,
        norm: &LayerNorm,
        seed: Option<u64>,
        layer: impl FnOnce(Tensor<3>) -> Tensor<3>,
    ) -> Tensor<3> {
        let branch = match self.post_norm {
            true => norm.forward(layer(x.clone())),
            false => layer(norm.forward(x.clone())),
        };
        match seed {
            Some(seed) => x + drop_path(branch, self.drop, seed),
            None => x + branch,
        }
    }
}
