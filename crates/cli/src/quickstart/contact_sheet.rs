//! The contact sheet: pictures with the captions that the model finds likeliest.

use tiny_skia::{LineCap, PathBuilder, Pixmap, Stroke, Transform};

use super::draw::SIDE;
use crate::sheet::paint::{GREY, TRACK, WHITE, fill, ground, paint, picture, rounded};
use crate::sheet::text::{Fonts, Style};
use crate::sheet::{Sheet, sheet};

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

const PADDING: f32 = 14.0;
const PICTURE: f32 = 240.0;
const ROW: f32 = 38.0;
const ROWS: usize = 3;
const CARD: [f32; 2] = [
    PICTURE + 2.0 * PADDING,
    PICTURE + 2.0 * PADDING + 8.0 + ROW * ROWS as f32,
];

const BAR: [u8; 3] = [168, 178, 192];
const RIGHT: [u8; 3] = [24, 128, 72];
const WRONG: [u8; 3] = [200, 44, 52];

/// A sheet of `cards`.
pub(super) fn render(title: &str, lines: [&str; 2], cards: &[Card]) -> Sheet {
    sheet(title, lines, CARD, cards.len(), |canvas, at, k, fonts| {
        draw_card(canvas, at, &cards[k], fonts);
    })
}

fn draw_card(sheet: &mut Pixmap, [x, y]: [f32; 2], card: &Card, fonts: &Fonts) {
    ground(sheet, [x, y], CARD);
    let [left, top] = [x + PADDING, y + PADDING];
    picture(
        sheet,
        [left, top, PICTURE, PICTURE],
        [SIDE, SIDE],
        &card.samples,
    );
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sheet::paint::{INK, PAPER};

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
        let Sheet {
            width,
            height,
            samples,
        } = render("Title", ["one", "two"], &[card(true), card(false)]);
        assert_eq!(samples.len(), 3 * (width * height) as usize);
        let has = |colour: [u8; 3]| samples.chunks_exact(3).any(|pixel| pixel == colour);
        assert!([PAPER, WHITE, RIGHT, WRONG, INK].into_iter().all(has));
        assert!(render("Title", ["", ""], &[]).height < height);
    }
}
