//! Average pools.

use burn::tensor::ops::AvgPoolOptions;
use burn::tensor::{Tensor, module};

use super::Channels;
use super::flex::pool::{average_first, average_last};

/// Means of squares of `side` pixels; what does not fill one is left out.
pub fn average_pool(layout: Channels, x: Tensor<4>, side: usize) -> Tensor<4> {
    if side == 1 {
        return x;
    }
    if let Some(found) = match layout {
        Channels::First => average_first(&x, side),
        Channels::Last => average_last(&x, side),
    } {
        return found;
    }
    let pool = |x| module::avg_pool2d(x, AvgPoolOptions::new([side, side]));
    match layout {
        Channels::First => pool(x),
        Channels::Last => pool(x.permute([0, 3, 1, 2])).permute([0, 2, 3, 1]),
    }
}
