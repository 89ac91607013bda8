//! Numbers of eight bits (Micikevicius et al., "FP8 Formats for Deep Learning", and Open Compute's specifications).

/// A layout of the eight bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Float8 {
    /// Four bits of exponent, three of mantissa, no infinity.
    E4M3,
    /// Five bits of exponent, two of mantissa, with infinities: the upper half of an IEEE half.
    E5M2,
    /// [`E4M3`](Self::E4M3) with another bias, one NaN and no negative zero.
    E4M3Fnuz,
    /// [`E5M2`](Self::E5M2) with another bias, one NaN, no infinity and no negative zero.
    E5M2Fnuz,
    /// A power of two.
    E8M0,
}

impl Float8 {
    /// The number that `bits` stand for, exactly.
    pub fn decode(self, bits: u8) -> f32 {
        let (mantissa_bits, bias) = match self {
            Self::E4M3 => (3, 7),
            Self::E5M2 => (2, 15),
            Self::E4M3Fnuz => (3, 8),
            Self::E5M2Fnuz => (2, 16),
            Self::E8M0 => {
                return match bits {
                    0xff => f32::NAN,
                    _ => 2f64.powi(i32::from(bits) - 127) as f32,
                };
            }
        };
        let magnitude = bits & 0x7f;
        let negative = bits & 0x80 != 0;
        let special = match self {
            Self::E4M3 => (magnitude == 0x7f).then_some(f32::NAN),
            Self::E5M2 => match magnitude {
                0x7c => Some(f32::INFINITY),
                0x7d.. => Some(f32::NAN),
                _ => None,
            },
            _ => (bits == 0x80).then_some(f32::NAN),
        };
        let value = special.unwrap_or_else(|| {
            let exponent = i32::from(magnitude >> mantissa_bits);
            let mantissa = f32::from(magnitude & ((1 << mantissa_bits) - 1));
            let leading = f32::from(u8::from(exponent > 0)) * f32::from(1u8 << mantissa_bits);
            (leading + mantissa) * 2f32.powi(exponent.max(1) - bias - mantissa_bits)
        });
        if negative { -value } else { value }
    }
}

#[cfg(test)]
mod tests {
    use super::Float8::{self, *};

    /// The largest and the least number of each layout, as torch's `finfo` has them, and one in between.
    #[test]
    fn numbers_are_torchs() {
        let cases: [(Float8, u8, f32); 15] = [
            (E4M3, 0x7e, 448.0),
            (E4M3, 0x01, 2f32.powi(-9)),
            (E4M3, 0xb8, -1.0),
            (E5M2, 0x7b, 57344.0),
            (E5M2, 0x01, 2f32.powi(-16)),
            (E5M2, 0xbe, -1.5),
            (E4M3Fnuz, 0x7f, 240.0),
            (E4M3Fnuz, 0x01, 2f32.powi(-10)),
            (E4M3Fnuz, 0xc0, -1.0),
            (E5M2Fnuz, 0x7f, 57344.0),
            (E5M2Fnuz, 0x01, 2f32.powi(-17)),
            (E5M2Fnuz, 0xc0, -1.0),
            (E8M0, 0x7f, 1.0),
            (E8M0, 0x80, 2.0),
            (E8M0, 0x00, 2f64.powi(-127) as f32),
        ];
        for (layout, bits, value) in cases {
            assert_eq!(layout.decode(bits), value, "{layout:?} {bits:#x}");
        }
        for (layout, bits) in [
            (E4M3, 0xff),
            (E5M2, 0x7d),
            (E4M3Fnuz, 0x80),
            (E5M2Fnuz, 0x80),
            (E8M0, 0xff),
        ] {
            assert!(layout.decode(bits).is_nan(), "{layout:?} {bits:#x}");
        }
        assert_eq!(E5M2.decode(0xfc), f32::NEG_INFINITY);
    }
}
