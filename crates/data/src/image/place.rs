//! Resize in the picture's own mode, cut, convert to RGB planes – in OpenCLIP's order.

use std::cell::RefCell;

use openclip_model::config::Interpolation;

use super::passes::{Exact, Planes};
use super::picture::{Mode, Picture, mul_div_255};
use super::resample::{self, Lines, Rect, Resampler, Scaling, Source, nearest, resample_deep};
use crate::error::DataError;

/// Where the scaled window lands in an output of `height` × `width`; what it leaves free shows the
/// mode's zero pixel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Placement {
    pub scaling: Scaling,
    /// Output column and row of the window's first pixel.
    pub offset: (usize, usize),
    /// Width and height of the output.
    pub output: (usize, usize),
}

#[derive(Default)]
struct Scratch {
    resampler: Resampler<Exact>,
    premultiplied: Vec<u8>,
    planes: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Writes the placed picture into `out`, `[3, height, width]`.
pub(crate) fn place(
    picture: &Picture,
    placement: &Placement,
    filter: Interpolation,
    out: &mut [u8],
) -> Result<(), DataError> {
    let fill = picture.rgb(&[0; 4][..picture.mode.bytes()]);
    if let Some(mut planes) = placement.canvas(fill, out)? {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.fill(picture, &placement.scaling, filter, &mut planes);
        });
    }
    Ok(())
}

/// The same of a picture in RGB or grey whose rows are made when they are wanted: `lines` is told which part of it counts. `false`,
/// and nothing of use written, where it gives none or the whole picture is needed.
pub(crate) fn place_lines<L: Lines>(
    lines: impl FnOnce(Rect) -> Option<L>,
    placement: &Placement,
    filter: Interpolation,
    out: &mut [u8],
) -> Result<bool, DataError> {
    let scaling = &placement.scaling;
    let Some(mut planes) = placement.canvas([0; 3], out)? else {
        return Ok(true);
    };
    if scaling.is_vertical_first() {
        return Ok(false);
    }
    SCRATCH.with_borrow_mut(|Scratch { resampler, .. }| {
        let wanted = resampler.prepare(scaling, filter);
        let Some(mut lines) = lines(wanted) else {
            return Ok(false);
        };
        resampler.resample_lines(&mut lines, wanted, scaling, &mut planes);
        if lines.channels() == 1 {
            repeat_first_plane(&mut planes, scaling.window.width, scaling.window.height);
        }
        Ok(true)
    })
}

impl Placement {
    /// Where the window goes, `None` if it is empty; the rest of `out` is filled.
    fn canvas<'o>(
        &self,
        fill: [u8; 3],
        out: &'o mut [u8],
    ) -> Result<Option<Planes<'o>>, DataError> {
        let (width, height) = self.output;
        if out.len() != 3 * width * height {
            return Err(DataError::BufferLength {
                expected: 3 * width * height,
                found: out.len(),
            });
        }
        let window = self.scaling.window;
        if (window.width, window.height) != (width, height) {
            for (plane, value) in out.chunks_exact_mut(width * height).zip(fill) {
                plane.fill(value);
            }
        }
        let start = self.offset.1 * width + self.offset.0;
        Ok((window.width > 0 && window.height > 0).then(|| Planes {
            data: &mut out[start..],
            plane: width * height,
            row: width,
        }))
    }
}

