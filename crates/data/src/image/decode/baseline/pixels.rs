//! Planes to a picture, with the pixels of libjpeg-turbo's defaults (smooth chroma).

use libjpeg_turbo_rs::simd::{self, SimdRoutines};

use super::{Baseline, Room};
use crate::image::decode::upsample::Plane;
use crate::image::picture::{Mode, Picture};
use crate::image::resample::Rect;
use crate::image::wide::wide;

impl Baseline<'_> {
    /// The whole picture; `None` where the data is damaged, or the colours are stored neither at full size nor at half of it.
    pub(in crate::image::decode) fn picture(&self, room: &mut Room) -> Option<Picture> {
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
        let wanted = Rect {
            left: 0,
            top: 0,
            width,
            height,
        };
        self.decode(wanted, 1, room)?;
        let planes = room.planes.each_ref().map(|plane| Plane {
            samples: &plane.samples,
            stride: plane.stride,
            width: plane.size.0,
            height: plane.size.1,
        });
        if self.components.len() == 1 {
            let mut samples = Vec::with_capacity(width * height);
            (0..height).for_each(|y| samples.extend_from_slice(planes[0].row(y)));
            return Some(Picture::new(width, height, Mode::L, samples));
        }
        let mut samples = vec![0; 3 * width * height];
        wide(Convert {
            planes,
            doubled,
            routines: &simd::detect(),
            out: &mut samples,
        });
        Some(Picture::new(width, height, Mode::Rgb, samples))
    }
}

/// Brightness and colours to RGB.
struct Convert<'a> {
    planes: [Plane<'a>; 3],
    /// Whether there are two pixels for a sample of colour, across and down.
    doubled: [bool; 2],
    routines: &'a SimdRoutines,
    out: &'a mut [u8],
}

impl pulp::NullaryFnOnce for Convert<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self {
            planes: [light, blue, red],
            doubled,
            routines,
            out,
        } = self;
        let mut sums = vec![0; blue.width + 2];
        let mut rows = [const { Vec::new() }; 2];
        rows.iter_mut()
            .for_each(|row| row.resize(2 * blue.width, 0));
        for (y, out) in out.chunks_exact_mut(3 * light.width).enumerate() {
            let colors = match doubled {
                [false, false] => [blue.row(y), red.row(y)],
                _ => {
                    for (plane, row) in [blue, red].iter().zip(&mut rows) {
                        plane.smooth_row(y, doubled, &mut sums, row);
                    }
                    rows.each_ref().map(Vec::as_slice)
                }
            };
            routines.ycbcr_to_rgb_row(light.row(y), colors[0], colors[1], out, light.width);
        }
    }
}
