//! Colour augmentation on `[3, height, width]` planes of `u8`, with Pillow's arithmetic.

/// One operation of torchvision's `ColorJitter` with its factor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Jitter {
    /// 0 is black, 1 leaves the picture as it is.
    Brightness(f64),
    /// 0 is a plain grey of the mean brightness, 1 leaves the picture as it is.
    Contrast(f64),
    /// 0 is greyscale, 1 leaves the picture as it is.
    Saturation(f64),
    /// Shift of the hue in turns, −0.5 to 0.5.
    Hue(f64),
}

/// Applies one operation in place. Samples beyond a whole number of pixels stay as they are.
pub fn adjust(planes: &mut [u8], jitter: Jitter) {
    match jitter {
        Jitter::Brightness(factor) => {
            planes
                .iter_mut()
                .for_each(|sample| *sample = blend(0, *sample, factor as f32));
        }
        Jitter::Contrast(factor) => {
            let (mut total, mut pixels) = (0_u64, 0_u64);
            for_each_pixel(planes, |pixel| {
                total += u64::from(luma(pixel));
                pixels += 1;
                pixel
            });
            let mean = (total as f64 / pixels.max(1) as f64 + 0.5) as u8;
            planes
                .iter_mut()
                .for_each(|sample| *sample = blend(mean, *sample, factor as f32));
        }
        Jitter::Saturation(factor) => for_each_pixel(planes, |pixel| {
            let grey = luma(pixel);
            pixel.map(|sample| blend(grey, sample, factor as f32))
        }),
        Jitter::Hue(turns) => {
            let shift = (turns * 255.0) as i32 as u8;
            for_each_pixel(planes, |pixel| {
                let [hue, saturation, value] = to_hsv(pixel);
                from_hsv([hue.wrapping_add(shift), saturation, value])
            });
        }
    }
}

/// Replaces each pixel by its brightness.
pub fn grayscale(planes: &mut [u8]) {
    for_each_pixel(planes, |pixel| [luma(pixel); 3]);
}

fn for_each_pixel(planes: &mut [u8], mut change: impl FnMut([u8; 3]) -> [u8; 3]) {
    let pixels = planes.len() / 3;
    let (red, rest) = planes.split_at_mut(pixels);
    let (green, blue) = rest.split_at_mut(pixels);
    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        [*r, *g, *b] = change([*r, *g, *b]);
    }
}

/// ITU-R 601-2 luma in 16-bit fixed point.
fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}

/// `Image.blend`: from `base` at 0 to `sample` at 1 and beyond.
fn blend(base: u8, sample: u8, factor: f32) -> u8 {
    let step = f32::from(i16::from(sample) - i16::from(base));
    // The cast cuts the fraction and saturates.
    (f32::from(base) + factor * step) as u8
}

/// Single and double precision alternate as in Pillow's C code, where they decide the last bit.
fn to_hsv([r, g, b]: [u8; 3]) -> [u8; 3] {
    let largest = r.max(g).max(b);
    let smallest = r.min(g).min(b);
    if largest == smallest {
        return [0, 0, largest];
    }
    let range = f32::from(largest - smallest);
    let [rc, gc, bc] = [r, g, b].map(|sample| f32::from(largest - sample) / range);
    let hue = if r == largest {
        bc - gc
    } else if g == largest {
        (2.0 + f64::from(rc) - f64::from(bc)) as f32
    } else {
        (4.0 + f64::from(gc) - f64::from(rc)) as f32
    };
    let hue = ((f64::from(hue) / 6.0 + 1.0) % 1.0) as f32;
    let saturation = range / f32::from(largest);
    [
        (f64::from(hue) * 255.0) as u8,
        (f64::from(saturation) * 255.0) as u8,
        largest,
    ]
}

fn from_hsv([hue, saturation, value]: [u8; 3]) -> [u8; 3] {
    if saturation == 0 {
        return [value; 3];
    }
    let turn = f64::from(hue) * 6.0 / 255.0;
    let sector = turn.floor();
    let f = f64::from((turn - sector) as f32);
    let s = f64::from((f64::from(saturation) / 255.0) as f32);
    let scaled = |factor: f64| (f64::from(value) * factor).round() as u8;
    let p = scaled(1.0 - s);
    let q = scaled(1.0 - s * f);
    let t = scaled(1.0 - s * (1.0 - f));
    match sector as u8 % 6 {
        0 => [value, t, p],
        1 => [q, value, p],
        2 => [p, value, t],
        3 => [p, q, value],
        4 => [t, p, value],
        _ => [value, p, q],
    }
}
