//! Tensors by key.

use std::collections::BTreeMap;

use super::tensor::RawTensor;

/// Tensors by key, and what the file says about itself.
#[derive(Debug, Clone, Default)]
pub struct StateDict {
    /// The tensors, sorted by key.
    pub tensors: BTreeMap<String, RawTensor>,
    /// `__metadata__` of a `.safetensors` file; empty for other formats.
    pub metadata: BTreeMap<String, String>,
    pub(super) torchscript: bool,
}

impl StateDict {
    /// Whether the file is a TorchScript archive, as OpenAI published its models (trained with QuickGELU).
    pub fn is_torchscript(&self) -> bool {
        self.torchscript
    }
}
