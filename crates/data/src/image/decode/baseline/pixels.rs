//! Planes to a picture, with the pixels of libjpeg-turbo's defaults (smooth chroma).

use std::ops::Range;

use libjpeg_turbo_rs::simd::{self, SimdRoutines};

use super::{BLOCK, Baseline, Room};
use crate::image::decode::upsample::Plane;
use crate::image::picture::{Mode, Picture};
use crate::image::resample::{Lines, Rect};
use crate::image::wide::wide;

impl Baseline<'_> {
    /// The whole picture; `None` where the data is damaged, or the colours are stored neither at full size nor at half of it.
    pub(in crate::image::decode) fn picture(&self, room: &mut Room) -> Option<Picture> {
        let (width, height) = self.size();
        let whole = Rect {
            left: 0,
            top: 0,
            width,
            height,
        };
        let mut lines = self.lines(whole, room)?;
        let mut samples = vec![0; self.components() * width * height];
        lines.write(0, &mut samples);
        let mode = match self.components() {
            1 => Mode::L,
            _ => Mode::Rgb,
        };
        Some(Picture::new(width, height, mode, samples))
    }

    /// Decodes what shows `wanted`, so that its rows can be made; `None` as for [`Self::picture`], but that what lies below is not
    /// looked at.
    pub(in crate::image) fn lines<'r>(
        &self,
        wanted: Rect,
        room: &'r mut Room,
    ) -> Option<PixelLines<'r>> {
        let (width, height) = self.size();
        let factors = self.components.iter().map(|part| (part.across, part.down));
        let doubled = match *factors.collect::<Vec<_>>() {
            [_] => [false; 2],
            [(across @ 1..=2, down @ 1..=2), (1, 1), (1, 1)] => [across == 2, down == 2],
            _ => return None,
        };
        // Of narrower planes libjpeg repeats the samples.
        if doubled[0] && width < 5 {
            return None;
        }
        // Colours that are smoothed need their neighbours.
        let grown = |start: usize, length: usize, end: usize| {
            let first = start.saturating_sub(2);
            (first, (start + length + 2).min(end) - first)
        };
        let (left, columns) = grown(wanted.left, wanted.width, width);
        let (top, rows) = grown(wanted.top, wanted.height, height);
        let wanted = Rect {
            left,
            top,
            width: columns,
            height: rows,
        };
        self.decode(wanted, 1, room)?;
        let unit = if doubled[0] { 2 * BLOCK } else { BLOCK };
        let columns = left / unit * unit..(left + columns).next_multiple_of(unit).min(width);
        let planes = std::array::from_fn(|i| {
            // Of grey the one plane stands for those that there are not.
            let plane = &room.planes[i.min(self.components() - 1)];
            let place = |column: usize| (column as f64 / plane.pitch.0).ceil() as usize;
            Plane {
                samples: &plane.samples[place(columns.start)..],
                stride: plane.stride,
                width: place(columns.end) - place(columns.start),
                height: plane.size.1,
            }
        });
        let [_, Plane { width, .. }, _] = planes;
        let (sums, row) = (vec![0; width + 2], vec![0; 2 * width]);
        Some(PixelLines {
            channels: self.components(),
            columns,
            planes,
            doubled,
            routines: simd::detect(),
            sums,
            rows: [row.clone(), row],
        })
    }
}

/// Rows of a decoded file in RGB or grey.
pub(in crate::image) struct PixelLines<'r> {
    channels: usize,
    columns: Range<usize>,
    planes: [Plane<'r>; 3],
    /// Whether there are two pixels for a sample of colour, across and down.
    doubled: [bool; 2],
    routines: SimdRoutines,
    sums: Vec<u16>,
    rows: [Vec<u8>; 2],
}

impl Lines for PixelLines<'_> {
    fn channels(&self) -> usize {
        self.channels
    }

    fn columns(&self) -> Range<usize> {
        self.columns.clone()
    }

    fn write(&mut self, top: usize, out: &mut [u8]) {
        match self.channels {
            1 => {
                for (y, out) in (top..).zip(out.chunks_exact_mut(self.columns.len())) {
                    out.copy_from_slice(self.planes[0].row(y));
                }
            }
            _ => wide(Convert {
                lines: self,
                top,
                out,
            }),
        }
    }
}

/// Brightness and colours to RGB.
struct Convert<'l, 'r, 'o> {
    lines: &'l mut PixelLines<'r>,
    top: usize,
    out: &'o mut [u8],
}

impl pulp::NullaryFnOnce for Convert<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let PixelLines {
            planes: [light, blue, red],
            doubled,
            routines,
            sums,
            rows,
            ..
        } = self.lines;
        let lines = self.out.chunks_exact_mut(3 * light.width);
        for (y, out) in (self.top..).zip(lines) {
            let colors = match *doubled {
                [false, false] => [blue.row(y), red.row(y)],
                _ => {
                    for (plane, row) in [&*blue, &*red].into_iter().zip(rows.iter_mut()) {
                        plane.smooth_row(y, *doubled, sums, row);
                    }
                    rows.each_ref().map(Vec::as_slice)
                }
            };
            routines.ycbcr_to_rgb_row(light.row(y), colors[0], colors[1], out, light.width);
        }
    }
}
