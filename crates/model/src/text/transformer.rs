//! OpenCLIP's native text transformer (`transformer.py::TextTransformer`).

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Int, Tensor};

use crate::config::{ModelConfig, NormOptions, TextPool};
use crate::error::ModelError;
use crate::layers::{Activation, LayerNorm, Linear, Transformer, TransformerConfig, parameter};

/// Table of token vectors.
#[derive(Module, Debug)]
pub struct Embedding {
    /// `[vocabulary, width]`.
    pub weight: Param<Tensor<2>>,
}

/// Map from the tower's width to the shared embedding.
#[derive(Module, Debug)]
pub enum TextProjection {
    /// A bare matrix `[width, embed_dim]`, not transposed.
    Matrix(Param<Tensor<2>>),
    /// With bias.
    Linear(Linear),
}

/// Text transformer with learned absolute positions.
#[derive(Module, Debug)]
pub struct TextTransformer {
    /// Token vectors.
    pub token_embedding: Embedding,
    /// `[context_length, width]`.
    pub positional_embedding: Param<Tensor<2>>,
    /// Residual blocks.
    pub transformer: Transformer,
    /// After the last block.
    pub ln_final: LayerNorm,
    /// To the shared embedding; absent where the configuration says `proj_type: none`.
    pub text_projection: Option<TextProjection>,
    #[module(skip)]
    causal: bool,
    #[module(skip)]
    pool: TextPool,
    #[module(skip)]
    eos_id: usize,
}

impl TextTransformer {
    /// Builds the tower of a native configuration.
    pub fn new(config: &ModelConfig, device: &Device) -> Result<Self, ModelError> {
        let text = &config.text_cfg;
        text.check_native()?;
        let width = text.width;
        let norm_eps = NormOptions::eps(text.norm_kwargs);
        if text.heads == 0 || width % text.heads != 0 {
            return Err(ModelError::invalid(
                "text_cfg.heads",
                format!("{} does not divide the width {width}", text.heads),
            ));
        }
        if text.pool_type == TextPool::None {
            return Err(ModelError::invalid(
                "text_cfg.pool_type",
                "`none` gives no vector to compare with a picture",
            ));
        }
        let text_projection = match text.proj_type.as_str() {
            "none" => None,
            "linear" if text.proj_bias => Some(TextProjection::Linear(Linear::new(
                width,
                config.embed_dim,
                true,
                device,
            ))),
            "linear" => Some(TextProjection::Matrix(parameter(
                [width, config.embed_dim],
                device,
            ))),
            other => {
                return Err(ModelError::invalid(
                    "text_cfg.proj_type",
                    format!("`{other}`, expected `linear` or `none`"),
                ));
            }
        };
        let transformer = TransformerConfig {
            width,
            layers: text.layers,
            heads: text.heads,
            mlp_ratio: text.mlp_ratio,
            activation: Activation::of(config.quick_gelu, text.act_kwargs),
            norm_eps,
            layer_scale: text.ls_init_value.is_some(),
        };
        Ok(Self {
            token_embedding: Embedding {
                weight: parameter([text.vocab_size, width], device),
            },
            positional_embedding: parameter([text.context_length, width], device),
            transformer: Transformer::new(&transformer, device),
            ln_final: LayerNorm::new(width, norm_eps, device),
            text_projection,
            causal: !text.no_causal_mask,
            pool: text.pool_type,
            eos_id: text.eos_id,
        })
    }

    /// Token ids `[batch, length]` with `length ≤ context_length` → features `[batch, embed_dim]`, computed in `dtype`.
    pub fn forward(&self, tokens: Tensor<2, Int>, dtype: DType) -> Tensor<2> {
        let [batch, length] = tokens.dims();
        let [_, width] = self.positional_embedding.dims();
        let rows = self
            .token_embedding
            .weight
            .val()
            .select(0, tokens.clone().reshape([batch * length]));
        let positions = self.positional_embedding.val().slice_dim(0, 0..length);
        let x = rows.reshape([batch, length, width]) + positions.unsqueeze();
        let x = self.transformer.forward(x.cast(dtype), self.causal);
        // LayerNorm treats each token alone, so norm and pick of one token commute.
        let pooled = x
            .reshape([batch * length, width])
            .select(0, self.pool_rows(tokens));
        let pooled = self.ln_final.forward(pooled);
        match &self.text_projection {
            None => pooled,
            Some(TextProjection::Linear(linear)) => linear.forward(pooled),
            Some(TextProjection::Matrix(matrix)) => pooled.matmul(matrix.val().cast(dtype)),
        }
    }

    /// For each caption the row of its pooled token among `[batch·length]` rows.
    fn pool_rows(&self, tokens: Tensor<2, Int>) -> Tensor<1, Int> {
        let [batch, length] = tokens.dims();
        let (device, dtype) = (tokens.device(), tokens.dtype());
        let count = |n: usize| Tensor::<1, Int>::arange(0..n as i64, &device).cast(dtype);
        let starts = count(batch).mul_scalar(length as i64);
        // The earliest of equal maxima: a later position lowers the key, less than any step between two ids.
        let first_max = |score: Tensor<2, Int>| {
            let key = score.mul_scalar(length as i64) - count(length).unsqueeze();
            key.argmax(1).reshape([batch]).cast(dtype)
        };
        match self.pool {
            TextPool::First | TextPool::None => starts,
            TextPool::Last => starts.add_scalar(length as i64 - 1),
            TextPool::Argmax => starts + first_max(tokens),
            TextPool::Eos => starts + first_max(tokens.equal_scalar(self.eos_id as i64).int().cast(dtype)),
        }
    }
}
