//! The classifier as a parameter.

use std::sync::Arc;

use burn::module::{Module, Param, ParamId};
use burn::tensor::Tensor;
use openclip_eval::head::Head;
use openclip_eval::zero_shot::Prompts;

/// Identity of the weights, the same in every process, so that an optimizer's state finds them again.
const ID: u64 = 0x636c_6173_7369_6679;

/// A [`Head`] that is trained.
#[derive(Module, Debug)]
pub struct TrainedHead {
    /// `[embed_dim, classes]`.
    pub weight: Param<Tensor<2>>,
    #[module(skip)]
    prompts: Arc<Prompts>,
}

impl TrainedHead {
    /// Begins at the weights of `head`.
    pub fn new(head: Head) -> Self {
        let mut weight = Param::from_tensor(head.weight);
        weight.id = ParamId::from(ID);
        Self {
            weight,
            prompts: Arc::new(head.prompts),
        }
    }

    /// Features of unit length `[batch, embed_dim]` → logits `[batch, classes]`.
    pub fn logits(&self, features: Tensor<2>) -> Tensor<2> {
        features.matmul(self.weight.val())
    }

    /// The classifier as it stands, without graph.
    pub fn classifier(&self) -> Head {
        Head {
            weight: self.valid().weight.val(),
            prompts: Prompts::clone(&self.prompts),
        }
    }
}
