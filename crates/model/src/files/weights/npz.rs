//! big_vision's SigLIP checkpoints: NumPy archives of arrays under JAX's names and in its layouts.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use rawzip::CompressionMethod;

use super::dict::StateDict;
use super::error::WeightsError;
use super::tensor::{DType, RawTensor, WeightsFile, row_major};
use super::zip::{Members, Span};

/// Bytes of an array's header, at most.
const MAX_HEADER: usize = 1 << 16;
/// Axes of an array, at most.
const MAX_RANK: usize = 8;
/// Bytes that a byte of a deflated member can become, at most (zlib's manual).
const MAX_INFLATION: u64 = 1032;

/// Whether an archive holds NumPy's arrays.
pub(super) fn is_archive(members: &Members) -> bool {
    members.spans.keys().any(|name| name.ends_with(".npy"))
}

/// Reads an archive of `.npy` members: the parameters of big_vision's SigLIP, under its names.
pub(super) fn read(file: &Arc<WeightsFile>, members: &Members) -> Result<StateDict, WeightsError> {
    let mut arrays = BTreeMap::new();
    let names = members
        .spans
        .keys()
        .filter_map(|name| name.strip_suffix(".npy"));
    // A training checkpoint has the optimizer's state beside the parameters.
    let root = match members.spans.contains_key("params/b.npy") {
        true => "params/",
        false => "",
    };
    // Members that share their bytes could unpack to any size.
    let mut left = file.len;
    for name in names {
        let known = |inner: &&str| {
            inner.starts_with("img/") || inner.starts_with("txt/") || ["t", "b"].contains(inner)
        };
        if let Some(inner) = name.strip_prefix(root).filter(known) {
            let member = format!("{name}.npy");
            let &(span, method) = &members.spans[&member];
            left = left
                .checked_sub(span.1)
                .ok_or_else(|| bad(file, name, "shares its bytes with another member"))?;
            arrays.insert(inner.to_string(), array(file, &member, span, method)?);
        }
    }
    if !arrays.contains_key("img/embedding/kernel") {
        return Err(WeightsError::Numpy {
            file: file.path.clone(),
        });
    }
    Ok(StateDict {
        tensors: arrays,
        ..StateDict::default()
    })
}

fn bad(file: &WeightsFile, key: &str, reason: impl Into<String>) -> WeightsError {
    WeightsError::Tensor {
        file: file.path.clone(),
        key: key.chars().take(200).collect(),
        reason: reason.into(),
    }
}

/// One member: its header is read now, its elements later where they are stored as they are.
fn array(
    file: &Arc<WeightsFile>,
    name: &str,
    (start, len): Span,
    method: CompressionMethod,
) -> Result<RawTensor, WeightsError> {
    let bad = |reason: String| bad(file, name, reason);
    let broken = |error: std::io::Error| bad(error.to_string());
    if method == CompressionMethod::STORE {
        let head = file.read_vec(start, len.min(MAX_HEADER as u64) as usize)?;
        let (header, consumed) = Header::read(&mut head.as_slice()).map_err(bad)?;
        let data = (start + consumed as u64, len - consumed as u64);
        let strides = header.strides();
        return RawTensor::in_file(file, header.dtype, header.shape, strides, 0, data)
            .and_then(|tensor| tensor.dense().map_err(|error| error.to_string()))
            .map_err(bad);
    }
    if method != CompressionMethod::DEFLATE {
        return Err(bad("compressed in another way than NumPy's".into()));
    }
    let packed = file.read_vec(start, len as usize)?;
    let mut unpacked = flate2::read::DeflateDecoder::new(packed.as_slice());
    let (header, _) = Header::read(&mut unpacked).map_err(bad)?;
    let size = header
        .size()
        .filter(|size| *size as u64 <= len.saturating_mul(MAX_INFLATION));
    let Some(size) = size else {
        return Err(bad(format!(
            "shape {:?} cannot come out of {len} bytes",
            header.shape
        )));
    };
    let mut bytes = vec![0; size];
    unpacked.read_exact(&mut bytes).map_err(broken)?;
    let strides = header.strides();
    RawTensor::in_memory(header.dtype, bytes, header.shape, strides)
        .and_then(|tensor| tensor.dense().map_err(|error| error.to_string()))
        .map_err(bad)
}

/// What the first bytes of a `.npy` file say (NumPy enhancement proposal 1).
#[derive(Debug, PartialEq)]
struct Header {
    dtype: DType,
    fortran_order: bool,
    shape: Vec<usize>,
}

