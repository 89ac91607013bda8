//! The contact sheet: pictures with the captions that the model finds likeliest.

use tiny_skia::{
    Color, FillRule, FilterQuality, LineCap, Paint, Path, PathBuilder, Pixmap, PixmapPaint,
    PremultipliedColorU8, Rect, Stroke, Transform,
};

use super::draw::{SIDE, canvas};
use super::text::{Fonts, Style};

/// A picture and how the model reads it.
pub(super) struct Card {
    /// Samples, `[SIDE, SIDE, 3]`.
    pub(super) samples: Vec<u8>,
    /// Captions and probabilities, likeliest first.
    pub(super) guesses: Vec<Guess>,
}

/// A caption and its probability.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Guess {
    pub(super) caption: String,
    /// Between 0 and 1.
    pub(super) probability: f32,
    /// Whether the picture shows what the caption says.
    pub(super) is_true: bool,
}

const COLUMNS: usize = 4;
const MARGIN: f32 = 48.0;
const GAP: f32 = 24.0;
const HEADER: f32 = 128.0;
const PADDING: f32 = 14.0;
const PICTURE: f32 = 240.0;
const ROW: f32 = 38.0;
const ROWS: usize = 3;
const CARD: [f32; 2] = [
    PICTURE + 2.0 * PADDING,
    PICTURE + 2.0 * PADDING + 8.0 + ROW * ROWS as f32,
];

const PAPER: [u8; 3] = [240, 242, 245];
const WHITE: [u8; 3] = [255, 255, 255];
const INK: [u8; 3] = [28, 33, 40];
const GREY: [u8; 3] = [101, 109, 120];
const TRACK: [u8; 3] = [230, 233, 238];
const BAR: [u8; 3] = [168, 178, 192];
const RIGHT: [u8; 3] = [24, 128, 72];
const WRONG: [u8; 3] = [200, 44, 52];

/// RGB samples of a sheet, with its width and height in pixels.
pub(super) fn render(title: &str, lines: [&str; 2], cards: &[Card]) -> (u32, u32, Vec<u8>) {
    let columns = COLUMNS as f32;
    let rows = cards.len().div_ceil(COLUMNS) as f32;
    let width = 2.0 * MARGIN + columns * CARD[0] + (columns - 1.0) * GAP;
    let height = HEADER + rows * (CARD[1] + GAP) - GAP + MARGIN;
    let mut sheet = canvas(width.ceil() as u32, height.max(HEADER).ceil() as u32);
    let [r, g, b] = PAPER;
    sheet.fill(Color::from_rgba8(r, g, b, 255));

    let fonts = Fonts::new();
    fonts.write(
        &mut sheet,
        [MARGIN, 58.0],
        title,
        Style {
            size: 34.0,
            bold: true,
            colour: INK,
        },
    );
    for (line, baseline) in lines.into_iter().zip([88.0, 111.0]) {
        fonts.write(
            &mut sheet,
            [MARGIN, baseline],
            line,
            Style {
                size: 18.0,
                bold: false,
                colour: GREY,
            },
        );
    }
    for (k, card) in cards.iter().enumerate() {
        let x = MARGIN + (k % COLUMNS) as f32 * (CARD[0] + GAP);
        let y = HEADER + (k / COLUMNS) as f32 * (CARD[1] + GAP);
        draw_card(&mut sheet, [x, y], card, &fonts);
    }
    let samples = sheet
        .pixels()
        .iter()
        .flat_map(|p| [p.red(), p.green(), p.blue()])
        .collect();
    (sheet.width(), sheet.height(), samples)
}

fn draw_card(sheet: &mut Pixmap, [x, y]: [f32; 2], card: &Card, fonts: &Fonts) {
    for (spread, alpha) in [(3.0, 6), (2.0, 8), (1.0, 10)] {
        let [width, height] = CARD.map(|side| side + 2.0 * spread);
        fill(
            sheet,
            rounded([x - spread, y - spread + 2.0, width, height], 14.0 + spread),
            [20, 30, 50],
            alpha,
        );
    }
    fill(sheet, rounded([x, y, CARD[0], CARD[1]], 14.0), WHITE, 255);
    let [left, top] = [x + PADDING, y + PADDING];
    picture(sheet, [left, top], &card.samples);
    let is_right = card.guesses.first().is_some_and(|guess| guess.is_true);
    badge(sheet, [left + PICTURE - 3.0, top + 3.0], is_right);
    for (k, guess) in shown(&card.guesses).into_iter().enumerate() {
        let top = top + PICTURE + 10.0 + k as f32 * ROW;
        row(sheet, [left, top], guess, k == 0, fonts);
    }
}

/// The first guesses; the last of them makes room for the true one if that ranks lower.
fn shown(guesses: &[Guess]) -> Vec<&Guess> {
    let mut shown: Vec<&Guess> = guesses.iter().take(ROWS).collect();
    if !shown.iter().any(|guess| guess.is_true)
        && let Some(last) = shown.last_mut()
        && let Some(guess) = guesses.iter().find(|guess| guess.is_true)
    {
        *last = guess;
    }
    shown
}

