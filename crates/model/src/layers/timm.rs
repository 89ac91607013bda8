//! Pieces of timm's vision transformers, under timm's names: attention over one `qkv` layer, the two-layer MLP, the
//! pre-norm block, and attention pooling with a learned query.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::attention::{attend_once, packed_attention};
use super::drop_path::DropPath;
use super::flex::affine::{Affine, Bits};
use super::flex::residual;
use super::flex::stack::{Block, Mlp};
use super::{Activation, LayerNorm, LayerScale, Linear, parameter};

/// Widths and switches of a [`TimmBlock`] or a [`LatentPool`].
#[derive(Debug, Clone, Copy)]
pub struct TimmBlockConfig {
    /// Token width.
    pub width: usize,
    /// Attention heads, which must divide the width.
    pub heads: usize,
    /// Hidden width of the MLP relative to `width`; the product is truncated.
    pub mlp_ratio: f64,
    /// Query, key and value have biases.
    pub qkv_bias: bool,
    /// Non-linearity of the MLP.
    pub activation: Activation,
    /// Added to the variance in every LayerNorm.
    pub norm_eps: f64,
    /// LayerScale on both branches.
    pub layer_scale: bool,
}

/// Self-attention with query, key and value from one linear layer (timm's `Attention`).
#[derive(Module, Debug)]
pub struct QkvAttention {
    /// `width → 3·width`: query, key and value side by side.
    pub qkv: Linear,
    /// `width → width`.
    pub proj: Linear,
    #[module(skip)]
    heads: usize,
}

impl QkvAttention {
    /// Attention over `width` features in `heads` heads, which must divide the width.
    pub fn new(width: usize, heads: usize, qkv_bias: bool, device: &Device) -> Self {
        Self {
            qkv: Linear::new(width, 3 * width, qkv_bias, device),
            proj: Linear::new(width, width, true, device),
            heads,
        }
    }

    /// `[batch, tokens, width]` → the same shape; every token sees every token.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let weight = self.qkv.weight.val().cast(x.dtype());
        let bias = self.qkv.bias.as_ref();
        let bias = bias.map(|bias| bias.val().cast(x.dtype()));
        let mixed = packed_attention(x, weight, bias, self.heads, false);
        self.proj.forward(mixed)
    }

    /// A block of this attention, its output times `scale`, and an MLP, each behind its norm.
    pub(crate) fn folded(
        &self,
        [before, behind]: [&LayerNorm; 2],
        scale: Option<Tensor<1>>,
        mlp: Mlp,
        bits: Bits,
    ) -> Option<Block> {
        let weight = self.qkv.weight.val();
        let bias = self.qkv.bias.as_ref().map(Param::val);
        let [width, packed] = weight.dims();
        let affine = |columns| Affine::new(&weight, bias.as_ref(), columns, None, bits);
        Some(Block {
            norm_1: before.folded()?,
            query: affine(0..width)?,
            seen: affine(width..packed)?,
            out: Affine::of(&self.proj, scale.as_ref(), bits)?,
            norm_2: behind.folded()?,
            mlp,
            heads: self.heads,
        })
    }
}

/// Two linear layers with a non-linearity between them (timm's `Mlp`).
#[derive(Module, Debug)]
pub struct TimmMlp {
    /// `input → hidden`.
    pub fc1: Linear,
    /// `hidden → output`.
    pub fc2: Linear,
    #[module(skip)]
    activation: Activation,
}

impl TimmMlp {
    /// Layers of the given widths; `bias` of the second, the first always has one.
    pub fn new(
        [input, hidden, output]: [usize; 3],
        bias: bool,
        activation: Activation,
        device: &Device,
    ) -> Self {
        Self {
            fc1: Linear::new(input, hidden, true, device),
            fc2: Linear::new(hidden, output, bias, device),
            activation,
        }
    }

    /// `[…, input]` → `[…, output]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.fc2
            .forward(self.activation.forward(self.fc1.forward(x)))
    }

    /// The layers in evaluation mode, in f32 on the CPU, their output times `scale`.
    pub(crate) fn folded(&self, scale: Option<Tensor<1>>, bits: Bits) -> Option<Mlp> {
        Some(Mlp {
            norm: None,
            fc: Affine::of(&self.fc1, None, bits)?,
            activation: self.activation,
            beside: None,
            proj: Affine::of(&self.fc2, scale.as_ref(), bits)?,
        })
    }
}

/// Attention and MLP, each on a normalised copy of the residual stream (timm's `Block`).
#[derive(Module, Debug)]
pub struct TimmBlock {
    /// Before the attention.
    pub norm1: LayerNorm,
    /// Self-attention.
    pub attn: QkvAttention,
    /// On the attention's output.
    pub ls1: Option<LayerScale>,
    /// Before the MLP.
    pub norm2: LayerNorm,
    /// `width → hidden → width`.
    pub mlp: TimmMlp,
    /// On the MLP's output.
    pub ls2: Option<LayerScale>,
    #[module(skip)]
    drop: [DropPath; 2],
}

