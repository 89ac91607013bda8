//! Outlines, fills and pictures on a canvas.

use tiny_skia::{
    FillRule, FilterQuality, Paint, Path, PathBuilder, Pixmap, PixmapPaint, PremultipliedColorU8,
    Rect, Transform,
};

/// The ground of a sheet.
pub const PAPER: [u8; 3] = [240, 242, 245];
/// The ground of a card.
pub const WHITE: [u8; 3] = [255, 255, 255];
/// Titles.
pub const INK: [u8; 3] = [28, 33, 40];
/// What stands beside.
pub const GREY: [u8; 3] = [101, 109, 120];
/// The part of a bar that is empty.
pub const TRACK: [u8; 3] = [230, 233, 238];

/// A transparent canvas of pixels.
#[expect(
    clippy::expect_used,
    reason = "only a size of zero or of gigabytes fails, and those of sheets are small"
)]
pub fn canvas(width: u32, height: u32) -> Pixmap {
    Pixmap::new(width, height).expect("a size that is not zero")
}

/// A white card with a soft shadow.
pub fn ground(sheet: &mut Pixmap, [x, y]: [f32; 2], size: [f32; 2]) {
    for (spread, alpha) in [(3.0, 6), (2.0, 8), (1.0, 10)] {
        let [width, height] = size.map(|side| side + 2.0 * spread);
        fill(
            sheet,
            rounded([x - spread, y - spread + 2.0, width, height], 14.0 + spread),
            [20, 30, 50],
            alpha,
        );
    }
    fill(sheet, rounded([x, y, size[0], size[1]], 14.0), WHITE, 255);
}

/// Draws RGB samples, `[height, width, 3]`, into a box whose corners are round.
pub fn picture(
    sheet: &mut Pixmap,
    [left, top, shown_width, shown_height]: [f32; 4],
    [width, height]: [u32; 2],
    samples: &[u8],
) {
    let mut pixmap = canvas(width, height);
    for (pixel, sample) in pixmap.pixels_mut().iter_mut().zip(samples.chunks_exact(3)) {
        if let Some(colour) = PremultipliedColorU8::from_rgba(sample[0], sample[1], sample[2], 255)
        {
            *pixel = colour;
        }
    }
    let (x, y) = (shown_width / width as f32, shown_height / height as f32);
    let transform = Transform::from_translate(left, top).pre_scale(x, y);
    let pattern = tiny_skia::Pattern::new(
        pixmap.as_ref(),
        tiny_skia::SpreadMode::Pad,
        FilterQuality::Bicubic,
        PixmapPaint::default().opacity,
        transform,
    );
    let paint = Paint {
        shader: pattern,
        anti_alias: true,
        ..Paint::default()
    };
    if let Some(path) = rounded([left, top, shown_width, shown_height], 8.0) {
        sheet.fill_path(
            &path,
            &paint,
            FillRule::Winding,
            Transform::identity(),
            None,
        );
    }
}

/// One colour.
pub fn paint([r, g, b]: [u8; 3], alpha: u8) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color_rgba8(r, g, b, alpha);
    paint
}

/// Fills an outline.
pub fn fill(sheet: &mut Pixmap, path: Option<Path>, colour: [u8; 3], alpha: u8) {
    if let Some(path) = path {
        sheet.fill_path(
            &path,
            &paint(colour, alpha),
            FillRule::Winding,
            Transform::identity(),
            None,
        );
    }
}

/// A rectangle with round corners.
pub fn rounded([left, top, width, height]: [f32; 4], radius: f32) -> Option<Path> {
    // A cubic curve with its handles this share along comes within 0.03 % of a quarter of a circle.
    const HANDLE: f32 = 0.552_284_8;
    let rect = Rect::from_xywh(left, top, width, height)?;
    let radius = radius.min(width / 2.0).min(height / 2.0);
    let near = radius * (1.0 - HANDLE);
    let (l, t, r, b) = (rect.left(), rect.top(), rect.right(), rect.bottom());
    let mut path = PathBuilder::new();
    path.move_to(l + radius, t);
    path.line_to(r - radius, t);
    path.cubic_to(r - near, t, r, t + near, r, t + radius);
    path.line_to(r, b - radius);
    path.cubic_to(r, b - near, r - near, b, r - radius, b);
    path.line_to(l + radius, b);
    path.cubic_to(l + near, b, l, b - near, l, b - radius);
    path.line_to(l, t + radius);
    path.cubic_to(l, t + near, l + near, t, l + radius, t);
    path.close();
    path.finish()
}
