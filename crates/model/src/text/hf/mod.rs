//! Hugging Face's encoders as text towers (`hf_model.py::HFTextEncoder`).
//!
//! * [`arch`](mod@arch) – sizes and switches, by name and from `config.json`
//! * [`roberta`] – RoBERTa, XLM-RoBERTa and BERT
//! * [`t5`] – mT5
//! * [`m2m100`] – M2M100 and NLLB
//! * [`pooler`] – tokens to one vector, and to the shared embedding

pub mod arch;
mod attention;
pub mod m2m100;
pub mod pooler;
pub mod roberta;
pub mod t5;

pub use arch::{HfArch, HfFamily};
pub use m2m100::M2m100Encoder;
pub use pooler::HfProjection;
pub use roberta::RobertaEncoder;
pub use t5::T5Encoder;

use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor};

use crate::family::depth::{Depth, number_under};
use crate::family::keys::Marks;
use crate::family::{Cost, Init, ParamInfo, TextFamily};
use crate::files::ModelError;
use crate::files::config::{HfPool, ModelConfig, TextConfig, check_context};
use crate::layers::{Noise, Recompute};
use crate::text::cut::cut;
use attention::Pass;

/// An encoder of any family.
#[allow(clippy::large_enum_variant)] // There is one encoder per model.
#[derive(Module, Debug)]
pub enum HfEncoder {
    /// RoBERTa, XLM-RoBERTa or BERT.
    Roberta(RobertaEncoder),
    /// mT5.
    T5(T5Encoder),
    /// M2M100 or NLLB.
    M2m100(M2m100Encoder),
}

/// An encoder, its pooling and the map to the shared embedding.
#[derive(Module, Debug)]
pub struct HfTextTower {
    /// The encoder.
    pub transformer: HfEncoder,
    /// To the shared embedding.
    pub proj: Option<HfProjection>,
    #[module(skip)]
    pool: HfPool,
    #[module(skip)]
    pad_id: usize,
    #[module(skip)]
    longest: usize,
}

impl TextFamily for HfTextTower {
    fn configures(text: &TextConfig) -> bool {
        text.hf_model_name().is_some()
    }

