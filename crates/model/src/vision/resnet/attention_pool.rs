//! Attention pooling of a feature map, as CLIP's ResNets have it.

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Tensor, activation};

use crate::layers::{Channels, Linear, parameter};

/// The mean of a feature map attends to itself and to every place of the map (`modified_resnet.py::AttentionPool2d`).
#[derive(Module, Debug)]
pub struct AttentionPool2d {
    /// `[1 + rows·columns, channels]`, the mean's position first.
    pub positional_embedding: Param<Tensor<2>>,
    /// `channels → channels`.
    pub k_proj: Linear,
    /// `channels → channels`.
    pub q_proj: Linear,
    /// `channels → channels`.
    pub v_proj: Linear,
    /// `channels → output`.
    pub c_proj: Linear,
    #[module(skip)]
    heads: usize,
}

impl AttentionPool2d {
    /// Pools a square map of `side × side` places with `channels` features in `heads` heads, which must divide them.
    pub fn new(side: usize, channels: usize, heads: usize, output: usize, device: &Device) -> Self {
        let square = || Linear::new(channels, channels, true, device);
        Self {
            positional_embedding: parameter([1 + side * side, channels], device),
            k_proj: square(),
            q_proj: square(),
            v_proj: square(),
            c_proj: Linear::new(channels, output, true, device),
            heads,
        }
    }

    /// `[batch, channels, side, side]`, or channels last, → `[batch, output]`.
    ///
    /// Upstream attends from every place and keeps the first; only that one is computed here. One query needs no keys and no values
    /// either: it meets the places by way of the keys' weights, and the values' weights see what it makes of the places.
    pub fn forward(&self, layout: Channels, x: Tensor<4>) -> Tensor<2> {
        let x: Tensor<3> = match layout {
            Channels::First => x.flatten(2, 3).swap_dims(1, 2),
            Channels::Last => x.flatten(1, 2),
        };
        let [batch, _, channels] = x.dims();
        let tokens = Tensor::cat(vec![x.clone().mean_dim(1), x], 1);
        let positions = self.positional_embedding.val().cast(tokens.dtype());
        let tokens = tokens + positions.unsqueeze();
        let dtype = tokens.dtype();
        let (heads, width) = (self.heads, channels / self.heads);
        // `[channels, channels]` → `[heads, channels, width]`.
        let by_head = |layer: &Linear| {
            let weight = layer.weight.val().cast(dtype);
            weight.reshape([channels, heads, width]).swap_dims(0, 1)
        };
        let bias = |layer: &Linear| {
            let bias = layer.bias.as_ref().map(|bias| bias.val().cast(dtype));
            bias.map(|bias| bias.reshape([heads, 1, width]))
        };
        let query = tokens.clone().slice_dim(1, 0..1).reshape([batch, channels]);
        let query = self.q_proj.forward(query).reshape([batch, heads, width]);
        let query = query.swap_dims(0, 1) / (width as f64).sqrt();
        // `[heads, batch, channels]`, and back at the end.
        let asks = query.clone().matmul(by_head(&self.k_proj).swap_dims(1, 2));
        let scores = asks.swap_dims(0, 1).matmul(tokens.clone().swap_dims(1, 2));
        let scores = match bias(&self.k_proj) {
            Some(bias) => scores + (query * bias).sum_dim(2).swap_dims(0, 1),
            None => scores,
        };
        let shares = activation::softmax(scores.cast(DType::F32), 2).cast(dtype);
        let mixed = shares.matmul(tokens).swap_dims(0, 1);
        let mixed = mixed.matmul(by_head(&self.v_proj));
        let mixed = match bias(&self.v_proj) {
            Some(bias) => mixed + bias,
            None => mixed,
        };
        let mixed = mixed.swap_dims(0, 1).reshape([batch, channels]);
        self.c_proj.forward(mixed)
    }
}
