//! `--fast-decode`: a training view of a JPEG of which no more is decoded than the view shows.
//!
//! * Rows below the crop are not read, and blocks beside and above it are not transformed.
//! * Where the crop stays at least [`MARGIN`] times as large as the view, the picture is decoded at a half, a quarter or an
//!   eighth of its size, from the low frequencies of its blocks.
//! * The planes of brightness and colours are resampled as they are stored and turned into RGB as pixels of the view: neither
//!   are colours enlarged before nor is the whole picture turned into RGB.
//! * Weights of the resize are 64ths, where the exact path's have 22 bits.
//!
//! The crop is the exact path's. Pixels differ from its by less than 1/255 in the mean. What is no baseline JPEG of brightness
//! and colours takes the exact path, and so does what is damaged.

use std::cell::RefCell;

use openclip_model::config::Interpolation;

use super::decode::{Baseline, Plane, decode_part, with_room};
use super::passes::{Coarse, Planes};
use super::resample::{Part, Rect, Resampler, Scaling, Source};
use super::train::View;
use super::wide::wide;
use crate::error::DataError;

/// How much larger than the view the crop has to stay when the picture is decoded at a share of its size: with less, the
/// coarser filter shows.
const MARGIN: f64 = 1.5;

thread_local! {
    static RESAMPLER: RefCell<Resampler<Coarse>> = RefCell::default();
}

/// Writes what `view` shows of the JPEG into `out`, `[3, height, width]` of `size`, but for its colours and what is erased; `false`,
/// and nothing of use written, where the data is damaged.
///
/// # Errors
/// If `out` has another length.
pub(super) fn show(
    jpeg: &Baseline<'_>,
    view: &View,
    (width, height): (usize, usize),
    out: &mut [u8],
) -> Result<bool, DataError> {
    let pixels = width * height;
    if out.len() != 3 * pixels {
        return Err(DataError::BufferLength {
            expected: 3 * pixels,
            found: out.len(),
        });
    }
    let crop = view.crop();
    let divisor = divisor((crop.width, crop.height), (width, height));
    let is_done = with_room(|room| {
        let is_decoded = decode_part(jpeg, crop, divisor, room);
        if is_decoded {
            let shown = room.planes.iter().take(jpeg.components());
            for (plane, out) in shown.zip(out.chunks_exact_mut(pixels)) {
                resample(plane, crop, (width, height), view.interpolation, out);
            }
        }
        is_decoded
    });
    match jpeg.components() {
        _ if !is_done => {}
        1 => {
            out.copy_within(..pixels, pixels);
            out.copy_within(..pixels, 2 * pixels);
        }
        _ => wide(ToRgb {
            planes: out,
            pixels,
        }),
    }
    Ok(is_done)
}

/// By how much each side of the picture is divided: 1, 2, 4 or 8.
fn divisor(crop: (usize, usize), view: (usize, usize)) -> usize {
    let fits = |divisor: &usize| {
        let stays = |crop: usize, view: usize| crop as f64 >= MARGIN * (divisor * view) as f64;
        stays(crop.0, view.0) && stays(crop.1, view.1)
    };
    [8, 4, 2].into_iter().find(fits).unwrap_or(1)
}

/// Filters what `plane` shows of the crop into `out`, `[height, width]`.
fn resample(
    plane: &Plane,
    crop: Rect,
    (width, height): (usize, usize),
    filter: Interpolation,
    out: &mut [u8],
) {
    let (left, columns, x) = span(crop.left, crop.width, plane.pitch.0, plane.size.0);
    let (top, rows, y) = span(crop.top, crop.height, plane.pitch.1, plane.size.1);
    let scaling = Scaling {
        region: Rect {
            left,
            top,
            width: columns,
            height: rows,
        },
        part: Part {
            left: x,
            top: y,
            width: crop.width as f64 / plane.pitch.0,
            height: crop.height as f64 / plane.pitch.1,
        },
        resized: (width, height),
        window: Rect {
            left: 0,
            top: 0,
            width,
            height,
        },
    };
    let source = Source {
        samples: &plane.samples,
        width: plane.stride,
        channels: 1,
    };
    let mut out = Planes {
        data: out,
        plane: width * height,
        row: width,
    };
    // The rows first where that leaves fewer of them, whatever Pillow does.
    let order = (filter, rows > height);
    RESAMPLER.with_borrow_mut(|resampler| {
        resampler.resample_by(source, &scaling, order, &mut out);
    });
}

/// The samples of one axis that show `start..start + length`: the first, how many, and where the crop begins among them.
fn span(start: usize, length: usize, pitch: f64, size: usize) -> (usize, usize, f64) {
    let begin = start as f64 / pitch;
    let end = ((start + length) as f64 / pitch).ceil() as usize;
    let first = (begin as usize).min(size - 1);
    (
        first,
        end.clamp(first + 1, size) - first,
        begin - first as f64,
    )
}

/// Brightness and two colours to RGB in place, in libjpeg's arithmetic.
struct ToRgb<'a> {
    planes: &'a mut [u8],
    pixels: usize,
}

impl pulp::NullaryFnOnce for ToRgb<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        const HALF: i32 = 1 << 15;
        let (ys, rest) = self.planes.split_at_mut(self.pixels);
        let (blues, reds) = rest.split_at_mut(self.pixels);
        for ((y, cb), cr) in ys.iter_mut().zip(blues).zip(reds) {
            let (light, blue, red) = (i32::from(*y), i32::from(*cb) - 128, i32::from(*cr) - 128);
            *y = (light + ((91_881 * red + HALF) >> 16)).clamp(0, 255) as u8;
            *cb = (light + ((-22_554 * blue - 46_802 * red + HALF) >> 16)).clamp(0, 255) as u8;
            *cr = (light + ((116_130 * blue + HALF) >> 16)).clamp(0, 255) as u8;
        }
    }
}
