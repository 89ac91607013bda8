//! The contact sheet of `data inspect`: some pictures of a set with their captions.

use openclip_data::survey::inspect::{Inspection, Thumbnail};
use tiny_skia::Pixmap;

use super::figures::bytes;
use crate::sheet::frame::framed;
use crate::sheet::paint::{GREY, INK, ground};
use crate::sheet::text::{Fonts, Style};
use crate::sheet::{Sheet, sheet};

const PADDING: f32 = 14.0;
/// Width and height of the box that a picture fits into.
const PICTURE: f32 = 240.0;
/// Lines of a caption.
const LINES: usize = 4;
const LINE: f32 = 20.0;
const CARD: [f32; 2] = [
    PICTURE + 2.0 * PADDING,
    PICTURE + 2.0 * PADDING + 8.0 + LINE * (LINES + 2) as f32,
];

/// A card for each picture that was kept.
pub fn render(found: &Inspection) -> Sheet {
    let title = format!("{} of {} samples", found.pictures.len(), found.samples);
    let lines = [found.source.as_str(), ""];
    sheet(
        &title,
        lines,
        CARD,
        found.pictures.len(),
        |canvas, at, k, fonts| {
            card(canvas, at, &found.pictures[k], fonts);
        },
    )
}

fn card(sheet: &mut Pixmap, [x, y]: [f32; 2], shown: &Thumbnail, fonts: &Fonts) {
    ground(sheet, [x, y], CARD);
    let [left, top] = [x + PADDING, y + PADDING];
    framed(sheet, [left, top, PICTURE], Some(&shown.picture));

    let style = |size, bold, colour| Style { size, bold, colour };
    let mut baseline = top + PICTURE + 22.0;
    let (text, caption_style) = match &shown.caption {
        Some(text) => (text.as_str(), style(15.0, false, INK)),
        None => ("no caption", style(15.0, false, GREY)),
    };
    for line in fonts.wrapped(text, caption_style, PICTURE, LINES) {
        fonts.write(sheet, [left, baseline], &line, caption_style);
        baseline += LINE;
    }
    let small = style(12.5, false, GREY);
    let [width, height] = shown.size;
    let facts = format!(
        "{width} × {height}, {}, {}",
        shown.format,
        bytes(shown.bytes as f64)
    );
    let bottom = y + CARD[1] - PADDING;
    fonts.write(sheet, [left, bottom - 17.0], &facts, small);
    let place = fonts.shortened_before(&shown.place, small, PICTURE);
    fonts.write(sheet, [left, bottom], &place, small);
}
