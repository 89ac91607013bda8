//! CoCa's caption decoder (`transformer.py::MultimodalTransformer`): blocks of causal self-attention on the text, each followed
//! by a block that looks at the picture.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor};

use crate::family::cost::Cost;
use crate::family::{Init, ParamInfo};
use crate::files::ModelError;
use crate::files::config::{ModelConfig, MultimodalConfig, check_extent, check_layers};
use crate::layers::attention::KeyValues;
use crate::layers::{
    Activation, LayerNorm, Recompute, ResidualBlock, TransformerConfig, parameter,
};
use crate::text::hf;

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
    /// The decoder of a configuration, where it has one.
    ///
    /// # Errors
    /// Towers that give it no tokens, and widths that do not fit together.
    pub fn new(config: &ModelConfig, device: &Device) -> Result<Option<Self>, ModelError> {
        let Some(decoder) = config.multimodal()? else {
            return Ok(None);
        };
        if let Some(name) = config.vision_cfg.timm_model_name() {
            return Err(ModelError::Family {
                field: "multimodal_cfg with vision_cfg.timm_model_name",
                value: name.to_string(),
            });
        }
        check(&decoder, config)?;
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
        Ok(Some(Self {
            text_projection: parameter([decoder.width, config.text_cfg.vocab_size], device),
            resblocks: stack(ResidualBlock::new),
            cross_attn: stack(ResidualBlock::cross),
            ln_final: LayerNorm::new(decoder.width, block.norm_eps, device),
            recompute: Recompute::default(),
            context_length: decoder.context_length,
        }))
    }

    /// How the parameter under a key, without `text_decoder.`, starts.
    ///
    /// Upstream never initialises its decoder: PyTorch's defaults stay, and the projection is memory as it was found. It starts here
    /// as the text tower's projection does.
    pub(crate) fn initial(&self, key: &str, shape: &[usize], config: &ModelConfig) -> Option<Init> {
        let decoder = config.multimodal().ok()??;
        let width = decoder.width as f64;
        let hidden = (width * MultimodalConfig::MLP_RATIO) as usize;
        Some(match key {
            "text_projection" => Init::Normal(width.powf(-0.5)),
            _ => Init::of_block(key, shape, [decoder.width, hidden], decoder.ls_init_value),
        })
    }

    /// Operations and kept values of the decoder of `config`, on the tokens of the text without the last, after which nothing is
    /// predicted, and on the picture's without the first. OpenCLIP's published table is older: there the last token was decoded as
    /// well. `params` are those under `text_decoder.`.
    pub(crate) fn cost(config: &ModelConfig, params: &[&ParamInfo]) -> Option<Cost> {
        let Some(decoder) = config.multimodal().ok()? else {
            return Some(Cost::default());
        };
        let vision = &config.vision_cfg;
        let picture = match vision.attention_pool().ok()? {
            Some(pool) => pool.queries as u64 - 1,
            None => {
                let (rows, columns) = vision.grid().ok()?;
                (rows * columns) as u64
            }
        };
        let tokens = config.text_cfg.context_length.saturating_sub(1) as u64;
        let (layers, width) = (decoder.layers as u64, decoder.width as u64);
        let matrices = Cost::of_matrices(params, "text_decoder.", |key| {
            let on_picture = key.starts_with("cross_attn.") && key.ends_with("in_proj_weight");
            Some(if on_picture { 0 } else { tokens })
        })?;
        let own = Cost::attention(layers, [tokens; 2], width);
        let cross = Cost::attention(layers, [tokens, picture], width);
        Some(matrices + Cost::packed(layers, [tokens, picture], width) + own + cross)
    }

    /// Number of token ids.
    pub fn vocabulary(&self) -> usize {
        self.text_projection.dims()[1]
    }

    /// Token width.
    pub fn width(&self) -> usize {
        self.text_projection.dims()[0]
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

/// Refuses a decoder that does not fit the towers of `config`.
fn check(decoder: &MultimodalConfig, config: &ModelConfig) -> Result<(), ModelError> {
    check_extent("multimodal_cfg.width", decoder.width)?;
    // A Hugging Face tower has a vocabulary of its own.
    check_extent("text_cfg.vocab_size", config.text_cfg.vocab_size)?;
    check_extent("multimodal_cfg.context_length", decoder.context_length)?;
    check_layers("multimodal_cfg.layers", decoder.layers)?;
    let refuse = |field, reason: String| Err(ModelError::invalid(field, reason));
    if decoder.heads == 0 || !decoder.width.is_multiple_of(decoder.heads) {
        let reason = format!(
            "{} does not divide the width {}",
            decoder.heads, decoder.width
        );
        return refuse("multimodal_cfg.heads", reason);
    }
    let text = match hf::arch(config)? {
        Some(arch) => arch.width,
        None => config.text_cfg.width,
    };
    if decoder.width != text {
        let reason = format!("{}, but the text tower's is {text}", decoder.width);
        return refuse("multimodal_cfg.width", reason);
    }
    let picture = match config.vision_cfg.attention_pool()? {
        Some(_) => config.embed_dim,
        None => config.vision_cfg.width,
    };
    if decoder.width != picture {
        let reason = format!(
            "{}, but the picture's tokens have {picture} features",
            decoder.width
        );
        return refuse("multimodal_cfg.width", reason);
    }
    if config.text_cfg.no_causal_mask {
        return refuse(
            "text_cfg.no_causal_mask",
            "a caption decoder needs a causal text tower".into(),
        );
    }
    if !config.text_is_custom() {
        return refuse(
            "custom_text",
            "false, but a model with `multimodal_cfg` has its text under `text.`".into(),
        );
    }
    Ok(())
}