impl TimmBlock {
    /// Builds the block.
    pub fn new(config: &TimmBlockConfig, device: &Device) -> Self {
        let TimmBlockConfig {
            width, norm_eps, ..
        } = *config;
        let layer_scale = || config.layer_scale.then(|| LayerScale::new(width, device));
        Self {
            norm1: LayerNorm::new(width, norm_eps, device),
            attn: QkvAttention::new(width, config.heads, config.qkv_bias, device),
            ls1: layer_scale(),
            norm2: LayerNorm::new(width, norm_eps, device),
            mlp: config.mlp(device),
            ls2: layer_scale(),
            drop: Default::default(),
        }
    }

    /// With stochastic depth: block `index` of a tower whose training leaves out each branch for a `share` of the samples.
    #[must_use]
    pub fn with_drop_path(self, share: f64, index: usize) -> Self {
        Self {
            drop: [0, 1].map(|branch| DropPath::new(share, 2 * index + branch)),
            ..self
        }
    }

    /// The block in evaluation mode, in f32 on the CPU.
    pub(crate) fn folded(&self, bits: Bits) -> Option<Block> {
        let scales = [&self.ls1, &self.ls2].map(|scale| Some(scale.as_ref()?.gamma.val()));
        let [scale, of_mlp] = scales;
        let norms = [&self.norm1, &self.norm2];
        let mlp = self.mlp.folded(of_mlp, bits)?;
        self.attn.folded(norms, scale, mlp, bits)
    }

    /// `[batch, tokens, width]` → the same shape; `training` seeds stochastic depth.
    pub fn forward(&self, x: Tensor<3>, training: Option<u64>) -> Tensor<3> {
        let alone = |scale: &Option<LayerScale>, drop: &DropPath| {
            scale.is_none() && drop.keeps_all(training)
        };
        let [first, second] = [(&self.ls1, 0), (&self.ls2, 1)]
            .map(|(scale, branch)| alone(scale, &self.drop[branch]));
        let attention = || {
            let layers = || [self.attn.qkv.in_f32(), self.attn.proj.in_f32()];
            residual::attention(&x, &self.norm1, layers, self.attn.heads, false)
        };
        let x = match first.then(attention).flatten() {
            Some(x) => x,
            None => {
                let attended = self.attn.forward(self.norm1.forward(x.clone()));
                x + self.drop[0].forward(LayerScale::of(&self.ls1, attended), training)
            }
        };
        let mlp = || {
            let layers = || [self.mlp.fc1.in_f32(), self.mlp.fc2.in_f32()];
            residual::mlp(&x, &self.norm2, layers, self.mlp.activation.curve())
        };
        second.then(mlp).flatten().unwrap_or_else(|| {
            let hidden = self.mlp.forward(self.norm2.forward(x.clone()));
            x.clone() + self.drop[1].forward(LayerScale::of(&self.ls2, hidden), training)
        })
    }
}

impl TimmBlockConfig {
    fn mlp(&self, device: &Device) -> TimmMlp {
        let hidden = (self.width as f64 * self.mlp_ratio) as usize;
        TimmMlp::new(
            [self.width, hidden, self.width],
            true,
            self.activation,
            device,
        )
    }
}

/// Attention pooling: a learned query looks at all tokens, and an MLP follows (timm's `AttentionPoolLatent`, big_vision's
/// MAP head).
#[derive(Module, Debug)]
pub struct LatentPool {
    /// `[1, 1, width]`.
    pub latent: Param<Tensor<3>>,
    /// `width → width`.
    pub q: Linear,
    /// `width → 2·width`: key and value side by side.
    pub kv: Linear,
    /// `width → width`.
    pub proj: Linear,
    /// Before the MLP.
    pub norm: LayerNorm,
    /// `width → hidden → width`.
    pub mlp: TimmMlp,
    #[module(skip)]
    heads: usize,
}

impl LatentPool {
    /// Builds the pool; its layers always have biases, and it has no LayerScale.
    pub fn new(config: &TimmBlockConfig, device: &Device) -> Self {
        let width = config.width;
        Self {
            latent: parameter([1, 1, width], device),
            q: Linear::new(width, width, true, device),
            kv: Linear::new(width, 2 * width, true, device),
            proj: Linear::new(width, width, true, device),
            norm: LayerNorm::new(width, config.norm_eps, device),
            mlp: config.mlp(device),
            heads: config.heads,
        }
    }

    /// `[batch, tokens, width]` → `[batch, width]`.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<2> {
        let [batch, _, width] = x.dims();
        let latent = self.latent.val().cast(x.dtype()).reshape([1, width]);
        let query = self.q.forward(latent).expand([batch, width]);
        let (weight, bias) = (self.kv.weight.val(), &self.kv.bias);
        let seen = [0..width, width..2 * width].map(|columns| {
            let bias = bias.as_ref().map(|bias| bias.val());
            (
                weight.clone().slice_dim(1, columns.clone()),
                bias.map(|bias| bias.slice_dim(0, columns)),
            )
        });
        let x = self.proj.forward(attend_once(query, x, seen, self.heads));
        let hidden = self.mlp.forward(self.norm.forward(x.clone()));
        x + hidden
    }
}
