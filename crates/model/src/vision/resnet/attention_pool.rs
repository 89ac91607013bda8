//! Attention pooling of a feature map, as CLIP's ResNets have it.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use crate::layers::attention::attend_once;
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
    /// Upstream attends from every place and keeps the first; only that one is computed here.
    pub fn forward(&self, layout: Channels, x: Tensor<4>) -> Tensor<2> {
        let x: Tensor<3> = match layout {
            Channels::First => x.flatten(2, 3).swap_dims(1, 2),
            Channels::Last => x.flatten(1, 2),
        };
        let [batch, _, channels] = x.dims();
        let tokens = Tensor::cat(vec![x.clone().mean_dim(1), x], 1);
        let positions = self.positional_embedding.val().cast(tokens.dtype());
        let tokens = tokens + positions.unsqueeze();
        let query = tokens.clone().slice_dim(1, 0..1).reshape([batch, channels]);
        let query = self.q_proj.forward(query);
        let seen = [&self.k_proj, &self.v_proj].map(|layer| {
            let bias = layer.bias.as_ref().map(Param::val);
            (layer.weight.val(), bias)
        });
        let mixed = attend_once(query, tokens, seen, self.heads);
        self.c_proj.forward(mixed)
    }
}
