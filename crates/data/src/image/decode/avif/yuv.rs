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
    pub(super) const SMPTE240: u16 = 7;
    pub(super) const YCGCO: u16 = 8;
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
    /// By the matrix of H.273. Where the range is limited, libyuv holds the factor of blue down to 128.
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
            (matrix::BT709, false) => limited([128, 14, 34, 115]),
            (matrix::UNSPECIFIED | matrix::BT470BG | matrix::BT601, true) => {
                full([113, 22, 46, 90])
            }
            (matrix::UNSPECIFIED | matrix::BT470BG | matrix::BT601, false) => {
                limited([128, 25, 52, 102])
            }
            (matrix::BT2020, true) => full([120, 11, 37, 94]),
            (matrix::BT2020, false) => fixed(19003, -1160, [128, 12, 42, 107]),
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

/// How one pixel becomes RGB.
enum Conversion {
    Fixed(Coefficients),
    /// Planes of green, blue and red.
    Identity,
    /// What libyuv leaves to libavif, which computes in floating point: by the weights of red and blue in luma.
    Weights([f32; 2]),
    YCgCo,
}

impl Conversion {
    fn of(frame: &Frame) -> Option<Self> {
        let fixed = Coefficients::of(frame.matrix, frame.is_full_range);
        match (fixed, frame.matrix) {
            (Some(coefficients), _) => Some(Self::Fixed(coefficients)),
            (_, matrix::IDENTITY) if frame.layout == Layout::Yuv444 => Some(Self::Identity),
            (_, matrix::SMPTE240) => Some(Self::Weights([0.212, 0.087])),
            (_, matrix::YCGCO) if frame.is_full_range => Some(Self::YCgCo),
            _ => None,
        }
    }

    #[inline]
    fn rgb(&self, is_full_range: bool, [y, u, v]: [u8; 3]) -> [u8; 3] {
        let (black, span, chroma_span) = match is_full_range {
            true => (0.0, 255.0, 255.0),
            false => (16.0, 219.0, 224.0),
        };
        let chroma = |sample: u8| (f32::from(sample) - 128.0) / chroma_span;
        let parts = || ((f32::from(y) - black) / span, chroma(u), chroma(v));
        let whole = |channels: [f32; 3]| channels.map(|part| (0.5 + part * 255.0) as u8);
        match self {
            Self::Fixed(coefficients) => coefficients.rgb(y, u, v),
            Self::Identity if is_full_range => [v, y, u],
            Self::Identity => [v, y, u].map(full),
            Self::Weights([red, blue]) => {
                let (y, u, v) = parts();
                let (from_red, from_blue) = (2.0 * (1.0 - red) * v, 2.0 * (1.0 - blue) * u);
                let green = (red * from_red + blue * from_blue) / (1.0 - red - blue);
                whole([y + from_red, y - green, y + from_blue])
            }
            Self::YCgCo => {
                let (y, green, orange) = parts();
                whole([y - green + orange, y + green, y - green - orange])
            }
        }
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

/// With libyuv's inverses in 8 bits behind the point; what leaves 15 bits comes to nothing there.
pub(super) fn divided_by_alpha(sample: u8, alpha: u8) -> u8 {
    let inverse = match u32::from(alpha) {
        0 => 0,
        1 => 0xffff,
        255 => 0x100,
        alpha => 0x1_0000 / alpha,
    };
    match (u32::from(sample) * 0x0101 * inverse) >> 16 {
        0x8000.. => 0,
        value => value.min(255) as u8,
    }
}

/// Three interleaved channels.
pub(super) fn rgb(frame: &Frame) -> Result<Vec<u8>, Failure> {
    let (width, height) = (frame.width, frame.height);
    let conversion = Conversion::of(frame).ok_or_else(|| {
        let range = if frame.is_full_range {
            "full"
        } else {
            "limited"
        };
        Failure::of(format!(
            "matrix coefficients {} in {range} range are not supported",
            frame.matrix
        ))
    })?;
    let [y_plane, u_plane, v_plane] = &frame.planes;
    let mut out = Vec::with_capacity(3 * width * height);
    // Grey has no colour.
    let (mut u_row, mut v_row) = (vec![128; width], vec![128; width]);
    for (y, luma) in y_plane.chunks_exact(width).enumerate() {
        chroma_row(frame, u_plane, y, &mut u_row);
        chroma_row(frame, v_plane, y, &mut v_row);
        for ((&y, &u), &v) in luma.iter().zip(&u_row).zip(&v_row) {
            out.extend_from_slice(&conversion.rgb(frame.is_full_range, [y, u, v]));
        }
    }
    Ok(out)
}

/// One row of chroma at the width of luma: three quarters of the nearer sample and one of the farther, on each axis. Where
/// the width is odd, libyuv gives the last column its own sample alone.
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
        let beside = if x + 1 == frame.width {
            x / 2
        } else {
            farther(x, width)
        };
        let at = |row: &[u8]| 3 * u32::from(row[x / 2]) + u32::from(row[beside]);
        *sample = ((3 * at(near) + at(far) + 8) >> 4) as u8;
    }
}
