//! Title and cards in rows, and the file.

use std::io;
use std::path::Path;

use openclip_model::files::atomic::AtomicFile;
use tiny_skia::{Color, Pixmap};

use super::paint::{GREY, INK, PAPER, canvas};
use super::text::{Fonts, Style};
use crate::error::{CliError, Result};

const COLUMNS: usize = 4;
const MARGIN: f32 = 48.0;
const GAP: f32 = 24.0;
const HEADER: f32 = 128.0;

/// A finished sheet.
pub struct Sheet {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// RGB, `[height, width, 3]`.
    pub samples: Vec<u8>,
}

/// Lays out `count` cards of one size in pixels; `draw` is given the canvas, the upper left corner of a card, and its number.
pub fn sheet(
    title: &str,
    lines: [&str; 2],
    card: [f32; 2],
    count: usize,
    mut draw: impl FnMut(&mut Pixmap, [f32; 2], usize, &Fonts),
) -> Sheet {
    let columns = COLUMNS as f32;
    let rows = count.div_ceil(COLUMNS) as f32;
    let width = 2.0 * MARGIN + columns * card[0] + (columns - 1.0) * GAP;
    let height = HEADER + rows * (card[1] + GAP) - GAP + MARGIN;
    let mut sheet = canvas(width.ceil() as u32, height.max(HEADER).ceil() as u32);
    let [r, g, b] = PAPER;
    sheet.fill(Color::from_rgba8(r, g, b, 255));

    let fonts = Fonts::new();
    let room = width - 2.0 * MARGIN;
    let mut write = |text: &str, baseline: f32, style: Style| {
        let text = fonts.shortened(text, style, room);
        fonts.write(&mut sheet, [MARGIN, baseline], &text, style);
    };
    let heading = Style {
        size: 34.0,
        bold: true,
        colour: INK,
    };
    write(title, 58.0, heading);
    for (line, baseline) in lines.into_iter().zip([88.0, 111.0]) {
        let style = Style {
            size: 18.0,
            bold: false,
            colour: GREY,
        };
        write(line, baseline, style);
    }
    for k in 0..count {
        let x = MARGIN + (k % COLUMNS) as f32 * (card[0] + GAP);
        let y = HEADER + (k / COLUMNS) as f32 * (card[1] + GAP);
        draw(&mut sheet, [x, y], k, &fonts);
    }
    let pixels = sheet.pixels().iter();
    Sheet {
        width: sheet.width(),
        height: sheet.height(),
        samples: pixels
            .flat_map(|p| [p.red(), p.green(), p.blue()])
            .collect(),
    }
}

impl Sheet {
    /// Writes it as a PNG file.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_png(path, self.width, self.height, &self.samples)
    }
}

/// Writes RGB samples, `[height, width, 3]`, as a PNG file.
pub fn write_png(path: &Path, width: u32, height: u32, samples: &[u8]) -> Result<()> {
    let encode = || -> io::Result<()> {
        let mut file = AtomicFile::create(path)?;
        let mut encoder = png::Encoder::new(&mut file, width, height);
        encoder.set_color(png::ColorType::Rgb);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(samples)?;
        writer.finish()?;
        file.finish()
    };
    encode().map_err(CliError::file(path))
}
