//! Positions of patches.

use crate::files::weights::resize::resize_grid;
use crate::files::weights::{RawTensor, WeightsError};

/// `visual.trunk.pos_embed` fitted to a grid of patches, whose positions come last in a table of this shape; `None` for every other key.
pub(crate) fn fit_pos_embed(
    key: &str,
    table: &RawTensor,
    shape: &[usize],
    (rows, columns): (usize, usize),
) -> Result<Option<RawTensor>, WeightsError> {
    let (&[1, old, width], &[1, new, new_width]) = (table.shape.as_slice(), shape) else {
        return Ok(None);
    };
    if key != "visual.trunk.pos_embed" || width != new_width {
        return Ok(None);
    }
    let prefix = new.saturating_sub(rows * columns);
    let fitted = resize_grid(&table.to_f32()?, [old, width], prefix, (rows, columns))?;
    Ok(Some(RawTensor::from_f32(fitted, vec![1, new, width])))
}
