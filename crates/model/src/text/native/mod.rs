//! OpenCLIP's native text transformer (`transformer.py::TextTransformer`).

use burn::module::{Module, Param};
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};

use crate::family::cost::{Cost, blocks, find};
use crate::family::depth::{self, Depth};
use crate::family::init::leaf;
use crate::family::keys::Marks;
use crate::family::{Init, ParamInfo, TextFamily};
use crate::files::ModelError;
use crate::files::config::{
    ModelConfig, NormOptions, TextConfig, TextPool, check_context, check_extent, check_extra,
    check_hidden, check_layers, plain_block,
};
use crate::files::weights::resize::{fitted, resize_text_pos_embed};
use crate::files::weights::{RawTensor, WeightsError};
use crate::layers::attention::KeyValues;
use crate::layers::{
    Activation, Bits, Embedding, LayerNorm, Linear, Recompute, ResidualBlock, Transformer,
    TransformerConfig, parameter,
};
use crate::text::cut::cut;

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
    /// Class token behind the caption, `[width]` (CoCa).
    pub cls_emb: Option<Param<Tensor<1>>>,
    /// `[context_length, width]`, with a class token one row more.
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
    #[module(skip)]
    pad_id: usize,
}

impl TextFamily for TextTransformer {
    fn configures(text: &TextConfig) -> bool {
        text.hf_model_name().is_none()
    }

    fn new(config: &ModelConfig, device: &Device) -> Result<Self, ModelError> {
        let text = &config.text_cfg;
        check(text)?;
        let width = text.width;
        let norm_eps = NormOptions::eps(text.norm_kwargs);
        if text.heads == 0 || !width.is_multiple_of(text.heads) {
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
        if text.embed_cls() && text.no_causal_mask {
            return Err(ModelError::invalid(
                "text_cfg.embed_cls",
                "a class token needs the causal mask",
            ));
        }
        let text_projection = match text.proj_type.as_str() {
            "none" if width == config.embed_dim => None,
            "none" => {
                return Err(ModelError::invalid(
                    "text_cfg.proj_type",
                    format!(
                        "`none`, but the width is {width} and embed_dim is {}",
                        config.embed_dim
                    ),
                ));
            }
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
            token_embedding: Embedding::new(text.vocab_size, width, device),
            cls_emb: text.embed_cls().then(|| parameter([width], device)),
            positional_embedding: parameter(
                [text.context_length + usize::from(text.embed_cls()), width],
                device,
            ),
            transformer: Transformer::new(&transformer, device),
            ln_final: LayerNorm::new(width, norm_eps, device),
            text_projection,
            causal: !text.no_causal_mask,
            pool: text.pool_type,
            eos_id: text.eos_id,
            pad_id: text.pad_id,
        })
    }

