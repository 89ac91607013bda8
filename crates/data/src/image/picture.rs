//! Pixels in one of Pillow's modes.

/// How the samples of a [`Picture`] are to be read; names as in Pillow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `1`: one byte per pixel, 0 or 255.
    Bilevel,
    /// `L`: grey.
    L,
    /// `LA`: grey and alpha.
    La,
    /// `I;16`: grey in 16 bits, little endian.
    I16,
    /// `I;16B`: grey in 16 bits, big endian. Pillow filters its bytes as if they were little endian, so does this.
    I16Be,
    /// `I`: grey as 32-bit integers, little endian.
    I32,
    /// `F`: grey as 32-bit floating-point numbers, little endian.
    F32,
    /// `P`: an index into the palette.
    Palette,
    /// `RGB`.
    Rgb,
    /// `RGBA`.
    Rgba,
    /// `CMYK`, where 255 is full ink.
    Cmyk,
    /// `YCbCr`.
    YCbCr,
    /// `LAB`: CIE L\*a\*b\* under D50, L\* from 0 to 255 and the others about 128.
    Lab,
}

impl Mode {
    /// Bytes of one pixel.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Bilevel | Self::L | Self::Palette => 1,
            Self::La | Self::I16 | Self::I16Be => 2,
            Self::Rgb | Self::YCbCr | Self::Lab => 3,
            Self::Rgba | Self::Cmyk | Self::I32 | Self::F32 => 4,
        }
    }
}

/// A decoded picture: rows from top to bottom, samples interleaved, no padding.
///
/// The file's own mode is kept because OpenCLIP resizes before it converts to RGB, and a palette or an
/// alpha channel makes that order visible in the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) mode: Mode,
    pub(crate) samples: Vec<u8>,
    pub(crate) palette: Option<Box<[[u8; 3]; 256]>>,
}

impl Picture {
    /// A black RGB picture, `width` × `height` pixels.
    #[must_use]
    pub fn black(width: usize, height: usize) -> Self {
        Self::new(width, height, Mode::Rgb, vec![0; 3 * width * height])
    }

    /// An RGB picture from `3 * width * height` interleaved samples; `None` if the length is another.
    #[must_use]
    pub fn from_rgb(width: usize, height: usize, samples: Vec<u8>) -> Option<Self> {
        (width > 0 && height > 0 && samples.len() == 3 * width * height)
            .then(|| Self::new(width, height, Mode::Rgb, samples))
    }

    pub(crate) fn new(width: usize, height: usize, mode: Mode, samples: Vec<u8>) -> Self {
        debug_assert_eq!(samples.len(), width * height * mode.bytes());
        Self {
            width,
            height,
            mode,
            samples,
            palette: None,
        }
    }

    pub(crate) fn indexed(width: usize, height: usize, samples: Vec<u8>, colors: &[u8]) -> Self {
        let mut palette = Box::new([[0; 3]; 256]);
        for (entry, color) in palette.iter_mut().zip(colors.chunks_exact(3)) {
            entry.copy_from_slice(color);
        }
        Self {
            palette: Some(palette),
            ..Self::new(width, height, Mode::Palette, samples)
        }
    }

    /// Width in pixels.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// The mode.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The samples, `width * height * mode.bytes()` of them.
    #[must_use]
    pub fn samples(&self) -> &[u8] {
        &self.samples
    }

    /// Pillow's `convert("RGB")`. Pictures of a webdataset are converted by this before they are resized
    /// (`decode("pilrgb")`), all others only afterwards.
    #[must_use]
    pub fn into_rgb(self) -> Self {
        if self.mode == Mode::Rgb {
            return self;
        }
        let mut samples = Vec::with_capacity(3 * self.width * self.height);
        for pixel in self.samples.chunks_exact(self.mode.bytes()) {
            samples.extend_from_slice(&self.rgb(pixel));
        }
        Self::new(self.width, self.height, Mode::Rgb, samples)
    }

