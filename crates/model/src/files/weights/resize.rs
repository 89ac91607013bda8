//! Positional embeddings for another picture size or context length, as OpenCLIP fits them.

use super::error::WeightsError;
use super::tensor::RawTensor;

/// Class tokens before the grid of a native ViT.
const PREFIX_TOKENS: usize = 1;

fn refuse<T>(old: [usize; 2], new: &[usize], reason: impl Into<String>) -> Result<T, WeightsError> {
    Err(WeightsError::Resize {
        old: old.to_vec(),
        new: new.to_vec(),
        reason: reason.into(),
    })
}

/// A table `[rows, width]` that `fit` makes one of `shape` of, if that has two axes and the same width; `fit` gets the values and
/// `[rows, width]`.
///
/// # Errors
/// Those of `fit`, or the table cannot be read.
pub(crate) fn fitted(
    table: &RawTensor,
    shape: &[usize],
    fit: impl FnOnce(&[f32], [usize; 2]) -> Result<Vec<f32>, WeightsError>,
) -> Result<Option<RawTensor>, WeightsError> {
    match (table.shape.as_slice(), shape) {
        (&[rows, width], &[_, new_width]) if width == new_width => {
            let values = fit(&table.to_f32()?, [rows, width])?;
            Ok(Some(RawTensor::from_f32(values, shape.to_vec())))
        }
        _ => Ok(None),
    }
}

/// Fits a ViT's positional embedding `[1 + n², width]` to a grid of `(height, width)` patches: `[1 + height·width, width]`.
///
/// The class token's row is kept, the grid goes through PyTorch's antialiased bicubic interpolation (a = −0.5,
/// `align_corners=False`). As in OpenCLIP, an embedding that already has as many rows comes back as it is.
///
/// # Errors
/// [`WeightsError::Resize`] when the old grid is not square or `values` are not `old`'s elements.
pub fn resize_image_pos_embed(
    values: &[f32],
    old: [usize; 2],
    grid: (usize, usize),
) -> Result<Vec<f32>, WeightsError> {
    resize_grid(values, old, PREFIX_TOKENS, grid)
}

/// Like [`resize_image_pos_embed`] for a table that begins with `prefix` rows that belong to no patch (timm's
/// `resample_abs_pos_embed`).
pub fn resize_grid(
    values: &[f32],
    old: [usize; 2],
    prefix: usize,
    grid: (usize, usize),
) -> Result<Vec<f32>, WeightsError> {
    let ([rows, width], (new_height, new_width)) = (old, grid);
    let target = [new_height, new_width];
    if rows.checked_mul(width) != Some(values.len()) {
        return refuse(
            old,
            &target,
            format!("{} values do not have this shape", values.len()),
        );
    }
    if rows == prefix + new_height * new_width {
        return Ok(values.to_vec());
    }
    let side = rows.saturating_sub(prefix).isqrt();
    if side == 0 || rows != prefix + side * side {
        return refuse(old, &target, "the old grid is not square");
    }
    if new_height == 0 || new_width == 0 {
        return refuse(old, &target, "the grid is empty");
    }
    let (class, patches) = values.split_at(prefix * width);
    let horizontal = bicubic_taps(side, new_width);
    let vertical = bicubic_taps(side, new_height);
    let mut wide = vec![0.0; side * new_width * width];
    for (y, row) in wide.chunks_exact_mut(new_width * width).enumerate() {
        let source = &patches[y * side * width..(y + 1) * side * width];
        blend(source, width, &horizontal, row);
    }
    let mut out = class.to_vec();
    out.resize((prefix + new_height * new_width) * width, 0.0);
    blend(
        &wide,
        new_width * width,
        &vertical,
        &mut out[prefix * width..],
    );
    Ok(out)
}

/// Fits a text tower's positional embedding `[old length, width]` to `length` positions: `[length, width]`.
///
/// Linear interpolation with `align_corners=False` and no antialiasing.
///
/// # Errors
/// [`WeightsError::Resize`] when `values` are not `old`'s elements or either length is zero.
pub fn resize_text_pos_embed(
    values: &[f32],
    old: [usize; 2],
    length: usize,
) -> Result<Vec<f32>, WeightsError> {
    let [positions, width] = old;
    if positions.checked_mul(width) != Some(values.len()) || positions == 0 || length == 0 {
        return refuse(
            old,
            &[length],
            format!("{} values do not have this shape", values.len()),
        );
    }
    if positions == length {
        return Ok(values.to_vec());
    }
    let scale = positions as f32 / length as f32;
    let taps: Vec<_> = (0..length)
        .map(|i| {
            let at = (scale * (i as f32 + 0.5) - 0.5).max(0.0);
            let first = (at as usize).min(positions - 1);
            let share = (at - first as f32).clamp(0.0, 1.0);
            match first + 1 < positions {
                true => Taps {
                    first,
                    weights: vec![1.0 - share, share],
                },
                false => Taps {
                    first,
                    weights: vec![1.0],
                },
            }
        })
        .collect();
    let mut out = vec![0.0; length * width];
    blend(values, width, &taps, &mut out);
    Ok(out)
}

