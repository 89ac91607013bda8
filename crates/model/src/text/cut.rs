//! Captions without the padding that all of a batch have.

use burn::tensor::{Int, Tensor};

use crate::layers::flex::is_here;

/// Ids `[batch, length]` without the columns behind the last that matters, where `matter` gives the number of ids of a caption that do. Only
/// where the ids are in this process's memory, and where another length costs no preparation.
pub(super) fn cut(tokens: Tensor<2, Int>, matter: impl Fn(&[i64]) -> usize) -> Tensor<2, Int> {
    let [_, length] = tokens.dims();
    if !is_here(&tokens.device()) || length == 0 {
        return tokens;
    }
    let Ok(ids) = tokens.clone().try_into_vec_as::<i64>() else {
        return tokens;
    };
    match ids.chunks_exact(length).map(matter).max() {
        Some(longest) => tokens.slice_dim(1, 0..longest),
        None => tokens,
    }
}