impl Scratch {
    fn fill(
        &mut self,
        picture: &Picture,
        scaling: &Scaling,
        filter: Interpolation,
        out: &mut Planes<'_>,
    ) {
        let Rect { width, height, .. } = scaling.window;
        let source = Source {
            samples: &picture.samples,
            width: picture.width,
            channels: picture.mode.bytes(),
        };
        match picture.mode {
            Mode::Rgb => self.resampler.resample(source, scaling, filter, out),
            Mode::L => {
                self.resampler.resample(source, scaling, filter, out);
                repeat_first_plane(out, width, height);
            }
            Mode::Bilevel | Mode::Palette => copy_nearest(picture, scaling, out),
            Mode::La | Mode::Rgba | Mode::I16 | Mode::I16Be | Mode::I32 | Mode::F32
                if scaling.is_copy() =>
            {
                copy_nearest(picture, scaling, out);
            }
            Mode::I16 | Mode::I16Be => {
                let pixels = resample_deep(source, scaling, filter, resample::I16);
                write(out, width, height, |x, y| {
                    picture.rgb(&pixels[y * width + x])
                });
            }
            Mode::I32 | Mode::F32 => {
                let depth = if picture.mode == Mode::I32 {
                    resample::I32
                } else {
                    resample::F32
                };
                let pixels = resample_deep(source, scaling, filter, depth);
                write(out, width, height, |x, y| {
                    picture.rgb(&pixels[y * width + x])
                });
            }
            Mode::La | Mode::Rgba => self.resample_alpha(source, scaling, filter, out),
            Mode::Cmyk | Mode::YCbCr | Mode::Lab => {
                let channels = source.channels;
                self.planes.resize(channels * width * height, 0);
                let mut planes = Planes {
                    data: &mut self.planes,
                    plane: width * height,
                    row: width,
                };
                self.resampler
                    .resample(source, scaling, filter, &mut planes);
                let plane = width * height;
                write(out, width, height, |x, y| {
                    let i = y * width + x;
                    let sample =
                        |channel| self.planes.get(channel * plane + i).copied().unwrap_or(0);
                    picture.rgb(&[0, 1, 2, 3].map(sample)[..channels])
                });
            }
        }
    }

    /// Pillow filters colours weighted by their alpha and divides it out again.
    fn resample_alpha(
        &mut self,
        source: Source<'_>,
        scaling: &Scaling,
        filter: Interpolation,
        out: &mut Planes<'_>,
    ) {
        let Rect {
            left,
            top,
            width: region_width,
            height: region_height,
        } = scaling.region;
        let channels = source.channels;
        self.premultiplied.clear();
        for y in top..top + region_height {
            let row = &source.samples[(y * source.width + left) * channels..];
            for pixel in row[..region_width * channels].chunks_exact(channels) {
                let alpha = pixel[channels - 1];
                let colors = &pixel[..channels - 1];
                self.premultiplied
                    .extend(colors.iter().map(|&color| mul_div_255(color, alpha)));
                self.premultiplied.push(alpha);
            }
        }
        let source = Source {
            samples: &self.premultiplied,
            width: region_width,
            channels,
        };
        let scaling = Scaling {
            region: Rect {
                left: 0,
                top: 0,
                ..scaling.region
            },
            ..*scaling
        };
        let Rect { width, height, .. } = scaling.window;
        let plane = width * height;
        self.planes.resize(channels * plane, 0);
        let mut planes = Planes {
            data: &mut self.planes,
            plane,
            row: width,
        };
        self.resampler
            .resample(source, &scaling, filter, &mut planes);
        write(out, width, height, |x, y| {
            let i = y * width + x;
            let alpha = self.planes[(channels - 1) * plane + i];
            // Grey and alpha show their only colour plane three times.
            [0, 1, 2].map(|channel| {
                let channel = if channels == 2 { 0 } else { channel };
                let color = self.planes[channel * plane + i];
                match alpha {
                    0 | 255 => color,
                    _ => (255 * u32::from(color) / u32::from(alpha)).min(255) as u8,
                }
            })
        });
    }
}

fn write(
    out: &mut Planes<'_>,
    width: usize,
    height: usize,
    mut pixel: impl FnMut(usize, usize) -> [u8; 3],
) {
    for y in 0..height {
        for x in 0..width {
            for (channel, value) in pixel(x, y).into_iter().enumerate() {
                out.data[channel * out.plane + y * out.row + x] = value;
            }
        }
    }
}

fn repeat_first_plane(out: &mut Planes<'_>, width: usize, height: usize) {
    for y in 0..height {
        let start = y * out.row;
        for channel in 1..3 {
            out.data
                .copy_within(start..start + width, channel * out.plane + start);
        }
    }
}

fn copy_nearest(picture: &Picture, scaling: &Scaling, out: &mut Planes<'_>) {
    let Scaling {
        region,
        resized,
        window,
        ..
    } = *scaling;
    let columns = nearest(region.width, resized.0, (window.left, window.width));
    let rows = nearest(region.height, resized.1, (window.top, window.height));
    let bytes = picture.mode.bytes();
    write(out, window.width, window.height, |x, y| {
        let index = (region.top + rows[y]) * picture.width + region.left + columns[x];
        picture.rgb(&picture.samples[index * bytes..][..bytes])
    });
}
