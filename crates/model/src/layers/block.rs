//! Pre-norm residual blocks: `x + attn(ln_1(x))`, then `x + mlp(ln_2(x))`.

use burn::module::Module;
use burn::tensor::{Bool, Device, Tensor};

use super::attention::KeyValues;
use super::flex::affine::{Affine, Bits};
use super::flex::residual;
use super::flex::stack::{self, Block, Stack};
use super::switch_back::switch_back;
use super::{Activation, Attention, LayerNorm, LayerScale, Linear, Recompute};

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
    /// The layers multiply 8-bit operands; see [`switch_back`].
    #[module(skip)]
    pub int8: bool,
}

impl Mlp {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let hidden = self.activation.forward(self.layer(&self.c_fc, x));
        self.layer(&self.c_proj, hidden)
    }

    fn layer(&self, linear: &Linear, x: Tensor<3>) -> Tensor<3> {
        if !self.int8 {
            return linear.forward(x);
        }
        let dtype = x.dtype();
        let product = switch_back(x, linear.weight.val());
        match &linear.bias {
            Some(bias) => product + bias.val().cast(dtype).unsqueeze(),
            None => product,
        }
    }
}

/// Attention and MLP, each on a normalised copy of the residual stream.
#[derive(Module, Debug)]
pub struct ResidualBlock {
    /// Before the attention.
    pub ln_1: LayerNorm,
    /// On the other sequence's tokens, where the attention looks at another sequence.
    pub ln_1_kv: Option<LayerNorm>,
    /// Self-attention, or attention to another sequence of the same width.
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
    /// A block of self-attention.
    pub fn new(config: &TransformerConfig, device: &Device) -> Self {
        let width = config.width;
        let hidden = (width as f64 * config.mlp_ratio) as usize;
        let layer_scale = || config.layer_scale.then(|| LayerScale::new(width, device));
        Self {
            ln_1: LayerNorm::new(width, config.norm_eps, device),
            ln_1_kv: None,
            attn: Attention::new(width, config.heads, device),
            ls_1: layer_scale(),
            ln_2: LayerNorm::new(width, config.norm_eps, device),
            mlp: Mlp {
                c_fc: Linear::new(width, hidden, true, device),
                c_proj: Linear::new(hidden, width, true, device),
                activation: config.activation,
                int8: false,
            },
            ls_2: layer_scale(),
        }
    }

    /// A block whose tokens look at another sequence.
    pub fn cross(config: &TransformerConfig, device: &Device) -> Self {
        Self {
            ln_1_kv: Some(LayerNorm::new(config.width, config.norm_eps, device)),
            ..Self::new(config, device)
        }
    }

    /// `[batch, tokens, width]` → the same shape.
    pub fn forward(&self, x: Tensor<3>, causal: bool) -> Tensor<3> {
        self.second(self.first(x, causal))
    }

    /// Like [`Self::forward`]; `hidden` `[batch, tokens, tokens]` says which keys (last axis) a query does not see.
    pub fn forward_masked(&self, x: Tensor<3>, hidden: Tensor<3, Bool>) -> Tensor<3> {
        self.residual(x, |x| self.attn.forward_masked(x, hidden))
    }

    /// Causal [`Self::forward`] of the tokens that follow those in `past`: any number at first, then one by one.
    pub fn step(&self, x: Tensor<3>, past: &mut KeyValues) -> Tensor<3> {
        self.residual(x, |x| self.attn.step(x, past))
    }

    /// Keys and values of another sequence `[batch, n, width]` for [`Self::look`].
    pub fn keys(&self, other: Tensor<3>) -> [Tensor<4>; 2] {
        let other = match &self.ln_1_kv {
            Some(norm) => norm.forward(other),
            None => other,
        };
        [1, 2].map(|part| self.attn.project(other.clone(), part))
    }

    /// Tokens `[batch, tokens, width]` that look at the sequence behind `keys` → the same shape.
    pub fn look(&self, x: Tensor<3>, keys: [Tensor<4>; 2]) -> Tensor<3> {
        self.residual(x, |x| self.attn.look(x, keys))
    }

    /// The block in evaluation mode; `None` where it is not one of self-attention in f32 on the CPU.
    pub(super) fn folded(&self, bits: Bits) -> Option<Block> {
        if self.ln_1_kv.is_some() || self.mlp.int8 {
            return None;
        }
        let attn = &self.attn;
        let (weight, bias) = (attn.in_proj_weight.val(), attn.in_proj_bias.val());
        let [width, packed] = weight.dims();
        let affine = |columns| Affine::new(&weight, Some(&bias), columns, None, bits);
        let scale = |scale: &Option<LayerScale>| scale.as_ref().map(|scale| scale.gamma.val());
        Some(Block {
            norm_1: self.ln_1.folded()?,
            query: affine(0..width)?,
            seen: affine(width..packed)?,
            out: Affine::of(&attn.out_proj, scale(&self.ls_1).as_ref(), bits)?,
            norm_2: self.ln_2.folded()?,
            mlp: stack::Mlp {
                norm: None,
                fc: Affine::of(&self.mlp.c_fc, None, bits)?,
                activation: self.mlp.activation,
                beside: None,
                proj: Affine::of(&self.mlp.c_proj, scale(&self.ls_2).as_ref(), bits)?,
            },
            heads: attn.heads(),
        })
    }