    /// One pixel's samples as RGB, by Pillow's formulas.
    #[inline]
    pub(crate) fn rgb(&self, pixel: &[u8]) -> [u8; 3] {
        match (self.mode, pixel) {
            (Mode::Bilevel | Mode::L, &[grey]) | (Mode::La, &[grey, _]) => [grey; 3],
            (Mode::I16, &[low, high]) | (Mode::I16Be, &[high, low]) => [i16_to_u8(low, high); 3],
            (Mode::I32, &[a, b, c, d]) => [i32::from_le_bytes([a, b, c, d]).clamp(0, 255) as u8; 3],
            // The cast cuts the fraction and saturates.
            (Mode::F32, &[a, b, c, d]) => [f32::from_le_bytes([a, b, c, d]) as u8; 3],
            (Mode::Palette, &[index]) => self
                .palette
                .as_ref()
                .map_or([0; 3], |palette| palette[usize::from(index)]),
            (Mode::Rgb, &[r, g, b]) | (Mode::Rgba, &[r, g, b, _]) => [r, g, b],
            (Mode::Cmyk, &[c, m, y, k]) => [c, m, y].map(|ink| {
                let light = 255 - k;
                light.saturating_sub(mul_div_255(ink, light))
            }),
            (Mode::YCbCr, &[y, cb, cr]) => ycbcr_to_rgb(y, cb, cr),
            (Mode::Lab, &[l, a, b]) => lab_to_rgb(l, a, b),
            _ => [0; 3],
        }
    }
}

/// Pillow's fixed-point arithmetic: factors in 64ths, each product cut to a whole number.
fn ycbcr_to_rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let product =
        |factor: f64, chroma: u8| (factor * 64.0 * (f64::from(chroma) - 128.0) + 0.5) as i32;
    [
        product(1.402, cr),
        product(-0.34414, cb) + product(-0.71414, cr),
        product(1.772, cb),
    ]
    .map(|sum| (i32::from(y) + (sum >> 6)).clamp(0, 255) as u8)
}

/// CIE L\*a\*b\* under D50 to sRGB. Pillow converts it only by way of colour profiles, which give the same within one step.
fn lab_to_rgb(l: u8, a: u8, b: u8) -> [u8; 3] {
    const WHITE: [f32; 3] = [0.9642, 1.0, 0.8249];
    /// XYZ under D50 to linear sRGB, by Bradford's adaptation.
    const TO_SRGB: [[f32; 3]; 3] = [
        [3.133_856, -1.616_867, -0.490_615],
        [-0.978_768, 1.916_142, 0.033_454],
        [0.071_945, -0.228_991, 1.405_243],
    ];
    let y = (f32::from(l) * 100.0 / 255.0 + 16.0) / 116.0;
    let x = y + (f32::from(a) - 128.0) / 500.0;
    let z = y - (f32::from(b) - 128.0) / 200.0;
    let cube = |t: f32| {
        if t > 6.0 / 29.0 {
            t * t * t
        } else {
            (t - 4.0 / 29.0) * 108.0 / 841.0
        }
    };
    let xyz = [x, y, z].map(cube);
    TO_SRGB.map(|row| {
        let linear: f32 = (0..3).map(|i| row[i] * xyz[i] * WHITE[i]).sum();
        let value = match linear {
            ..=0.003_130_8 => 12.92 * linear,
            _ => 1.055 * linear.powf(1.0 / 2.4) - 0.055,
        };
        (value * 255.0).round() as u8
    })
}

/// Pillow narrows `I;16` by clipping, not by scaling.
fn i16_to_u8(low: u8, high: u8) -> u8 {
    if high == 0 { low } else { 255 }
}

/// `a * b / 255`, rounded, as Pillow's `MULDIV255`.
#[inline]
pub(crate) fn mul_div_255(a: u8, b: u8) -> u8 {
    let product = u32::from(a) * u32::from(b) + 128;
    (((product >> 8) + product) >> 8) as u8
}
