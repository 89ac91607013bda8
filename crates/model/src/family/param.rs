//! A parameter as a state dict describes it.

use burn::module::ParamId;

use crate::layers::batch_norm::is_running_statistic;

/// How a parameter's axes differ from PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// The same axes.
    Same,
    /// `[input, output]` here, `[output, input]` there.
    Transposed,
    /// `[1]` here, `[]` there.
    Scalar,
}

impl Layout {
    /// The shape PyTorch gives a parameter that has `shape` here.
    pub fn torch_shape(self, shape: &[usize]) -> Vec<usize> {
        match self {
            Self::Same => shape.to_vec(),
            Self::Transposed => shape.iter().rev().copied().collect(),
            Self::Scalar => Vec::new(),
        }
    }
}

/// A parameter as a state dict describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamInfo {
    /// Key in OpenCLIP's state dict.
    pub key: String,
    /// Shape in PyTorch's layout.
    pub shape: Vec<usize>,
    /// Identity inside a Burn module.
    pub id: ParamId,
}

impl ParamInfo {
    /// Number of values.
    pub fn numel(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether PyTorch calls it a parameter, rather than a buffer that is saved along.
    pub fn is_parameter(&self) -> bool {
        !is_running_statistic(&self.key)
    }
}
