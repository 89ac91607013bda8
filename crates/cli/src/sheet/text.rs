//! Text on a canvas.

use ab_glyph::{Font, FontRef, GlyphId, PxScale, ScaleFont, point};
use tiny_skia::{Pixmap, PremultipliedColorU8};

/// DejaVu Sans in two weights.
pub struct Fonts {
    regular: FontRef<'static>,
    bold: FontRef<'static>,
}

/// Size and weight of a text.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Height of a line in pixels.
    pub size: f32,
    pub bold: bool,
    /// Red, green and blue.
    pub colour: [u8; 3],
}

impl Fonts {
    #[expect(clippy::expect_used, reason = "the files are part of the program")]
    pub fn new() -> Self {
        let parse = |bytes| FontRef::try_from_slice(bytes).expect("an embedded font");
        Self {
            regular: parse(dejavu::sans::regular()),
            bold: parse(dejavu::sans::bold()),
        }
    }

    /// Width of `text` in pixels.
    pub fn width(&self, text: &str, style: Style) -> f32 {
        self.glyphs(text, style).1
    }

    /// Writes `text` from `x` to the right on the line `baseline`.
    pub fn write(&self, pixmap: &mut Pixmap, [x, baseline]: [f32; 2], text: &str, style: Style) {
        let font = self.font(style);
        for (id, offset) in self.glyphs(text, style).0 {
            let glyph =
                id.with_scale_and_position(PxScale::from(style.size), point(x + offset, baseline));
            if let Some(outline) = font.outline_glyph(glyph) {
                let bounds = outline.px_bounds();
                outline.draw(|dx, dy, coverage| {
                    let (px, py) = (
                        bounds.min.x as i64 + i64::from(dx),
                        bounds.min.y as i64 + i64::from(dy),
                    );
                    blend(pixmap, px, py, style.colour, coverage);
                });
            }
        }
    }

    /// Writes `text` so that it ends at `x`.
    pub fn write_before(
        &self,
        pixmap: &mut Pixmap,
        [x, baseline]: [f32; 2],
        text: &str,
        style: Style,
    ) {
        self.write(pixmap, [x - self.width(text, style), baseline], text, style);
    }

    /// `text` on one line of at most `width` pixels, with `…` for what is left out.
    pub fn shortened(&self, text: &str, style: Style, width: f32) -> String {
        // No line of a sheet has room for more.
        const MOST: usize = 400;
        let mut kept: Vec<char> = text.chars().take(MOST).collect();
        if kept.len() < MOST && self.width(text, style) <= width {
            return text.to_owned();
        }
        loop {
            let line: String = kept.iter().chain(&['…']).collect();
            if kept.pop().is_none() || self.width(&line, style) <= width {
                return line;
            }
        }
    }

    /// The same, but it is the beginning that is left out.
    pub fn shortened_before(&self, text: &str, style: Style, width: f32) -> String {
        let reversed = |text: &str| text.chars().rev().collect::<String>();
        reversed(&self.shortened(&reversed(text), style, width))
    }

    /// `text` on at most `lines` lines of at most `width` pixels, broken between words; the last one is shortened.
    pub fn wrapped(&self, text: &str, style: Style, width: f32, lines: usize) -> Vec<String> {
        let mut wrapped: Vec<String> = Vec::new();
        let mut words = text.split_whitespace().peekable();
        while let Some(word) = words.next() {
            let mut line = word.to_owned();
            if wrapped.len() + 1 >= lines {
                // More than fits on any line is not looked at.
                words
                    .by_ref()
                    .take(64)
                    .for_each(|word| line = format!("{line} {word}"));
                wrapped.push(self.shortened(&line, style, width));
                break;
            }
            while let Some(next) = words.peek() {
                let longer = format!("{line} {next}");
                if self.width(&longer, style) > width {
                    break;
                }
                line = longer;
                words.next();
            }
            wrapped.push(self.shortened(&line, style, width));
        }
        wrapped
    }

    fn font(&self, style: Style) -> &FontRef<'static> {
        if style.bold {
            &self.bold
        } else {
            &self.regular
        }
    }

    /// Glyphs with their distance from the start, and the width of all.
    fn glyphs(&self, text: &str, style: Style) -> (Vec<(GlyphId, f32)>, f32) {
        let font = self.font(style).as_scaled(PxScale::from(style.size));
        let (mut x, mut last) = (0.0, None);
        let mut glyphs = Vec::with_capacity(text.len());
        for id in text.chars().map(|c| font.glyph_id(c)) {
            x += last.map_or(0.0, |last| font.kern(last, id));
            glyphs.push((id, x));
            x += font.h_advance(id);
            last = Some(id);
        }
        (glyphs, x)
    }
}

/// Lays `colour` over an opaque pixel; pixels outside are left out.
fn blend(pixmap: &mut Pixmap, x: i64, y: i64, colour: [u8; 3], coverage: f32) {
    let (width, height) = (i64::from(pixmap.width()), i64::from(pixmap.height()));
    if !(0..width).contains(&x) || !(0..height).contains(&y) {
        return;
    }
    let pixel = &mut pixmap.pixels_mut()[(y * width + x) as usize];
    let coverage = coverage.clamp(0.0, 1.0);
    let mix = |below: u8, above: u8| {
        let (below, above) = (f32::from(below), f32::from(above));
        (below + (above - below) * coverage).round() as u8
    };
    let [r, g, b] = colour;
    let mixed = [
        mix(pixel.red(), r),
        mix(pixel.green(), g),
        mix(pixel.blue(), b),
    ];
    if let Some(mixed) = PremultipliedColorU8::from_rgba(mixed[0], mixed[1], mixed[2], 255) {
        *pixel = mixed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_and_shortened() {
        let (fonts, style) = (
            Fonts::new(),
            Style {
                size: 16.0,
                bold: false,
                colour: [0; 3],
            },
        );
        let width = fonts.width("a red circle", style) + 1.0;
        let wrap = |text, lines| fonts.wrapped(text, style, width, lines);
        assert!(wrap("", 3).is_empty());
        assert_eq!(wrap("a red  circle", 3), ["a red circle"]);
        assert_eq!(
            wrap("a red circle and more", 3),
            ["a red circle", "and more"]
        );
        let cut = wrap("a red circle and more of it than there is room for", 2);
        assert_eq!(cut[0], "a red circle");
        assert!(
            cut[1].starts_with("and mo") && cut[1].ends_with('…'),
            "{cut:?}"
        );
        assert!(cut.iter().all(|line| fonts.width(line, style) <= width));
        let one = fonts.wrapped(&"x".repeat(500), style, width, 1);
        assert!(one[0].ends_with('…') && fonts.width(&one[0], style) <= width);
    }
}
