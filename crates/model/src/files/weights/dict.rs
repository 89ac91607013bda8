//! Tensors by key.

use std::collections::BTreeMap;

use super::tensor::RawTensor;
use crate::files::config::PreprocessConfig;

/// Tensors by key, and what the file says about itself.
#[derive(Debug, Clone, Default)]
pub struct StateDict {
    /// The tensors, sorted by key.
    pub tensors: BTreeMap<String, RawTensor>,
    /// `__metadata__` of a `.safetensors` file; empty for other formats.
    pub metadata: BTreeMap<String, String>,
    /// What pictures go through for weights that have such keys, where the keys alone tell.
    pub preprocess: Option<PreprocessConfig>,
    /// Names of the dicts with tensors that a training checkpoint has beside its `state_dict`, such as `state_dict_ema`.
    pub entries: Vec<String>,
    pub(super) openai: bool,
}

impl StateDict {
    /// Whether the file is one of the TorchScript archives in which OpenAI published its models (trained with QuickGELU).
    pub fn is_openai(&self) -> bool {
        self.openai
    }

    /// The tensors whose keys begin with `prefix`, without it.
    #[must_use]
    pub fn under(&self, prefix: &str) -> Self {
        let inner = |(key, tensor): (&String, &RawTensor)| {
            let key = key.strip_prefix(prefix)?;
            Some((key.to_string(), tensor.clone()))
        };
        Self {
            tensors: self.tensors.iter().filter_map(inner).collect(),
            metadata: self.metadata.clone(),
            preprocess: self.preprocess.clone(),
            entries: self.entries.clone(),
            openai: self.openai,
        }
    }
}
