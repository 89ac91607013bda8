//! Table of vectors by id.

use burn::module::{Module, Param};
use burn::tensor::{Bool, Device, Int, Tensor};

use super::parameter;

/// Table of token vectors.
#[derive(Module, Debug)]
pub struct Embedding {
    /// `[vocabulary, width]`.
    pub weight: Param<Tensor<2>>,
}

impl Embedding {
    /// A table of `rows` vectors.
    pub fn new(rows: usize, width: usize, device: &Device) -> Self {
        Self {
            weight: parameter([rows, width], device),
        }
    }

    /// Ids `[batch, length]` → `[batch, length, width]` in the dtype of the table.
    pub fn forward(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let [batch, length] = ids.dims();
        let table = self.weight.val();
        let [_, width] = table.dims();
        table
            .select(0, ids.reshape([batch * length]))
            .reshape([batch, length, width])
    }

    /// Like [`Self::forward`]; the vectors at places where `padding` is true are constants, as `padding_idx` of PyTorch's
    /// `Embedding` makes them.
    pub fn forward_padded(&self, ids: Tensor<2, Int>, padding: Tensor<2, Bool>) -> Tensor<3> {
        let rows = self.forward(ids);
        if !rows.is_autodiff() {
            return rows;
        }
        let shape = rows.dims();
        let padding = padding.unsqueeze_dim::<3>(2).expand(shape);
        rows.clone().mask_where(padding, rows.detach())
    }
}