/// Fits a table of scores by displacement, `[(2·side − 1)², heads]`, to windows of `rows·columns`:
/// `[(2·rows − 1)·(2·columns − 1), heads]` (timm's `resize_rel_pos_bias_table`).
///
/// Along each axis the old displacements are laid out with gaps that grow geometrically from the middle, so that near ones keep
/// their distance, and the scores between them are interpolated linearly.
///
/// # Errors
/// [`WeightsError::Resize`] when the old window is not square or `values` are not `old`'s elements.
pub fn resize_displacements(
    values: &[f32],
    old: [usize; 2],
    [rows, columns]: [usize; 2],
) -> Result<Vec<f32>, WeightsError> {
    let [count, heads] = old;
    let (high, wide) = (2 * rows - 1, 2 * columns - 1);
    if count.checked_mul(heads) != Some(values.len()) {
        let reason = format!("{} values do not have this shape", values.len());
        return refuse(old, &[high * wide, heads], reason);
    }
    let side = count.isqrt();
    if side == 0 || side * side != count {
        return refuse(old, &[high * wide, heads], "the old window is not square");
    }
    let (vertical, horizontal) = (spread_taps(side, high), spread_taps(side, wide));
    let mut between = vec![0.0; side * wide * heads];
    for (row, out) in between.chunks_exact_mut(wide * heads).enumerate() {
        let source = &values[row * side * heads..(row + 1) * side * heads];
        blend(source, heads, &horizontal, out);
    }
    let mut out = vec![0.0; high * wide * heads];
    blend(&between, wide * heads, &vertical, &mut out);
    Ok(out)
}

/// Weights for displacements `−to/2 … to/2` among `from` old ones that geometric gaps spread over the same range.
fn spread_taps(from: usize, to: usize) -> Vec<Taps> {
    let (half, reach) = ((from / 2) as i32, (to / 2) as f64);
    // The ratio of neighbouring gaps, to within a millionth.
    let (mut low, mut high, mut ratio) = (1.01_f64, 1.5_f64, 1.01_f64);
    while high - low > 1e-6 {
        ratio = (low + high) / 2.0;
        match (1.0 - ratio.powi(half)) / (1.0 - ratio) > reach {
            true => high = ratio,
            false => low = ratio,
        }
    }
    let gaps = (0..half).map(|i| ratio.powi(i));
    let outward: Vec<f32> = gaps
        .scan(0.0, |at, gap| {
            *at += gap;
            Some(*at as f32)
        })
        .collect();
    let mirrored = outward.iter().rev().map(|at| -at);
    let places: Vec<f32> = mirrored
        .chain([0.0])
        .chain(outward.iter().copied())
        .collect();
    let taps = |i: usize| {
        let at = i as f32 - reach as f32;
        let right = places.partition_point(|place| *place < at).min(from - 1);
        let first = right.saturating_sub(1);
        let before = (at - places[first]).max(0.0);
        let after = (places[right] - at).max(0.0);
        let weights = match right > first && before + after > 0.0 {
            true => vec![after / (before + after), before / (before + after)],
            false => vec![1.0],
        };
        Taps { first, weights }
    };
    (0..to).map(taps).collect()
}

/// The old positions that one output position is made of.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

/// Each output row of `width` values is the weighted sum of the rows its taps name.
fn blend(rows: &[f32], width: usize, taps: &[Taps], out: &mut [f32]) {
    for (taps, out) in taps.iter().zip(out.chunks_exact_mut(width)) {
        for (i, weight) in taps.weights.iter().enumerate() {
            let row = &rows[(taps.first + i) * width..(taps.first + i + 1) * width];
            for (out, value) in out.iter_mut().zip(row) {
                *out += weight * value;
            }
        }
    }
}

/// Weights of PyTorch's antialiased bicubic interpolation (`aten/src/ATen/native/cpu/UpSampleKernel.cpp`): the kernel is
/// widened by the scale when shrinking, cut at the border, and its weights sum to one.
fn bicubic_taps(from: usize, to: usize) -> Vec<Taps> {
    let scale = from as f32 / to as f32;
    let stretch = scale.max(1.0);
    let support = 2.0 * stretch;
    (0..to)
        .map(|i| {
            let center = scale * (i as f32 + 0.5);
            let first = (center - support + 0.5).max(0.0) as usize;
            let last = ((center + support + 0.5) as usize).min(from);
            let weight = |j: usize| bicubic((j as f32 - center + 0.5) / stretch);
            let weights: Vec<f32> = (first..last).map(weight).collect();
            let total: f32 = weights.iter().sum();
            Taps {
                first,
                weights: weights.iter().map(|weight| weight / total).collect(),
            }
        })
        .collect()
}

/// Keys' cubic convolution kernel with a = −0.5.
fn bicubic(x: f32) -> f32 {
    const A: f32 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}
