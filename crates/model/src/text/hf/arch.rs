//! Sizes and switches of Hugging Face's encoders, by name and from their `config.json`.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::files::config::{HfPool, HfTextOptions, check_extent, check_hidden, check_layers};
use crate::files::{ModelError, config_file};
use crate::layers::Activation;

/// Which blocks an encoder is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HfFamily {
    /// RoBERTa and XLM-RoBERTa.
    Roberta,
    /// BERT: positions count padding too.
    Bert,
    /// The encoder of mT5.
    T5,
    /// The encoder of M2M100 and NLLB.
    M2m100,
}

/// An encoder, in one vocabulary for all families.
#[derive(Debug, Clone, PartialEq)]
pub struct HfArch {
    /// Kind of blocks.
    pub family: HfFamily,
    /// Number of token ids.
    pub vocab_size: usize,
    /// Token width.
    pub width: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of one head.
    pub head_width: usize,
    /// Hidden width of the MLP.
    pub hidden: usize,
    /// Rows of the table of positions; 0 where positions have no end.
    pub positions: usize,
    /// Rows of the table of token types.
    pub types: usize,
    /// Added to the variance in every norm.
    pub norm_eps: f64,
    /// Id of padding.
    pub pad_id: usize,
    /// Non-linearity of the MLP.
    pub activation: Activation,
    /// Dropout on embeddings and branches.
    pub dropout: f64,
    /// Dropout on attention weights.
    pub attention_dropout: f64,
    /// Dropout inside the MLP.
    pub activation_dropout: f64,
    /// Share of passes for which training leaves a block out.
    pub layer_drop: f64,
    /// Kinds of distance that attention tells apart (T5).
    pub buckets: usize,
    /// Distance from which on all are alike (T5).
    pub max_distance: usize,
    /// Factor on token vectors.
    pub embed_scale: f64,
    /// Standard deviation of initial weights, or T5's factor on those of its scheme.
    pub init_std: f64,
}

/// The `config.json` of models by the last part of their name, without what is the family's default.
fn known(name: &str) -> Option<Value> {
    let roberta = |vocab: usize, width: usize, layers: usize, kind: &str| {
        json!({
            "model_type": kind, "vocab_size": vocab, "hidden_size": width, "num_hidden_layers": layers,
            "num_attention_heads": width / 64, "intermediate_size": 4 * width,
            "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5,
        })
    };
    let mt5 = |width: usize, hidden: usize, layers: usize, heads: usize| {
        json!({
            "model_type": "mt5", "d_model": width, "d_ff": hidden, "num_layers": layers, "num_heads": heads,
        })
    };
    let nllb = |layers: usize, hidden: usize| {
        json!({
            "model_type": "m2m_100", "vocab_size": 256206, "encoder_layers": layers, "encoder_ffn_dim": hidden,
            "encoder_layerdrop": 0,
        })
    };
    Some(match name {
        "roberta-base" => roberta(50265, 768, 12, "roberta"),
        "roberta-large" => roberta(50265, 1024, 24, "roberta"),
        "xlm-roberta-base" => roberta(250002, 768, 12, "xlm-roberta"),
        "xlm-roberta-large" => roberta(250002, 1024, 24, "xlm-roberta"),
        "bert-base-uncased" => json!({ "model_type": "bert" }),
        "mt5-small" => mt5(512, 1024, 8, 6),
        "mt5-base" => mt5(768, 2048, 12, 12),
        "mt5-large" => mt5(1024, 2816, 24, 16),
        "mt5-xl" => mt5(2048, 5120, 24, 32),
        "nllb-200-distilled-600M" => nllb(12, 4096),
        "nllb-200-distilled-1.3B" => nllb(24, 8192),
        _ => return None,
    })
}

/// Where [`HfArch`]'s errors point to.
const FIELD: &str = "text_cfg.hf_model_name";

impl HfArch {
    /// The encoder that `options` name, with their changes.
    ///
    /// # Errors
    /// A name that is neither known nor a folder, and a `config.json` of another family or with sizes that no model has.
    pub fn of(options: &HfTextOptions) -> Result<Self, ModelError> {
        let mut fields = base(options)?;
        fields.extend(options.model_config.clone());
        let fields = Fields {
            fields,
            model: &options.model_name,
        };
        let arch = match fields.text("model_type", "")? {
            "roberta" | "xlm-roberta" => Self::bert_like(&fields, HfFamily::Roberta)?,
            "bert" => Self::bert_like(&fields, HfFamily::Bert)?,
            "mt5" => Self::t5(&fields)?,
            "m2m_100" => Self::m2m_100(&fields)?,
            other => {
                return Err(fields.error(
                    "model_type",
                    format!("`{other}`, expected roberta, xlm-roberta, bert, mt5 or m2m_100"),
                ));
            }
        };
        arch.check(&fields)?;
        Ok(arch)
    }

