//! A row of numbers in numpy's format.

use crate::npy::Header;

/// A number of its bytes, which are as many as the kind has.
type Read = fn(&[u8]) -> Option<f64>;

/// The values of a vector; `None` if `bytes` are no vector of numbers in `.npy` form.
pub(super) fn values(bytes: &[u8]) -> Option<Vec<f64>> {
    let header = Header::read(bytes).ok()?;
    let values = &bytes[header.end..];
    let mut sides = header.sides()?.into_iter();
    let count = sides.try_fold(1_usize, |all, side| all.checked_mul(side))?;
    macro_rules! number {
        ($kind:ty) => {
            (size_of::<$kind>(), |bytes| {
                Some(<$kind>::from_le_bytes(bytes.try_into().ok()?) as f64)
            })
        };
    }
    let (width, read): (usize, Read) = match header.kind() {
        "|b1" | "|u1" => number!(u8),
        "|i1" => number!(i8),
        "<i2" => number!(i16),
        "<u2" => number!(u16),
        "<i4" => number!(i32),
        "<u4" => number!(u32),
        "<i8" => number!(i64),
        "<u8" => number!(u64),
        "<f4" => number!(f32),
        "<f8" => number!(f64),
        _ => return None,
    };
    if values.len() != count.checked_mul(width)? {
        return None;
    }
    values.chunks_exact(width).map(read).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn file(kind: &str, count: usize, values: &[u8]) -> Vec<u8> {
        let header =
            format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({count},), }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(values);
        bytes
    }

    #[test]
    fn a_vector_of_any_kind() {
        let ints: Vec<u8> = [0_i64, 1, 0, 1]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        assert_eq!(
            values(&file("<i8", 4, &ints)).unwrap(),
            [0.0, 1.0, 0.0, 1.0]
        );
        let floats: Vec<u8> = [1.0_f32, -0.0]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        assert_eq!(values(&file("<f4", 2, &floats)).unwrap(), [1.0, 0.0]);
        assert_eq!(
            values(&file("|b1", 3, &[0, 0, 1])).unwrap(),
            [0.0, 0.0, 1.0]
        );
        assert_eq!(values(&file("|b1", 4, &[0, 0, 1])), None);
        assert_eq!(values(&file("|O", 1, &[0])), None);
        assert_eq!(values(b"12"), None);
    }
}