    fn residual(&self, x: Tensor<3>, attend: impl FnOnce(Tensor<3>) -> Tensor<3>) -> Tensor<3> {
        self.second(self.attended(x, attend))
    }

    fn attended(&self, x: Tensor<3>, attend: impl FnOnce(Tensor<3>) -> Tensor<3>) -> Tensor<3> {
        let attended = attend(self.ln_1.forward(x.clone()));
        x + LayerScale::of(&self.ls_1, attended)
    }

    /// The half of the attention.
    fn first(&self, x: Tensor<3>, causal: bool) -> Tensor<3> {
        let attention = || {
            let layers = || [self.attn.packed(), self.attn.out_proj.in_f32()];
            residual::attention(&x, &self.ln_1, layers, self.attn.heads(), causal)
        };
        let attended = self.ls_1.is_none().then(attention).flatten();
        attended.unwrap_or_else(|| self.attended(x.clone(), |x| self.attn.forward(x, causal)))
    }

    /// The half behind the attention, which treats each token alone.
    fn second(&self, x: Tensor<3>) -> Tensor<3> {
        let Mlp {
            c_fc,
            c_proj,
            activation,
            int8,
        } = &self.mlp;
        let mlp = || {
            let layers = || [c_fc.in_f32(), c_proj.in_f32()];
            residual::mlp(&x, &self.ln_2, layers, activation.curve())
        };
        let is_plain = self.ls_2.is_none() && !int8;
        is_plain.then(mlp).flatten().unwrap_or_else(|| {
            let hidden = self.mlp.forward(self.ln_2.forward(x.clone()));
            x.clone() + LayerScale::of(&self.ls_2, hidden)
        })
    }
}

/// A stack of [`ResidualBlock`]s.
#[derive(Module, Debug)]
pub struct Transformer {
    /// First block first.
    pub resblocks: Vec<ResidualBlock>,
    /// What becomes of the blocks' activations.
    #[module(skip)]
    pub recompute: Recompute,
    /// The blocks in evaluation mode.
    #[module(skip)]
    folded: Option<Stack>,
}

impl Transformer {
    /// Builds the blocks.
    pub fn new(config: &TransformerConfig, device: &Device) -> Self {
        Self {
            resblocks: (0..config.layers)
                .map(|_| ResidualBlock::new(config, device))
                .collect(),
            recompute: Recompute::default(),
            folded: None,
        }
    }

    /// Makes inference in f32 on the CPU use weights of so many `bits` that are packed once, as they are now. Gives whether it does.
    pub fn fold(&mut self, bits: Bits) -> bool {
        let blocks = self.resblocks.iter().map(|block| block.folded(bits));
        self.folded = blocks.collect::<Option<_>>().and_then(Stack::new);
        self.folded.is_some()
    }

    /// What [`Self::fold`] made, where it computes on tokens like `x`.
    pub(crate) fn folded<const D: usize>(&self, x: &Tensor<D>) -> Option<&Stack> {
        self.folded.as_ref()?.takes(x)
    }

    /// The first token of each sequence behind the last block, `[batch, tokens, width]` → `[batch, 1, width]`. Every token sees
    /// every token.
    pub fn first(&self, x: Tensor<3>) -> Tensor<3> {
        match self.folded(&x) {
            Some(folded) => folded.first(x),
            None => self.picked(x, false, |x| x.slice_dim(1, 0..1)),
        }
    }

    /// What `pick` takes of the tokens behind the last block, whose MLP sees nothing else: `[batch, tokens, width]` →
    /// `[batch, picked, width]`.
    pub fn picked(
        &self,
        x: Tensor<3>,
        causal: bool,
        pick: impl Fn(Tensor<3>) -> Tensor<3> + Send + 'static,
    ) -> Tensor<3> {
        if let Some(folded) = self.folded(&x) {
            return pick(folded.forward(x, causal));
        }
        let Some((last, before)) = self.resblocks.split_last() else {
            return pick(x);
        };
        let x = self.each(before, x, move |block, x| block.forward(x, causal));
        self.recompute.block(last, [x], move |block, [x]| {
            block.second(pick(block.first(x, causal)))
        })
    }

    /// `[batch, tokens, width]` → the same shape.
    pub fn forward(&self, x: Tensor<3>, causal: bool) -> Tensor<3> {
        if let Some(folded) = self.folded(&x) {
            return folded.forward(x, causal);
        }
        self.each(&self.resblocks, x, move |block, x| block.forward(x, causal))
    }

    /// Like [`Self::forward`]; `hidden` `[batch, tokens, tokens]` says which keys (last axis) a query does not see.
    pub fn forward_masked(&self, x: Tensor<3>, hidden: Tensor<3, Bool>) -> Tensor<3> {
        let forward = move |block: &ResidualBlock, x| block.forward_masked(x, hidden.clone());
        self.each(&self.resblocks, x, forward)
    }

    fn each(
        &self,
        blocks: &[ResidualBlock],
        x: Tensor<3>,
        forward: impl Fn(&ResidualBlock, Tensor<3>) -> Tensor<3> + Clone + Send + 'static,
    ) -> Tensor<3> {
        blocks.iter().fold(x, |x, block| {
            let forward = forward.clone();
            self.recompute
                .block(block, [x], move |block, [x]| forward(block, x))
        })
    }
}