fn row(sheet: &mut Pixmap, [left, top]: [f32; 2], guess: &Guess, is_first: bool, fonts: &Fonts) {
    let (text, bar) = match (guess.is_true, is_first) {
        (true, _) => (RIGHT, RIGHT),
        (false, true) => (WRONG, WRONG),
        (false, false) => (GREY, BAR),
    };
    let style = Style {
        size: 17.0,
        bold: guess.is_true || is_first,
        colour: text,
    };
    let right = left + PICTURE;
    fonts.write(sheet, [left, top + 17.0], &guess.caption, style);
    fonts.write_before(
        sheet,
        [right, top + 17.0],
        &percent(guess.probability),
        style,
    );
    let [y, height] = [top + 24.0, 5.0];
    fill(
        sheet,
        rounded([left, y, PICTURE, height], height / 2.0),
        TRACK,
        255,
    );
    let length = PICTURE * guess.probability.clamp(0.0, 1.0);
    if length >= 1.0 {
        fill(
            sheet,
            rounded([left, y, length.max(height), height], height / 2.0),
            bar,
            255,
        );
    }
}

/// Whole percents, except where that would hide that something is possible, or not certain.
fn percent(share: f32) -> String {
    match 100.0 * share {
        p if p < 0.1 => "<0.1 %".to_owned(),
        p if p < 9.95 => format!("{p:.1} %"),
        p if p < 99.5 => format!("{p:.0} %"),
        p if p < 99.95 => format!("{p:.1} %"),
        _ => ">99.9 %".to_owned(),
    }
}

fn picture(sheet: &mut Pixmap, [left, top]: [f32; 2], samples: &[u8]) {
    let mut pixmap = canvas(SIDE, SIDE);
    for (pixel, sample) in pixmap.pixels_mut().iter_mut().zip(samples.chunks_exact(3)) {
        if let Some(colour) = PremultipliedColorU8::from_rgba(sample[0], sample[1], sample[2], 255)
        {
            *pixel = colour;
        }
    }
    let scale = PICTURE / SIDE as f32;
    let transform = Transform::from_translate(left, top).pre_scale(scale, scale);
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
    if let Some(path) = rounded([left, top, PICTURE, PICTURE], 8.0) {
        sheet.fill_path(
            &path,
            &paint,
            FillRule::Winding,
            Transform::identity(),
            None,
        );
    }
}

/// A tick or a cross on a disc.
fn badge(sheet: &mut Pixmap, [x, y]: [f32; 2], is_right: bool) {
    fill(sheet, PathBuilder::from_circle(x, y, 14.5), WHITE, 255);
    fill(
        sheet,
        PathBuilder::from_circle(x, y, 12.5),
        if is_right { RIGHT } else { WRONG },
        255,
    );
    let mut path = PathBuilder::new();
    if is_right {
        path.move_to(x - 5.5, y + 0.5);
        path.line_to(x - 1.5, y + 4.5);
        path.line_to(x + 5.5, y - 4.0);
    } else {
        path.move_to(x - 4.5, y - 4.5);
        path.line_to(x + 4.5, y + 4.5);
        path.move_to(x + 4.5, y - 4.5);
        path.line_to(x - 4.5, y + 4.5);
    }
    let stroke = Stroke {
        width: 2.8,
        line_cap: LineCap::Round,
        ..Stroke::default()
    };
    if let Some(path) = path.finish() {
        sheet.stroke_path(
            &path,
            &paint(WHITE, 255),
            &stroke,
            Transform::identity(),
            None,
        );
    }
}

fn paint([r, g, b]: [u8; 3], alpha: u8) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color_rgba8(r, g, b, alpha);
    paint
}

fn fill(sheet: &mut Pixmap, path: Option<Path>, colour: [u8; 3], alpha: u8) {
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
fn rounded([left, top, width, height]: [f32; 4], radius: f32) -> Option<Path> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(caption: &str, probability: f32, is_true: bool) -> Guess {
        Guess {
            caption: caption.to_owned(),
            probability,
            is_true,
        }
    }

    #[test]
    fn the_true_caption_is_always_shown() {
        let guesses = [("a", false), ("b", false), ("c", false), ("d", true)];
        let guesses = guesses.map(|(caption, is_true)| guess(caption, 0.25, is_true));
        let captions: Vec<&str> = shown(&guesses)
            .iter()
            .map(|guess| guess.caption.as_str())
            .collect();
        assert_eq!(captions, ["a", "b", "d"]);
        assert!(shown(&[]).is_empty());
    }

    #[test]
    fn percents_are_never_0_or_100() {
        let shares = [0.0, 0.004, 0.0994, 0.5, 0.9949, 0.997, 1.0];
        assert_eq!(
            shares.map(percent),
            [
                "<0.1 %", "0.4 %", "9.9 %", "50 %", "99 %", "99.7 %", ">99.9 %"
            ]
        );
    }

    #[test]
    fn a_sheet_has_its_size_and_marks() {
        let card = |first| Card {
            samples: vec![40; 3 * (SIDE * SIDE) as usize],
            guesses: vec![
                guess("a red circle", 0.9, first),
                guess("a blue moon", 0.1, !first),
            ],
        };
        let (width, height, samples) = render("Title", ["one", "two"], &[card(true), card(false)]);
        assert_eq!(samples.len(), 3 * (width * height) as usize);
        let has = |colour: [u8; 3]| samples.chunks_exact(3).any(|pixel| pixel == colour);
        assert!([PAPER, WHITE, RIGHT, WRONG, INK].into_iter().all(has));
        let (_, low, _) = render("Title", ["", ""], &[]);
        assert!(low < height);
    }
}
