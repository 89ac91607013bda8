//! How the tokens of timm's transformers become one vector.

use serde::{Deserialize, Serialize};

use crate::files::ModelError;
use crate::files::config::{TimmOptions, TimmProj};

/// How the tokens become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenPool {
    /// The class token.
    Token,
    /// Mean of the patch tokens.
    Avg,
    /// Attention pooling over the patch tokens.
    Map,
}

impl TokenPool {
    pub(crate) fn named(name: &str) -> Result<Self, ModelError> {
        match name {
            "token" => Ok(Self::Token),
            "avg" => Ok(Self::Avg),
            "map" => Ok(Self::Map),
            other => Err(ModelError::invalid(
                "vision_cfg.timm_pool",
                format!("`{other}`, expected `token`, `avg` or `map`"),
            )),
        }
    }
}

/// What a configuration makes of an architecture's pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pools {
    /// How the tokens become one vector.
    pub tokens: TokenPool,
    /// The last LayerNorm comes behind the pool.
    pub norm_last: bool,
}

impl Pools {
    /// The pool after OpenCLIP's adapter has had its say, of an architecture with the pool `own`.
    ///
    /// Without a map behind the trunk the trunk is made with the configuration's pool; with one, it is made with its own,
    /// whose place of the last norm (by default behind the mean alone) stays when the pool is exchanged.
    pub fn of(
        options: &TimmOptions,
        own: TokenPool,
        class_token: bool,
        norm_last: Option<bool>,
    ) -> Result<Self, ModelError> {
        let made = match options.projection()? {
            TimmProj::Linear | TimmProj::Mlp => own,
            TimmProj::Classifier | TimmProj::None => TokenPool::named(&options.pool)?,
        };
        let tokens = match options.pool.as_str() {
            "" => made,
            name => TokenPool::named(name)?,
        };
        if tokens == TokenPool::Map && made != TokenPool::Map
            || tokens == TokenPool::Token && !class_token
        {
            return Err(ModelError::invalid(
                "vision_cfg.timm_pool",
                format!(
                    "`{}`, which {} does not have",
                    options.pool, options.model_name
                ),
            ));
        }
        let norm_last = norm_last.unwrap_or(made == TokenPool::Avg);
        Ok(Self { tokens, norm_last })
    }
}
