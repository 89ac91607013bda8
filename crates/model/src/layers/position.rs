//! Positions: fixed ones, and learned ones on patches and class token.

use burn::module::Param;
use burn::tensor::Tensor;

/// Patches `[batch, n, width]` with their rows of a learned table `[1, n or more, width]`, behind the class token where there is one:
/// `[batch, tokens, width]`.
///
/// Rows beyond the patches' come first and are the class token's. `keep` leaves out patches that have their positions already.
pub(crate) fn with_positions(
    patches: Tensor<3>,
    table: &Param<Tensor<3>>,
    class: Option<&Param<Tensor<3>>>,
    keep: impl FnOnce(Tensor<3>) -> Tensor<3>,
) -> Tensor<3> {
    let [batch, n, width] = patches.dims();
    let positions = table.val().cast(patches.dtype());
    let [_, rows, _] = positions.dims();
    let prefix = rows.saturating_sub(n);
    let patches = keep(patches + positions.clone().slice_dim(1, prefix..rows));
    let Some(class) = class else {
        return patches;
    };
    let mut class = class.val().cast(patches.dtype());
    if prefix > 0 {
        class = class + positions.slice_dim(1, 0..prefix);
    }
    Tensor::cat(vec![class.expand([batch, 1, width]), patches], 1)
}

/// The two-dimensional sine–cosine table of MAE with a zero row for the class token: `[1 + side², width]`, row-major.
///
/// The first half of the features encodes the column, the second half the row; within a half, sines precede cosines.
/// `width` must be divisible by four.
pub fn sin_cos_2d(width: usize, side: usize) -> Vec<f32> {
    let quarter = width / 4;
    let axis = |position: usize, table: &mut Vec<f32>| {
        let angle = |i: usize| position as f64 / 10000f64.powf(i as f64 / quarter as f64);
        table.extend((0..quarter).map(|i| angle(i).sin() as f32));
        table.extend((0..quarter).map(|i| angle(i).cos() as f32));
    };
    let mut table = vec![0.0; width];
    for row in 0..side {
        for column in 0..side {
            axis(column, &mut table);
            axis(row, &mut table);
        }
    }
    table
}
