//! Attention that hides padding and drops weights in training.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::module::Module;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, DType, Tensor, activation, module};

use crate::layers::attention::join_heads;
use crate::layers::{Noise, Recompute};

/// What all blocks share in one pass through an encoder.
#[derive(Debug, Clone)]
pub(super) struct Pass {
    /// True where a caption's token is padding, `[batch, length]`.
    pub(super) padding: Tensor<2, Bool>,
    /// Dropout of a training pass.
    pub(super) noise: Noise,
}

impl Pass {
    /// What `forward` makes of a block and its input, which may be computed again in the backward pass: with the same noise.
    pub(super) fn block<M: Module + Send + 'static, const K: usize>(
        &mut self,
        recompute: Recompute,
        block: &M,
        inputs: [Tensor<3>; K],
        forward: fn(&M, [Tensor<3>; K], &mut Pass) -> Tensor<3>,
    ) -> Tensor<3> {
        let start = self.clone();
        let end = Arc::new(AtomicUsize::new(0));
        let drawn = Arc::clone(&end);
        let x = recompute.block(block, inputs, move |block, inputs| {
            let mut pass = start.clone();
            let x = forward(block, inputs, &mut pass);
            drawn.store(pass.noise.drawn(), Ordering::Relaxed);
            x
        });
        self.noise.advance(end.load(Ordering::Relaxed));
        x
    }
}

/// Factor and addend of the scores, and dropout of the weights.
#[derive(Debug, Clone)]
pub(super) struct Scores {
    /// On the product of query and key.
    pub(super) scale: f64,
    /// Added to it, `[1, heads, length, length]`.
    pub(super) bias: Option<Tensor<4>>,
    /// Dropout of the weights.
    pub(super) dropout: f64,
}

/// Query, key and value `[batch, heads, length, head_width]` → `[batch, length, heads·head_width]`.
pub(super) fn attend(
    [query, key, value]: [Tensor<4>; 3],
    scores: Scores,
    pass: &mut Pass,
) -> Tensor<3> {
    let [batch, heads, length, _] = query.dims();
    let hidden = pass
        .padding
        .clone()
        .reshape([batch, 1, 1, length])
        .expand([batch, heads, length, length]);
    let bias = scores
        .bias
        .map(|bias| bias.expand([batch, heads, length, length]));
    if !pass.noise.drops(scores.dropout) {
        let options = AttentionModuleOptions {
            scale: Some(scores.scale),
            ..Default::default()
        };
        let bias = bias.map(|bias| bias.cast(query.dtype()));
        let mixed = module::attention(query, key, value, Some(hidden), bias, options);
        return join_heads(mixed);
    }
    let dtype = query.dtype();
    let product = query.matmul(key.swap_dims(2, 3)).cast(DType::F32) * scores.scale;
    let product = match bias {
        Some(bias) => product + bias.cast(DType::F32),
        None => product,
    };
    // Finite, so that a caption of nothing but padding gives no NaN.
    let weights = activation::softmax(product.mask_fill(hidden, -1e30), 3).cast(dtype);
    let weights = pass.noise.dropout(weights, scores.dropout);
    join_heads(weights.matmul(value))
}