    /// How the family makes one vector of its tokens.
    pub fn pool(&self) -> HfPool {
        match self.family {
            HfFamily::Roberta | HfFamily::T5 => HfPool::Mean,
            HfFamily::Bert | HfFamily::M2m100 => HfPool::Cls,
        }
    }

    /// Most tokens of a caption, where there is a limit.
    pub fn longest(&self) -> Option<usize> {
        match self.family {
            HfFamily::Roberta => Some(self.positions.saturating_sub(self.pad_id + 1)),
            HfFamily::Bert => Some(self.positions),
            HfFamily::T5 | HfFamily::M2m100 => None,
        }
    }

    fn bert_like(fields: &Fields<'_>, family: HfFamily) -> Result<Self, ModelError> {
        let bert = family == HfFamily::Bert;
        let heads = fields.size("num_attention_heads", 12)?;
        let width = fields.size("hidden_size", 768)?;
        if let Some(kind) = fields.fields.get("position_embedding_type")
            && kind != "absolute"
        {
            let reason = format!("{kind}, expected `absolute`");
            return Err(fields.error("position_embedding_type", reason));
        }
        Ok(Self {
            family,
            vocab_size: fields.size("vocab_size", if bert { 30522 } else { 50265 })?,
            width,
            layers: fields.size("num_hidden_layers", 12)?,
            heads,
            head_width: width / heads.max(1),
            hidden: fields.size("intermediate_size", 3072)?,
            positions: fields.size("max_position_embeddings", 512)?,
            types: fields.size("type_vocab_size", 2)?,
            norm_eps: fields.number("layer_norm_eps", 1e-12)?,
            pad_id: fields.size("pad_token_id", usize::from(!bert))?,
            activation: fields.activation("hidden_act", "gelu")?,
            dropout: fields.share("hidden_dropout_prob", 0.1)?,
            attention_dropout: fields.share("attention_probs_dropout_prob", 0.1)?,
            activation_dropout: 0.0,
            layer_drop: 0.0,
            buckets: 0,
            max_distance: 0,
            embed_scale: 1.0,
            init_std: fields.number("initializer_range", 0.02)?,
        })
    }

    fn t5(fields: &Fields<'_>) -> Result<Self, ModelError> {
        let mlp = fields.text("feed_forward_proj", "gated-gelu")?;
        if mlp != "gated-gelu" {
            let reason = format!("`{mlp}`, expected `gated-gelu`");
            return Err(fields.error("feed_forward_proj", reason));
        }
        let dropout = fields.share("dropout_rate", 0.1)?;
        Ok(Self {
            family: HfFamily::T5,
            vocab_size: fields.size("vocab_size", 250112)?,
            width: fields.size("d_model", 512)?,
            layers: fields.size("num_layers", 8)?,
            heads: fields.size("num_heads", 6)?,
            head_width: fields.size("d_kv", 64)?,
            hidden: fields.size("d_ff", 1024)?,
            positions: 0,
            types: 0,
            norm_eps: fields.number("layer_norm_epsilon", 1e-6)?,
            pad_id: fields.size("pad_token_id", 0)?,
            activation: Activation::TanhGelu,
            dropout,
            attention_dropout: dropout,
            activation_dropout: dropout,
            layer_drop: 0.0,
            buckets: fields.size("relative_attention_num_buckets", 32)?,
            max_distance: fields.size("relative_attention_max_distance", 128)?,
            embed_scale: 1.0,
            init_std: fields.number("initializer_factor", 1.0)?,
        })
    }

    fn m2m_100(fields: &Fields<'_>) -> Result<Self, ModelError> {
        let heads = fields.size("encoder_attention_heads", 16)?;
        let width = fields.size("d_model", 1024)?;
        let scaled = fields.fields.get("scale_embedding") != Some(&Value::Bool(false));
        Ok(Self {
            family: HfFamily::M2m100,
            vocab_size: fields.size("vocab_size", 128112)?,
            width,
            layers: fields.size("encoder_layers", 12)?,
            heads,
            head_width: width / heads.max(1),
            hidden: fields.size("encoder_ffn_dim", 4096)?,
            positions: 0,
            types: 0,
            norm_eps: 1e-5,
            pad_id: fields.size("pad_token_id", 1)?,
            activation: fields.activation("activation_function", "relu")?,
            dropout: fields.share("dropout", 0.1)?,
            attention_dropout: fields.share("attention_dropout", 0.1)?,
            activation_dropout: fields.share("activation_dropout", 0.0)?,
            layer_drop: fields.share("encoder_layerdrop", 0.05)?,
            buckets: 0,
            max_distance: 0,
            embed_scale: if scaled { (width as f64).sqrt() } else { 1.0 },
            // `init_std`, which the file has, is read by nothing.
            init_std: fields.number("initializer_range", 0.02)?,
        })
    }

