//! Attention scores that depend on where a key lies from its query, in windows of a feature map.

use burn::tensor::{Device, Int, Tensor, TensorData, module};

use super::Linear;
use super::attention::{join_heads, project_heads};

/// For each pair of places in a window of `rows·columns`, the query's first, which of the `(2·rows − 1)·(2·columns − 1)`
/// displacements (from query to key and mirrored, row by row) lies between them: `[(rows·columns)²]`.
pub fn displacements(rows: usize, columns: usize, device: &Device) -> Tensor<1, Int> {
    let places = || (0..rows).flat_map(move |y| (0..columns).map(move |x| (y, x)));
    let index: Vec<i64> = places()
        .flat_map(|(y, x)| {
            places().map(move |(to_y, to_x)| {
                let (down, right) = (y + rows - 1 - to_y, x + columns - 1 - to_x);
                (down * (2 * columns - 1) + right) as i64
            })
        })
        .collect();
    let count = index.len();
    Tensor::from_data(TensorData::new(index, [count]), device)
}

/// What [`displacements`] of a window of `area` places make of a table `[displacements, heads]`: `[1, heads, area, area]`.
pub fn scores(table: Tensor<2>, displacements: Tensor<1, Int>, area: usize) -> Tensor<4> {
    let [_, heads] = table.dims();
    table
        .select(0, displacements)
        .transpose()
        .reshape([1, heads, area, area])
}

/// Self-attention of every token on every other, with `bias` added to the scores.
///
/// `x` is `[sequences, tokens, width]`, `bias` `[groups, heads, tokens, tokens]`: the sequence `i` gets the bias of group
/// `i % groups`. `qkv` gives query, key and value side by side.
pub fn biased_attention(x: Tensor<3>, qkv: &Linear, proj: &Linear, bias: Tensor<4>) -> Tensor<3> {
    let [sequences, tokens, width] = x.dims();
    let [groups, heads, ..] = bias.dims();
    // Groups pass for heads, so that the bias is the same for the whole batch.
    let folded = [sequences / groups, groups * heads, tokens, width / heads];
    let unfolded = [sequences, heads, tokens, width / heads];
    let bias = bias
        .cast(x.dtype())
        .reshape([1, groups * heads, tokens, tokens]);
    let [q, k, v] =
        [0, 1, 2].map(|part| project_heads(x.clone(), qkv, part, 3, heads).reshape(folded));
    let mixed = module::attention(q, k, v, None, Some(bias), Default::default());
    proj.forward(join_heads(mixed.reshape(unfolded)))
}
