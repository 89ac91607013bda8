//! Luma and chroma to RGB with libtiff's arithmetic, which Pillow takes for what is compressed.

use super::directory::{Directory, tag};

/// Bits behind the point.
const SHIFT: i32 = 16;

pub(super) fn to_rgb(samples: &[u8], directory: &Directory<'_>) -> Vec<u8> {
    let weights = directory.fractions(tag::YCBCR_COEFFICIENTS);
    let [red, green, blue] = match weights[..] {
        [red, green, blue] if green != 0.0 => [red, green, blue],
        _ => [0.299, 0.587, 0.114],
    };
    let reference = directory.fractions(tag::REFERENCE_BLACK_WHITE);
    let range = match reference[..] {
        [a, b, c, d, e, f] => [a, b, c, d, e, f],
        _ => [0.0, 255.0, 128.0, 255.0, 128.0, 255.0],
    };
    let fixed =
        |value: f32| (f64::from(value.clamp(0.0, 2.0)) * f64::from(1 << SHIFT) + 0.5) as i32;
    let (from_red, from_blue) = (2.0 - 2.0 * red, 2.0 - 2.0 * blue);
    let (red_v, blue_u) = (fixed(from_red), fixed(from_blue));
    let (green_v, green_u) = (
        fixed(red * from_red / green),
        fixed(blue * from_blue / green),
    );
    let half = 1 << (SHIFT - 1);
    // A code on the scale from black to white, which is 0 to `full`.
    let on_scale = |code: i32, [black, white]: [f32; 2], full: f32| {
        let span = if white == black { 1.0 } else { white - black };
        let value = (code - black as i32) as f32 * full / span;
        value.clamp(-4096.0, 4096.0) as i32
    };
    let pixel = |y: u8, u: u8, v: u8| {
        let about_zero = |code: u8, [black, white]: [f32; 2]| {
            on_scale(i32::from(code) - 128, [black - 128.0, white - 128.0], 127.0)
        };
        let y = on_scale(i32::from(y), [range[0], range[1]], 255.0);
        let u = about_zero(u, [range[2], range[3]]);
        let v = about_zero(v, [range[4], range[5]]);
        [
            y + ((red_v * v + half) >> SHIFT),
            y + ((half - green_u * u - green_v * v) >> SHIFT),
            y + ((blue_u * u + half) >> SHIFT),
        ]
        .map(|channel| channel.clamp(0, 255) as u8)
    };
    let pixels = samples.as_chunks().0.iter();
    pixels.flat_map(|&[y, u, v]| pixel(y, u, v)).collect()
}
