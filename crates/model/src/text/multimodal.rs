//! CoCa's caption decoder (`transformer.py::MultimodalTransformer`): blocks of causal self-attention on the text, each followed
//! by a block that looks at the picture.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor};

use crate::config::{ModelConfig, MultimodalConfig};
use crate::error::ModelError;
use crate::layers::attention::KeyValues;
use crate::layers::{
    Activation, LayerNorm, Recompute, ResidualBlock, TransformerConfig, parameter,
};

/// Decoder from text tokens and picture tokens to logits over the vocabulary.
#[derive(Module, Debug)]
pub struct MultimodalTransformer {
    /// `[width, vocabulary]`, not transposed.
    pub text_projection: Param<Tensor<2>>,
    /// Causal self-attention.
    pub resblocks: Vec<ResidualBlock>,
    /// Attention to the picture, one after each of `resblocks`.
    pub cross_attn: Vec<ResidualBlock>,
    /// After the last block.
    pub ln_final: LayerNorm,
    /// What becomes of the blocks' activations.
    #[module(skip)]
    pub recompute: Recompute,
    #[module(skip)]
    context_length: usize,
}

/// Keys and values of a decoder's layers for text and picture.
#[derive(Debug, Clone)]
pub struct DecoderCache {
    text: Vec<KeyValues>,
    image: Vec<[Tensor<4>; 2]>,
}

impl DecoderCache {
    /// Puts text rows in another order.
    pub fn select(&mut self, rows: &Tensor<1, Int>) {
        self.text.iter_mut().for_each(|layer| layer.select(rows));
    }
}

impl MultimodalTransformer {
    /// The decoder of a configuration that has one.
    ///
    /// # Errors
    /// Widths that do not fit together.
    pub fn new(
        config: &ModelConfig,
        decoder: &MultimodalConfig,
        device: &Device,
    ) -> Result<Self, ModelError> {
        decoder.check(config)?;
        let block = TransformerConfig {
            width: decoder.width,
            layers: decoder.layers,
            heads: decoder.heads,
            // Upstream reads `mlp_ratio` here and builds with its default.
            mlp_ratio: MultimodalConfig::MLP_RATIO,
            activation: Activation::of(config.quick_gelu, None),
            norm_eps: 1e-5,
            layer_scale: decoder.ls_init_value.is_some(),
        };
        let stack = |make: fn(&TransformerConfig, &Device) -> ResidualBlock| {
            (0..decoder.layers).map(|_| make(&block, device)).collect()
        };
        Ok(Self {
            text_projection: parameter([decoder.width, config.text_cfg.vocab_size], device),
            resblocks: stack(ResidualBlock::new),
            cross_attn: stack(ResidualBlock::cross),
            ln_final: LayerNorm::new(decoder.width, block.norm_eps, device),
            recompute: Recompute::default(),
            context_length: decoder.context_length,
        })
    }

    /// Number of token ids.
    pub fn vocabulary(&self) -> usize {
        self.text_projection.dims()[1]
    }

    /// Most tokens of a caption.
    pub fn context_length(&self) -> usize {
        self.context_length
    }

    /// Picture tokens `[images, n, width]` and text tokens `[images·k, length, width]`, a picture's `k` captions side by side, →
    /// logits `[images·k, length, vocabulary]` in the dtype of the text.
    pub fn forward(&self, image: Tensor<3>, text: Tensor<3>) -> Tensor<3> {
        let [images, ..] = image.dims();
        let blocks = self.resblocks.iter().zip(&self.cross_attn);
        let x = blocks.fold(text, |x, (own, cross)| {
            let x = self
                .recompute
                .block(own, [x], |own, [x]| own.forward(x, true));
            let inputs = [x, image.clone()];
            self.recompute
                .block(cross, inputs, move |cross, [x, image]| {
                    look(cross, x, images, cross.keys(image))
                })
        });
        self.logits(x)
    }

    /// An empty text and the pictures' keys and values for [`Self::step`].
    pub fn cache(&self, image: Tensor<3>) -> DecoderCache {
        DecoderCache {
            text: vec![KeyValues::default(); self.resblocks.len()],
            image: self
                .cross_attn
                .iter()
                .map(|cross| cross.keys(image.clone()).map(laid_out))
                .collect(),
        }
    }

    /// Like [`Self::forward`] for the tokens that follow those in `cache`: any number at first, then one by one. Gives logits of
    /// the last of them, `[images·k, vocabulary]`.
    pub fn step(&self, text: Tensor<3>, cache: &mut DecoderCache) -> Tensor<2> {
        let mut x = text;
        let blocks = self.resblocks.iter().zip(&self.cross_attn);
        for ((own, cross), (text, image)) in blocks.zip(cache.text.iter_mut().zip(&cache.image)) {
            let images = image[0].dims()[0];
            x = look(cross, own.step(x, text), images, image.clone());
        }
        let [rows, length, _] = x.dims();
        let [_, vocabulary] = self.text_projection.dims();
        let last = x.slice_dim(1, length - 1..length);
        self.logits(last).reshape([rows, vocabulary])
    }

    fn logits(&self, x: Tensor<3>) -> Tensor<3> {
        let projection = self.text_projection.val().cast(x.dtype());
        self.ln_final.forward(x).matmul(projection.unsqueeze())
    }
}

/// `[batch, heads, tokens, head_width]` in that order in memory, so that no step has to bring it there.
fn laid_out(x: Tensor<4>) -> Tensor<4> {
    let [batch, heads, tokens, head_width] = x.dims();
    x.reshape([batch * heads * tokens, head_width])
        .reshape([batch, heads, tokens, head_width])
}

/// Lets all captions of a picture look at it in one product: attention to a picture treats each text token alone.
fn look(cross: &ResidualBlock, x: Tensor<3>, images: usize, keys: [Tensor<4>; 2]) -> Tensor<3> {
    let [rows, length, width] = x.dims();
    let side_by_side = x.reshape([images, rows / images * length, width]);
    cross
        .look(side_by_side, keys)
        .reshape([rows, length, width])
}