    fn marks() -> &'static [Marks] {
        &[("OpenCLIP's own", &["token_embedding."])]
    }

    /// `length ≤ context_length`.
    fn forward(&self, tokens: Tensor<2, Int>, dtype: DType, _: Option<u64>) -> Tensor<2> {
        if let Some(pooled) = self.pool_early(&tokens, dtype) {
            return pooled;
        }
        if self.cls_emb.is_some() {
            return self.encode(tokens, dtype).0;
        }
        let tokens = match self.causal {
            // Behind the token that stands for a caption is nothing that it sees.
            true => cut(tokens, |ids| self.place(ids) + 1),
            false => tokens,
        };
        let pick = self.pick(&tokens);
        let x = self.embed(tokens, 0).cast(dtype);
        let pooled = self.transformer.picked(x, self.causal, pick);
        self.project(pooled.squeeze_dim(1))
    }

    fn forward_with_tokens(
        &self,
        tokens: Tensor<2, Int>,
        dtype: DType,
        _: Option<u64>,
    ) -> (Tensor<2>, Tensor<3>) {
        let (pooled, tokens) = self.encode(tokens, dtype);
        (pooled, self.decoder_tokens(tokens))
    }

    fn decoder_input(&self, tokens: Tensor<2, Int>, dtype: DType) -> Tensor<3> {
        let x = self.embed(tokens, 0).cast(dtype);
        self.decoder_tokens(self.transformer.forward(x, true))
    }

    fn pad_id(&self) -> usize {
        self.pad_id
    }

    fn longest(&self) -> Option<usize> {
        Some(self.context_length())
    }

    /// OpenCLIP's `init_parameters`, and PyTorch's defaults for what it leaves alone.
    fn initial(&self, key: &str, shape: &[usize], config: &ModelConfig) -> Option<Init> {
        let text = &config.text_cfg;
        let width = text.width as f64;
        let std = width.powf(-0.5);
        Some(match (key, leaf(key)) {
            ("token_embedding.weight", _) => Init::Normal(0.02),
            ("positional_embedding" | "cls_emb", _) => Init::Normal(0.01),
            ("text_projection" | "text_projection.weight", _) => Init::Normal(std),
            ("text_projection.bias", _) => Init::Constant(0.0),
            (_, (_, "in_proj_weight")) => Init::Normal(std),
            (_, ("out_proj" | "c_proj", "weight")) => {
                Init::Normal(std * (2.0 * text.layers as f64).powf(-0.5))
            }
            (_, ("c_fc", "weight")) => Init::Normal((2.0 * width).powf(-0.5)),
            _ => {
                let hidden = (width * text.mlp_ratio) as usize;
                Init::of_block(key, shape, [text.width, hidden], text.ls_init_value)
            }
        })
    }

    /// Embeddings, each block with the last one's norm, projection.
    fn depth(&self, key: &str) -> Option<Depth> {
        const EMBEDDINGS: [&str; 3] = ["token_embedding", "positional_embedding", "cls_emb"];
        depth::native(key, &EMBEDDINGS, "ln_final", "text_projection")
    }

    fn cost(&self, config: &ModelConfig, params: &[&ParamInfo]) -> Option<Cost> {
        let text = &config.text_cfg;
        let tokens = (text.context_length + usize::from(text.embed_cls())) as u64;
        let matrices = Cost::of_matrices(params, "text.", |key| match key {
            "token_embedding.weight" | "positional_embedding" => Some(0),
            "text_projection" | "text_projection.weight" => Some(1),
            key => key.starts_with("transformer.resblocks.").then_some(tokens),
        })?;
        let prefix = match find(params, "token_embedding.weight") {
            Some(_) => "transformer.resblocks.",
            None => "text.transformer.resblocks.",
        };
        let layers = blocks(params, prefix);
        Some(matrices + Cost::attention(layers, [tokens; 2], text.width as u64))
    }

    fn resized(
        &self,
        key: &str,
        table: &RawTensor,
        shape: &[usize],
    ) -> Result<Option<RawTensor>, WeightsError> {
        if key != "positional_embedding" {
            return Ok(None);
        }
        fitted(table, shape, |values, old| {
            resize_text_pos_embed(values, old, shape[0])
        })
    }

    fn recompute_blocks(&mut self) -> Result<(), ModelError> {
        self.transformer.recompute = Recompute::of(&self.transformer.resblocks, 1)?;
        Ok(())
    }

    fn fold(&mut self, bits: Bits) -> bool {
        self.transformer.fold(bits)
    }

    fn resblocks(&mut self) -> &mut [ResidualBlock] {
        &mut self.transformer.resblocks
    }
}

