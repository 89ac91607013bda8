//! Pre-norm residual blocks: `x + attn(ln_1(x))`, then `x + mlp(ln_2(x))`.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{Activation, Attention, LayerNorm, LayerScale, Linear};

/// Widths and switches of a [`Transformer`].
#[derive(Debug, Clone, Copy)]
pub struct TransformerConfig {
    /// Token width.
    pub width: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the MLP relative to `width`; the product is truncated.
    pub mlp_ratio: f64,
    /// Non-linearity of the MLP.
    pub activation: Activation,
    /// Added to the variance in every LayerNorm.
    pub norm_eps: f64,
    /// LayerScale on both branches.
    pub layer_scale: bool,
}

/// Two linear layers with a non-linearity between them.
#[derive(Module, Debug)]
pub struct Mlp {
    /// `width → hidden`.
    pub c_fc: Linear,
    /// `hidden → width`.
    pub c_proj: Linear,
    #[module(skip)]
    activation: Activation,
}

impl Mlp {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.c_proj
            .forward(self.activation.forward(self.c_fc.forward(x)))
    }
}

/// Attention and MLP, each on a normalised copy of the residual stream.
#[derive(Module, Debug)]
pub struct ResidualBlock {
    /// Before the attention.
    pub ln_1: LayerNorm,
    /// Self-attention.
    pub attn: Attention,
    /// On the attention's output.
    pub ls_1: Option<LayerScale>,
    /// Before the MLP.
    pub ln_2: LayerNorm,
    /// `width → hidden → width`.
    pub mlp: Mlp,
    /// On the MLP's output.
    pub ls_2: Option<LayerScale>,
}

impl ResidualBlock {
    fn new(config: &TransformerConfig, device: &Device) -> Self {
        let width = config.width;
        let hidden = (width as f64 * config.mlp_ratio) as usize;
        let layer_scale = || config.layer_scale.then(|| LayerScale::new(width, device));
        Self {
            ln_1: LayerNorm::new(width, config.norm_eps, device),
            attn: Attention::new(width, config.heads, device),
            ls_1: layer_scale(),
            ln_2: LayerNorm::new(width, config.norm_eps, device),
            mlp: Mlp {
                c_fc: Linear::new(width, hidden, true, device),
                c_proj: Linear::new(hidden, width, true, device),
                activation: config.activation,
            },
            ls_2: layer_scale(),
        }
    }

    /// `[batch, tokens, width]` → the same shape.
    pub fn forward(&self, x: Tensor<3>, causal: bool) -> Tensor<3> {
        let scaled = |scale: &Option<LayerScale>, branch| match scale {
            Some(scale) => scale.forward(branch),
            None => branch,
        };
        let attended = self.attn.forward(self.ln_1.forward(x.clone()), causal);
        let x = x + scaled(&self.ls_1, attended);
        let hidden = self.mlp.forward(self.ln_2.forward(x.clone()));
        x + scaled(&self.ls_2, hidden)
    }
}

/// A stack of [`ResidualBlock`]s.
#[derive(Module, Debug)]
pub struct Transformer {
    /// First block first.
    pub resblocks: Vec<ResidualBlock>,
}

impl Transformer {
    /// Builds the blocks.
    pub fn new(config: &TransformerConfig, device: &Device) -> Self {
        Self {
            resblocks: (0..config.layers)
                .map(|_| ResidualBlock::new(config, device))
                .collect(),
        }
    }

    /// `[batch, tokens, width]` → the same shape.
    pub fn forward(&self, x: Tensor<3>, causal: bool) -> Tensor<3> {
        self.resblocks
            .iter()
            .fold(x, |x, block| block.forward(x, causal))
    }
}
