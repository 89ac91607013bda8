//! The first frame of a GIF on its canvas.

use gif::{ColorOutput, DecodeOptions, MemoryLimit};

use super::limits::{Failure, Limits};
use crate::image::picture::{Mode, Picture};

pub(super) fn decode(bytes: &[u8], limits: Limits) -> Result<Picture, Failure> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.set_memory_limit(match std::num::NonZeroU64::new(limits.memory() as u64) {
        Some(memory) => MemoryLimit::Bytes(memory),
        None => MemoryLimit::Unlimited,
    });
    let mut decoder = options.read_info(bytes)?;
    let (mut width, mut height) = (usize::from(decoder.width()), usize::from(decoder.height()));
    limits.check(width, height)?;
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    let Some(frame) = decoder.read_next_frame()? else {
        return Err(Failure::Damaged("no frame".to_owned()));
    };
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let (frame_width, frame_height) = (usize::from(frame.width), usize::from(frame.height));
    // Pillow widens the canvas for a frame that reaches beyond it.
    width = width.max(left + frame_width);
    height = height.max(top + frame_height);
    limits.check(width, height)?;
    let mut samples = vec![frame.transparent.unwrap_or(0); width * height];
    for (y, row) in frame.buffer.chunks_exact(frame_width.max(1)).enumerate() {
        samples[(top + y) * width + left..][..frame_width].copy_from_slice(row);
    }
    let colors = frame
        .palette
        .as_ref()
        .or(global.as_ref())
        .map(Vec::as_slice)
        .unwrap_or_default();
    let is_ramp = colors
        .chunks_exact(3)
        .enumerate()
        .all(|(i, color)| color.iter().all(|&c| usize::from(c) == i));
    if is_ramp {
        return Ok(Picture::new(width, height, Mode::L, samples));
    }
    Ok(Picture::indexed(width, height, samples, colors))
}