    fn marks() -> &'static [Marks] {
        &[
            ("a RoBERTa or BERT", &["encoder.layer."]),
            ("a T5 encoder", &[".SelfAttention."]),
            ("an M2M100 encoder (NLLB)", &[".self_attn_layer_norm."]),
        ]
    }

    fn new(config: &ModelConfig, device: &Device) -> Result<Self, ModelError> {
        let Some(options) = config.text_cfg.hf()? else {
            return Err(ModelError::invalid("text_cfg.hf_model_name", "absent"));
        };
        let arch = HfArch::of(&options)?;
        let length = config.text_cfg.context_length;
        check_context(length)?;
        if let Some(longest) = arch.longest()
            && length > longest
        {
            return Err(ModelError::invalid(
                "text_cfg.context_length",
                format!(
                    "{length}, but {} has {longest} positions",
                    options.model_name
                ),
            ));
        }
        // Only what the configuration asks for itself gives the encoder a layer for it.
        let pooler = options.pool == Some(HfPool::Cls);
        Ok(Self {
            transformer: match arch.family {
                HfFamily::Roberta | HfFamily::Bert => {
                    HfEncoder::Roberta(RobertaEncoder::new(&arch, pooler, device))
                }
                HfFamily::T5 => HfEncoder::T5(T5Encoder::new(&arch, device)),
                HfFamily::M2m100 => HfEncoder::M2m100(M2m100Encoder::new(&arch, device)),
            },
            proj: HfProjection::new(options.proj, &arch, config.embed_dim, device)?,
            pool: options.pool.unwrap_or_else(|| arch.pool()),
            pad_id: arch.pad_id,
            longest: arch.longest().unwrap_or(usize::MAX),
        })
    }

    fn pad_id(&self) -> usize {
        self.pad_id
    }

    fn longest(&self) -> Option<usize> {
        (self.longest < usize::MAX).then_some(self.longest)
    }

    fn forward(&self, tokens: Tensor<2, Int>, dtype: DType, training: Option<u64>) -> Tensor<2> {
        let padding = self.pad_id as i64;
        let tokens = match training {
            // Nothing sees padding, unless there is nothing else.
            None => cut(tokens, |ids| {
                let last = ids.iter().rposition(|id| *id != padding);
                last.map_or(ids.len(), |last| last + 1)
            }),
            // What is dropped is drawn for all places.
            Some(_) => tokens,
        };
        self.encode(tokens, dtype, training).0
    }

    /// The encoder's tokens, without the first where it alone stands for the caption.
    fn forward_with_tokens(
        &self,
        tokens: Tensor<2, Int>,
        dtype: DType,
        training: Option<u64>,
    ) -> (Tensor<2>, Tensor<3>) {
        let (pooled, tokens) = self.encode(tokens, dtype, training);
        let first = usize::from(self.pool == HfPool::Cls);
        let [_, length, _] = tokens.dims();
        (pooled, tokens.slice_dim(1, first..length))
    }

    /// transformers' rules, and PyTorch's defaults behind the encoder.
    fn initial(&self, key: &str, _: &[usize], config: &ModelConfig) -> Option<Init> {
        let arch = arch(config).ok()??;
        let name = key.strip_prefix("transformer.")?;
        Some(match arch.family {
            HfFamily::Roberta | HfFamily::Bert => roberta::initial(name, &arch),
            HfFamily::T5 => t5::initial(name, &arch),
            HfFamily::M2m100 => m2m100::initial(name, &arch),
        })
    }

    fn root(&self) -> &'static str {
        "transformer."
    }

    /// Embeddings, then each layer.
    fn depth(&self, key: &str) -> Option<Depth> {
        if key.starts_with("embeddings.") || key.starts_with("embed_tokens.") {
            return Some(vec![0]);
        }
        let layers = ["encoder.layer", "block", "layers"];
        let layer = layers.iter().find_map(|name| number_under(key, name))?;
        Some(vec![1, layer])
    }

    fn is_head(&self, key: &str) -> bool {
        key.starts_with("proj.") || key.starts_with("transformer.pooler.")
    }

    /// What is in no layer learns on unless all of them are frozen.
    fn freezes_rest(&self, unlocked: usize) -> bool {
        unlocked == 0
    }

    fn keeps_norms(&self) -> bool {
        true
    }

    fn cost(&self, config: &ModelConfig, params: &[&ParamInfo]) -> Option<Cost> {
        let arch = arch(config).ok()??;
        let tokens = config.text_cfg.context_length as u64;
        let matrices = Cost::of_matrices(params, "text.", |key| {
            let table = key.contains("embed") || key.contains("relative_attention_bias");
            Some(match (table, self.is_head(key)) {
                (true, _) => 0,
                (_, true) => 1,
                _ => tokens,
            })
        })?;
        let width = (arch.heads * arch.head_width) as u64;
        Some(matrices + Cost::attention(arch.layers as u64, [tokens; 2], width))
    }

    fn recompute_blocks(&mut self) -> Result<(), ModelError> {
        match &mut self.transformer {
            HfEncoder::Roberta(encoder) => {
                encoder.recompute = Recompute::of(&encoder.encoder.layer, 1)?;
            }
            // With the scores of distances beside the tokens.
            HfEncoder::T5(encoder) => encoder.recompute = Recompute::of(&encoder.block, 2)?,
            HfEncoder::M2m100(encoder) => encoder.recompute = Recompute::of(&encoder.layers, 1)?,
        }
        Ok(())
    }
}

impl HfTextTower {
    /// Ids `[batch, length]` → features `[batch, embed_dim]` and the encoder's tokens `[batch, length, width]`.
    fn encode(
        &self,
        tokens: Tensor<2, Int>,
        dtype: DType,
        training: Option<u64>,
    ) -> (Tensor<2>, Tensor<3>) {
        let padding = tokens.clone().equal_scalar(self.pad_id as i64);
        let mut pass = Pass {
            padding: padding.clone(),
            noise: Noise::new(training),
        };
        let x = match &self.transformer {
            HfEncoder::Roberta(encoder) => encoder.forward(tokens, dtype, &mut pass),
            HfEncoder::T5(encoder) => encoder.forward(tokens, dtype, &mut pass),
            HfEncoder::M2m100(encoder) => encoder.forward(tokens, dtype, &mut pass),
        };
        let pooled = pooler::pool(self.pool, x.clone(), padding);
        let pooled = match &self.transformer {
            HfEncoder::Roberta(encoder) if self.pool == HfPool::Cls => encoder.pool(pooled),
            _ => pooled,
        };
        let pooled = match &self.proj {
            Some(proj) => proj.forward(pooled),
            None => pooled,
        };
        (pooled, x)
    }
}

/// The encoder of a configuration that names one.
pub fn arch(config: &ModelConfig) -> Result<Option<HfArch>, ModelError> {
    let options = config.text_cfg.hf()?;
    options.as_ref().map(HfArch::of).transpose()
}
