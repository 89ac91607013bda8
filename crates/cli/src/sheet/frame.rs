//! A picture in a square.

use openclip_data::image::Picture;
use tiny_skia::Pixmap;

use super::paint::{TRACK, fill, picture, rounded};

/// Draws a picture of RGB samples as large as fits into a square, given by its left and upper edge and its side; `None` leaves the
/// square empty. Small pictures are enlarged, so that something is to be seen.
pub fn framed(sheet: &mut Pixmap, [left, top, side]: [f32; 3], shown: Option<&Picture>) {
    fill(sheet, rounded([left, top, side, side], 8.0), TRACK, 255);
    let Some(shown) = shown else { return };
    let sides = [shown.width(), shown.height()];
    let [width, height] = sides.map(|side| side as f32);
    let scale = side / width.max(height);
    let [width, height] = [width, height].map(|side| (side * scale).max(1.0));
    let place = [
        left + (side - width) / 2.0,
        top + (side - height) / 2.0,
        width,
        height,
    ];
    picture(sheet, place, sides.map(|side| side as u32), shown.samples());
}
