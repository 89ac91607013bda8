//! Sizes and switches of a native ViT.

use serde_json::Value;

use crate::files::ModelError;
use crate::files::config::{
    VisionConfig, check_extent, check_extra, check_hidden, check_layers, plain_block,
};

/// Attention pooling of a picture's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionPool {
    /// Learned queries.
    pub queries: usize,
    /// Attention heads.
    pub heads: usize,
}

impl VisionConfig {
    /// Number of blocks of a native ViT, whose other fields are checked as well.
    pub(crate) fn native_layers(&self) -> Result<usize, ModelError> {
        check_extra(
            &self.extra,
            "vision_cfg",
            &["timm_model_name"],
            |key, value| {
                plain_block(key, value)
                    || key == "attentional_pool"
                    || key.starts_with("attn_pooler_")
                    || key.starts_with("timm_")
            },
        )?;
        check_extent("vision_cfg.width", self.width)?;
        check_extent("vision_cfg.patch_size", self.patch()?)?;
        check_hidden("vision_cfg.mlp_ratio", self.width, self.mlp_ratio)?;
        if !(0.0..1.0).contains(&self.patch_dropout) {
            let reason = format!("{}, expected a share below 1", self.patch_dropout);
            return Err(ModelError::invalid("vision_cfg.patch_dropout", reason));
        }
        let layers = self.layers.as_u64().ok_or_else(|| ModelError::Family {
            field: "vision_cfg.layers",
            value: self.layers.to_string(),
        })?;
        let layers = usize::try_from(layers).unwrap_or(usize::MAX);
        check_layers("vision_cfg.layers", layers)?;
        Ok(layers)
    }

    /// Side of a patch in pixels.
    pub fn patch(&self) -> Result<usize, ModelError> {
        match self.patch_size {
            Some(patch) if patch > 0 => Ok(patch),
            _ => Err(ModelError::invalid(
                "vision_cfg.patch_size",
                "a native ViT needs one",
            )),
        }
    }

    /// Rows and columns of patches; pixels that do not fill a patch are left out.
    pub fn grid(&self) -> Result<(usize, usize), ModelError> {
        self.image_size.patches(self.patch()?)
    }

    /// Whether the positions are the fixed sine–cosine table rather than learned.
    pub fn fixed_positions(&self) -> Result<bool, ModelError> {
        match self.pos_embed_type.as_str() {
            "learnable" => Ok(false),
            "sin_cos_2d" => {
                let (rows, columns) = self.grid()?;
                if rows != columns {
                    return Err(ModelError::invalid(
                        "vision_cfg.pos_embed_type",
                        "`sin_cos_2d` needs a square picture",
                    ));
                }
                if !self.width.is_multiple_of(4) {
                    return Err(ModelError::invalid(
                        "vision_cfg.width",
                        format!(
                            "{} is not divisible by four, which `sin_cos_2d` needs",
                            self.width
                        ),
                    ));
                }
                Ok(true)
            }
            other => Err(ModelError::invalid(
                "vision_cfg.pos_embed_type",
                format!("`{other}`, expected `learnable` or `sin_cos_2d`"),
            )),
        }
    }

    /// The attention pool, where there is one. The variants `parallel` and `cascade`, which no configuration uses, are refused.
    pub fn attention_pool(&self) -> Result<Option<AttentionPool>, ModelError> {
        let number = |key: &'static str, default: u64| {
            let value = self.extra.get(key).map_or(Some(default), Value::as_u64);
            let value = value
                .and_then(|value| usize::try_from(value).ok())
                .unwrap_or(0);
            check_extent(key, value).map(|()| value)
        };
        match self.extra.get("attentional_pool") {
            None | Some(Value::Null | Value::Bool(false)) => Ok(None),
            Some(Value::Bool(true)) => Ok(Some(AttentionPool {
                queries: number("attn_pooler_queries", 256)?,
                heads: number("attn_pooler_heads", 8)?,
            })),
            Some(other) => Err(ModelError::Family {
                field: "attentional_pool",
                value: other.to_string(),
            }),
        }
    }
}