    fn check(&self, fields: &Fields<'_>) -> Result<(), ModelError> {
        let sizes = [self.vocab_size, self.width, self.hidden, self.head_width];
        for size in sizes {
            check_extent(FIELD, size)?;
        }
        check_extent(FIELD, self.heads.saturating_mul(self.head_width))?;
        check_hidden(FIELD, self.hidden, 1.0)?;
        check_layers(FIELD, self.layers)?;
        let bert_like = matches!(self.family, HfFamily::Roberta | HfFamily::Bert);
        if self.family != HfFamily::T5 && self.heads * self.head_width != self.width {
            let reason = format!("{} does not divide the width {}", self.heads, self.width);
            return Err(fields.error("number of heads", reason));
        }
        if bert_like {
            check_extent(FIELD, self.positions)?;
            check_extent(FIELD, self.types)?;
        }
        if self.pad_id >= self.vocab_size {
            let reason = format!(
                "{}, but there are {} token ids",
                self.pad_id, self.vocab_size
            );
            return Err(fields.error("pad_token_id", reason));
        }
        if self.family == HfFamily::T5
            && (self.buckets < 4 || self.max_distance <= self.buckets / 4)
        {
            let reason = format!(
                "{} with a largest distance of {}, expected at least 4 and a distance above a quarter of them",
                self.buckets, self.max_distance
            );
            return Err(fields.error("relative_attention_num_buckets", reason));
        }
        Ok(())
    }
}

/// The `config.json` before changes.
fn base(options: &HfTextOptions) -> Result<Map<String, Value>, ModelError> {
    let name = &options.model_name;
    let path = Path::new(name).join("config.json");
    if path.is_file() {
        return config_file::parse(&config_file::bytes(&path)?, &path.display().to_string());
    }
    match known(name.rsplit('/').next().unwrap_or_default()) {
        Some(Value::Object(fields)) => Ok(fields),
        _ if options.model_config.contains_key("model_type") => Ok(Map::new()),
        _ => Err(ModelError::Family {
            field: FIELD,
            value: format!(
                "{name}, which is neither known by name nor a folder with a config.json"
            ),
        }),
    }
}

/// Reads a `config.json`'s values, null as the default.
struct Fields<'a> {
    fields: Map<String, Value>,
    model: &'a str,
}

impl Fields<'_> {
    fn error(&self, key: &str, reason: String) -> ModelError {
        ModelError::invalid(FIELD, format!("{}: {key} = {reason}", self.model))
    }

    fn read<'a, T>(
        &'a self,
        key: &str,
        default: T,
        expected: &str,
        take: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<T, ModelError> {
        match self.fields.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => {
                take(value).ok_or_else(|| self.error(key, format!("{value}, expected {expected}")))
            }
        }
    }

    fn size(&self, key: &str, default: usize) -> Result<usize, ModelError> {
        self.read(key, default, "a whole number", |value| {
            usize::try_from(value.as_u64()?).ok()
        })
    }

    fn number(&self, key: &str, default: f64) -> Result<f64, ModelError> {
        self.read(key, default, "a positive number", |value| {
            value.as_f64().filter(|number| *number > 0.0)
        })
    }

    fn share(&self, key: &str, default: f64) -> Result<f64, ModelError> {
        self.read(key, default, "a share below 1", |value| {
            value.as_f64().filter(|share| (0.0..1.0).contains(share))
        })
    }

    fn text<'a>(&'a self, key: &str, default: &'static str) -> Result<&'a str, ModelError> {
        self.read(key, default, "a word", Value::as_str)
    }

    fn activation(&self, key: &str, default: &'static str) -> Result<Activation, ModelError> {
        match self.text(key, default)? {
            "gelu" => Ok(Activation::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::TanhGelu),
            "quick_gelu" => Ok(Activation::QuickGelu),
            "relu" => Ok(Activation::Relu),
            other => {
                let reason = format!("`{other}`, expected gelu, gelu_new, quick_gelu or relu");
                Err(self.error(key, reason))
            }
        }
    }
}
