//! Luma and chroma to RGB in the fixed-point arithmetic that libavif takes from libyuv.

use super::frame::{Frame, Layout};
use crate::image::decode::limits::Failure;

/// What H.273 calls the matrix coefficients.
mod matrix {
    pub(super) const IDENTITY: u16 = 0;
    pub(super) const BT709: u16 = 1;
    pub(super) const UNSPECIFIED: u16 = 2;
    pub(super) const BT470BG: u16 = 5;
    pub(super) const BT601: u16 = 6;
    pub(super) const BT2020: u16 = 9;
}

/// Factors in 64ths, those of luma in 65536ths of 64ths for a sample that is repeated in both bytes of 16 bits.
struct Coefficients {
    luma: u32,
    offset: i32,
    blue_from_u: i32,
    green_from_u: i32,
    green_from_v: i32,
    red_from_v: i32,
}

impl Coefficients {
    /// By the weights of red and blue in luma.
    fn of(matrix: u16, is_full_range: bool) -> Option<Self> {
        let fixed =
            |luma, offset, [blue_from_u, green_from_u, green_from_v, red_from_v]: [i32; 4]| Self {
                luma,
                offset,
                blue_from_u,
                green_from_u,
                green_from_v,
                red_from_v,
            };
        let full = |factors| fixed(16320, 32, factors);
        let limited = |factors| fixed(18997, -1160, factors);
        Some(match (matrix, is_full_range) {
            (matrix::BT709, true) => full([119, 12, 30, 101]),
            (matrix::BT709, false) => limited([135, 14, 34, 115]),
            (matrix::UNSPECIFIED | matrix::BT470BG | matrix::BT601, true) => {
                full([113, 22, 46, 90])
            }
            (matrix::UNSPECIFIED | matrix::BT470BG | matrix::BT601, false) => {
                limited([129, 25, 52, 102])
            }
            (matrix::BT2020, true) => full([120, 11, 37, 94]),
            (matrix::BT2020, false) => fixed(19003, -1160, [137, 12, 42, 107]),
            _ => return None,
        })
    }

    #[inline]
    fn rgb(&self, y: u8, u: u8, v: u8) -> [u8; 3] {
        let y = ((u32::from(y) * 0x0101 * self.luma) >> 16) as i32 + self.offset;
        let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
        [
            y + v * self.red_from_v,
            y - u * self.green_from_u - v * self.green_from_v,
            y + u * self.blue_from_u,
        ]
        .map(|channel| (channel >> 6).clamp(0, 255) as u8)
    }
}

/// Luma alone, in full range.
pub(super) fn luma(frame: &Frame) -> Vec<u8> {
    let luma = &frame.planes[0];
    match frame.is_full_range {
        true => luma.clone(),
        false => luma.iter().map(|&sample| full(sample)).collect(),
    }
}

fn full(sample: u8) -> u8 {
    ((i32::from(sample) - 16) * 255 + 109)
        .div_euclid(219)
        .clamp(0, 255) as u8
}

/// Three interleaved channels.
pub(super) fn rgb(frame: &Frame) -> Result<Vec<u8>, Failure> {
    let (width, height) = (frame.width, frame.height);
    let coefficients = Coefficients::of(frame.matrix, frame.is_full_range);
    let [y_plane, u_plane, v_plane] = &frame.planes;
    let is_identity = frame.matrix == matrix::IDENTITY && frame.layout == Layout::Yuv444;
    if coefficients.is_none() && !is_identity {
        return Err(Failure::of(format!(
            "matrix coefficients {} are not supported",
            frame.matrix
        )));
    }
    let mut out = Vec::with_capacity(3 * width * height);
    let (mut u_row, mut v_row) = (vec![0; width], vec![0; width]);
    for (y, luma) in y_plane.chunks_exact(width).enumerate() {
        chroma_row(frame, u_plane, y, &mut u_row);
        chroma_row(frame, v_plane, y, &mut v_row);
        for ((&y, &u), &v) in luma.iter().zip(&u_row).zip(&v_row) {
            out.extend_from_slice(&match &coefficients {
                Some(coefficients) => coefficients.rgb(y, u, v),
                None if frame.is_full_range => [v, y, u],
                None => [v, y, u].map(full),
            });
        }
    }
    Ok(out)
}

/// One row of chroma at the width of luma: three quarters of the nearer sample and one of the farther, on each axis.
fn chroma_row(frame: &Frame, plane: &[u8], y: usize, out: &mut [u8]) {
    let (width, height) = frame.layout.chroma(frame.width, frame.height);
    let row = |y: usize| &plane[y * width..][..width];
    let farther = |at: usize, length: usize| match at % 2 {
        0 => (at / 2).saturating_sub(1),
        _ => (at / 2 + 1).min(length - 1),
    };
    let (near, far) = match frame.layout {
        Layout::Grey => return,
        Layout::Yuv444 => return out.copy_from_slice(row(y)),
        Layout::Yuv422 => (row(y), row(y)),
        Layout::Yuv420 => (row(y / 2), row(farther(y, height))),
    };
    for (x, sample) in out.iter_mut().enumerate() {
        let at = |row: &[u8]| 3 * u32::from(row[x / 2]) + u32::from(row[farther(x, width)]);
        *sample = ((3 * at(near) + at(far) + 8) >> 4) as u8;
    }
}