impl TextTransformer {
    /// [`TextFamily::forward`] of each caption up to the token that stands for it, which sees nothing behind: where the tower is
    /// folded. The ids are in this process's memory there.
    fn pool_early(&self, tokens: &Tensor<2, Int>, dtype: DType) -> Option<Tensor<2>> {
        if !self.causal || self.cls_emb.is_some() || dtype != DType::F32 {
            return None;
        }
        let positions = self.positional_embedding.val();
        let folded = self.transformer.folded(&positions)?;
        let ids: Vec<i64> = tokens.clone().try_into_vec_as().ok()?;
        let [batch, length] = tokens.dims();
        let ends = ids.chunks_exact(length).map(|ids| self.place(ids));
        let ends: Vec<usize> = ends.collect();
        let lengths: Vec<usize> = ends.iter().map(|end| end + 1).collect();
        let rows: usize = lengths.iter().sum();
        let device = positions.device();
        let numbers = |numbers: Vec<i64>| {
            Tensor::<1, Int>::from_data(TensorData::new(numbers, [rows]), &device)
        };
        let places = lengths
            .iter()
            .flat_map(|length| 0..*length as i64)
            .collect();
        let seen = ids.chunks_exact(length).zip(&lengths);
        let seen = seen
            .flat_map(|(ids, length)| &ids[..*length])
            .copied()
            .collect();
        let x = self.token_embedding.weight.val().select(0, numbers(seen))
            + positions.select(0, numbers(places));
        let [_, width] = x.dims();
        let pooled = folded.pool(x, &lengths, &ends);
        Some(self.project(pooled.reshape([batch, width])))
    }

    /// Where in a caption's ids the token is that stands for it: the earliest of equal ones.
    fn place(&self, ids: &[i64]) -> usize {
        let eos = self.eos_id as i64;
        match self.pool {
            TextPool::First | TextPool::None => 0,
            TextPool::Last => ids.len() - 1,
            TextPool::Argmax => {
                let most = ids.iter().max();
                ids.iter().position(|id| Some(id) == most).unwrap_or(0)
            }
            TextPool::Eos => ids.iter().position(|id| *id == eos).unwrap_or(0),
        }
    }

    /// Ids `[batch, length]` → features `[batch, embed_dim]` and the last block's tokens `[batch, length, width]`, without the class
    /// token.
    fn encode(&self, tokens: Tensor<2, Int>, dtype: DType) -> (Tensor<2>, Tensor<3>) {
        if let Some(class) = &self.cls_emb {
            return self.forward_class(tokens, class.val(), dtype);
        }
        let x = self.embed(tokens.clone(), 0).cast(dtype);
        let x = self.transformer.forward(x, self.causal);
        let pooled = self.pick(&tokens)(x.clone()).squeeze_dim(1);
        // LayerNorm treats each token alone, so norm and pick of one token commute.
        (self.project(pooled), x)
    }

    /// Vectors of ids `[batch, length]` at the positions from `start`, `[batch, length, width]`.
    fn embed(&self, tokens: Tensor<2, Int>, start: usize) -> Tensor<3> {
        let [_, length] = tokens.dims();
        let positions = self
            .positional_embedding
            .val()
            .slice_dim(0, start..start + length);
        self.token_embedding.forward(tokens) + positions.unsqueeze()
    }

    fn project(&self, pooled: Tensor<2>) -> Tensor<2> {
        let dtype = pooled.dtype();
        let pooled = self.ln_final.forward(pooled);
        match &self.text_projection {
            None => pooled,
            Some(TextProjection::Linear(linear)) => linear.forward(pooled),
            Some(TextProjection::Matrix(matrix)) => pooled.matmul(matrix.val().cast(dtype)),
        }
    }

    /// With a class token that follows the caption and stands for it.
    ///
    /// The class token sees position `j` if the token at `j − 1` is no padding, and position 0 always: OpenCLIP's mask is one
    /// place off, and the published weights were trained with it.
    fn forward_class(
        &self,
        tokens: Tensor<2, Int>,
        class: Tensor<1>,
        dtype: DType,
    ) -> (Tensor<2>, Tensor<3>) {
        let [batch, length] = tokens.dims();
        let [_, width] = self.positional_embedding.dims();
        let position = self
            .positional_embedding
            .val()
            .slice_dim(0, length..length + 1);
        let class = (class.unsqueeze::<2>() + position)
            .unsqueeze::<3>()
            .expand([batch, 1, width]);
        let x = Tensor::cat(vec![self.embed(tokens.clone(), 0), class], 1).cast(dtype);
        let device = tokens.device();
        // `true` hides a key from a query.
        let causal = Tensor::<2, Bool>::tril_mask([length, length + 1], 0, &device);
        let causal = causal.unsqueeze::<3>().expand([batch, length, length + 1]);
        let first = tokens
            .clone()
            .slice_dim(1, 0..1)
            .not_equal(tokens.clone().slice_dim(1, 0..1));
        let shifted = Tensor::cat(vec![first, tokens.equal_scalar(self.pad_id as i64)], 1);
        let hidden = Tensor::cat(vec![causal, shifted.unsqueeze_dim::<3>(1)], 1);
        let x = self.transformer.forward_masked(x, hidden);
        let pooled = x
            .clone()
            .slice_dim(1, length..length + 1)
            .reshape([batch, width]);
        (self.project(pooled), x.slice_dim(1, 0..length))
    }