impl Header {
    /// The header, and its length.
    fn read(bytes: &mut impl Read) -> Result<(Self, usize), String> {
        let short = |error: std::io::Error| format!("not a NumPy array: {error}");
        let mut magic = [0; 8];
        bytes.read_exact(&mut magic).map_err(short)?;
        let [0x93, b'N', b'U', b'M', b'P', b'Y', major, _] = magic else {
            return Err("not a NumPy array".into());
        };
        let (length, before) = match major {
            1 => {
                let mut length = [0; 2];
                bytes.read_exact(&mut length).map_err(short)?;
                (usize::from(u16::from_le_bytes(length)), 10)
            }
            2 | 3 => {
                let mut length = [0; 4];
                bytes.read_exact(&mut length).map_err(short)?;
                (u32::from_le_bytes(length) as usize, 12)
            }
            other => return Err(format!(".npy version {other}, expected 1 to 3")),
        };
        if length > MAX_HEADER - before {
            return Err(format!("a header of {length} bytes"));
        }
        let mut text = vec![0; length];
        bytes.read_exact(&mut text).map_err(short)?;
        let text = String::from_utf8(text).map_err(|error| error.to_string())?;
        Ok((Self::parse(&text)?, before + length))
    }

    /// `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`.
    fn parse(text: &str) -> Result<Self, String> {
        let after = |key: &str| {
            let (_, rest) = text
                .split_once(&format!("'{key}':"))
                .ok_or_else(|| format!("no {key} in the header"))?;
            Ok::<_, String>(rest.trim_start())
        };
        let descr = after("descr")?
            .strip_prefix('\'')
            .and_then(|rest| rest.split_once('\''));
        let dtype = match descr.map(|(descr, _)| descr) {
            Some("<f8") => DType::F64,
            Some("<f4") => DType::F32,
            Some("<f2") => DType::F16,
            // NumPy has no bfloat16 and writes two opaque bytes.
            Some("|V2") => DType::BF16,
            Some("<i8") => DType::I64,
            Some("<i4") => DType::I32,
            Some(other) => return Err(format!("elements of type {other:?}")),
            None => return Err("elements of a structured type".into()),
        };
        let order = after("fortran_order")?;
        let shape = after("shape")?
            .strip_prefix('(')
            .and_then(|rest| rest.split_once(')'));
        let Some((shape, _)) = shape else {
            return Err("a shape that is no tuple".into());
        };
        let axes = shape
            .split(',')
            .map(str::trim)
            .filter(|axis| !axis.is_empty());
        let shape: Result<Vec<usize>, _> = axes.map(str::parse).collect();
        let shape = shape.map_err(|error| format!("shape: {error}"))?;
        if shape.len() > MAX_RANK {
            return Err(format!("{} axes, expected at most {MAX_RANK}", shape.len()));
        }
        Ok(Self {
            dtype,
            fortran_order: order.starts_with("True"),
            shape,
        })
    }

    fn strides(&self) -> Vec<usize> {
        if !self.fortran_order {
            return row_major(&self.shape);
        }
        let reversed: Vec<usize> = self.shape.iter().rev().copied().collect();
        row_major(&reversed).into_iter().rev().collect()
    }

    /// Bytes of all elements.
    fn size(&self) -> Option<usize> {
        let mut axes = self.shape.iter();
        axes.try_fold(self.dtype.size(), |size, &axis| size.checked_mul(axis))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn headers() {
        let parse = |text: &str| Header::parse(text);
        let header =
            parse("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n").unwrap();
        assert_eq!(
            (header.dtype, header.shape.clone()),
            (DType::F32, vec![2, 3])
        );
        assert_eq!((header.strides(), header.size()), (vec![3, 1], Some(24)));
        let header =
            parse("{'descr': '|V2', 'fortran_order': True, 'shape': (4, 5, 6), }").unwrap();
        assert_eq!(
            (header.dtype, header.strides()),
            (DType::BF16, vec![1, 4, 20])
        );
        assert_eq!(
            parse("{'descr': '<f8', 'fortran_order': False, 'shape': (), }")
                .unwrap()
                .size(),
            Some(8)
        );
        for wrong in [
            "{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }",
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': 3, }",
            "",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        let huge = "{'descr': '<f8', 'fortran_order': False, 'shape': (18446744073709551615, 2), }";
        assert_eq!(parse(huge).unwrap().size(), None);
    }
}
