//! A row of labels in numpy's format.

/// The places of a vector that are not zero, and how long it is; `None` if `bytes` are no vector of numbers in `.npy` form.
pub(super) fn marked(bytes: &[u8]) -> Option<(Vec<usize>, usize)> {
    let rest = bytes.strip_prefix(b"\x93NUMPY")?;
    let (length, start) = match rest.first()? {
        1 => (
            usize::from(u16::from_le_bytes(rest.get(2..4)?.try_into().ok()?)),
            4,
        ),
        2 | 3 => (
            u32::from_le_bytes(rest.get(2..6)?.try_into().ok()?) as usize,
            6,
        ),
        _ => return None,
    };
    let header = std::str::from_utf8(rest.get(start..start + length)?).ok()?;
    let values = &rest[start + length..];
    let value = |key: &str| Some(header.split_once(&format!("'{key}':"))?.1.trim_start());
    let kind = value("descr")?.strip_prefix('\'')?.split('\'').next()?;
    let shape = value("shape")?.strip_prefix('(')?.split(')').next()?;
    let count = shape
        .split(',')
        .map(str::trim)
        .filter(|side| !side.is_empty())
        .try_fold(1_usize, |all, side| all.checked_mul(side.parse().ok()?))?;
    let width: usize = match kind {
        "|b1" | "|u1" | "|i1" => 1,
        "<i2" | "<u2" | "<f2" => 2,
        "<i4" | "<u4" | "<f4" => 4,
        "<i8" | "<u8" | "<f8" => 8,
        _ => return None,
    };
    if values.len() != count.checked_mul(width)? {
        return None;
    }
    // Zero is all zeros in each of these, and a negative zero of a float has its sign alone.
    let is_float = kind.contains('f');
    let is_set = |value: &[u8]| {
        let (last, others) = value.split_last().unwrap_or((&0, &[]));
        let last = if is_float { last & 0x7f } else { *last };
        last != 0 || others.iter().any(|byte| *byte != 0)
    };
    let places = values.chunks_exact(width).enumerate();
    let places = places.filter(|(_, value)| is_set(value)).map(|(at, _)| at);
    Some((places.collect(), count))
}

#[cfg(test)]
mod tests {
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
        assert_eq!(marked(&file("<i8", 4, &ints)), Some((vec![1, 3], 4)));
        let floats: Vec<u8> = [1.0_f32, -0.0]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        assert_eq!(marked(&file("<f4", 2, &floats)), Some((vec![0], 2)));
        assert_eq!(marked(&file("|b1", 3, &[0, 0, 1])), Some((vec![2], 3)));
        assert_eq!(marked(&file("|b1", 4, &[0, 0, 1])), None);
        assert_eq!(marked(&file("|O", 1, &[0])), None);
        assert_eq!(marked(b"12"), None);
    }
}