    /// Tokens for a caption decoder of the ids `[batch, n]` that follow those in `past`, one entry a block: any number of them at
    /// first, then one by one. `start` is the position of the first.
    pub fn step(
        &self,
        tokens: Tensor<2, Int>,
        start: usize,
        dtype: DType,
        past: &mut [KeyValues],
    ) -> Tensor<3> {
        let x = self.embed(tokens, start).cast(dtype);
        let blocks = self.transformer.resblocks.iter().zip(past);
        let x = blocks.fold(x, |x, (block, past)| block.step(x, past));
        self.decoder_tokens(x)
    }

    /// Most tokens of a caption, the class token not counted.
    pub fn context_length(&self) -> usize {
        self.positional_embedding.dims()[0] - usize::from(self.cls_emb.is_some())
    }

    /// What a decoder reads of the last block's tokens: normalised where no class token stands for the caption.
    fn decoder_tokens(&self, x: Tensor<3>) -> Tensor<3> {
        match self.cls_emb {
            Some(_) => x,
            None => self.ln_final.forward(x),
        }
    }

    /// Takes the token that stands for each of these captions, `[batch, length, width]` → `[batch, 1, width]`.
    fn pick(&self, tokens: &Tensor<2, Int>) -> impl Fn(Tensor<3>) -> Tensor<3> + Send + 'static {
        let [batch, length] = tokens.dims();
        let score = match self.pool {
            TextPool::First | TextPool::None | TextPool::Last => None,
            TextPool::Argmax => Some(tokens.clone()),
            TextPool::Eos => Some(tokens.clone().equal_scalar(self.eos_id as i64).int()),
        };
        let always = match self.pool {
            TextPool::Last => length - 1,
            _ => 0,
        };
        let place = score.map(|score| {
            let count = Tensor::<1, Int>::arange(0..length as i64, &tokens.device());
            // The device's own integers throughout: LibTorch makes no tensor of narrower ones.
            let dtype = count.dtype();
            // The earliest of equal maxima: a later position lowers the key, less than any step between two ids.
            let key = score.cast(dtype).mul_scalar(length as i64) - count.unsqueeze();
            key.argmax(1).cast(dtype).reshape([batch, 1, 1])
        });
        move |x| {
            let [batch, _, width] = x.dims();
            match &place {
                Some(place) => x.gather(1, place.clone().expand([batch, 1, width])),
                None => x.slice_dim(1, always..always + 1),
            }
        }
    }
}

/// Refuses other families by the key that names them, and sizes that no tower has.
fn check(text: &TextConfig) -> Result<(), ModelError> {
    check_extra(
        &text.extra,
        "text_cfg",
        &["hf_model_name", "text_arch", "variable_text"],
        |key, value| {
            plain_block(key, value)
                || key == "embed_cls"
                || key.starts_with("hf_")
                || key == "tokenizer_mode"
        },
    )?;
    check_context(text.context_length)?;
    check_extent("text_cfg.vocab_size", text.vocab_size)?;
    check_extent("text_cfg.width", text.width)?;
    check_hidden("text_cfg.mlp_ratio", text.width, text.mlp_ratio)?;
    check_layers("text_cfg.layers", text.layers)
}
