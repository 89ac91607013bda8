//! `.safetensors`: a JSON header and the tensors' bytes.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use safetensors::tensor::{Dtype, Metadata};
use serde::Serialize;

use super::dict::StateDict;
use super::error::WeightsError;
use super::float8::Float8;
use super::tensor::{DType, RawTensor, WeightsFile, row_major};
use super::tensor_out::TensorOut;
use crate::files::atomic::AtomicFile;

/// Metadata key of a file that holds `open_clip_config.json`.
pub const CONFIG_METADATA: &str = "open_clip_config";

/// Largest header in bytes; the limit of the format's own library.
const MAX_HEADER: u64 = 100_000_000;
/// Bytes before the header: its length.
const PREFIX: u64 = 8;

fn bad_header(file: &Path, reason: impl Into<String>) -> WeightsError {
    WeightsError::container(file, "safetensors header", reason)
}

/// Reads the header; the tensors' bytes stay in the file.
pub(super) fn read(file: &Arc<WeightsFile>) -> Result<StateDict, WeightsError> {
    let bad = |reason: String| bad_header(&file.path, reason);
    let mut prefix = [0; PREFIX as usize];
    file.read_at(&mut prefix, 0)?;
    let len = u64::from_le_bytes(prefix);
    if len > MAX_HEADER || len > file.len - PREFIX {
        return Err(bad(format!(
            "declares {len} bytes, the file has {}",
            file.len
        )));
    }
    let json = file.read_vec(PREFIX, len as usize)?;
    // Deserialising also checks that the tensors lie end to end and that each has its shape's bytes.
    let header: Metadata = serde_json::from_slice(&json).map_err(|error| bad(error.to_string()))?;
    let data = PREFIX + len;
    let held = file.len - data;
    if header.data_len() as u64 != held {
        return Err(bad(format!(
            "declares {} bytes of tensors, the file has {held}",
            header.data_len()
        )));
    }
    let mut dict = StateDict::default();
    for (key, info) in header.tensors() {
        let tensor = |reason: String| WeightsError::Tensor {
            file: file.path.clone(),
            key: key.clone(),
            reason,
        };
        let (_, dtype) = *TYPES
            .iter()
            .find(|(name, _)| *name == info.dtype)
            .ok_or_else(|| tensor(format!("element type {} is not read", info.dtype)))?;
        let (start, end) = info.data_offsets;
        let span = (data + start as u64, (end - start) as u64);
        let shape = info.shape.clone();
        let strides = row_major(&shape);
        let raw = RawTensor::in_file(file, dtype, shape, strides, 0, span).map_err(tensor)?;
        dict.tensors.insert(key, raw);
    }
    dict.metadata
        .extend(header.metadata().clone().unwrap_or_default());
    Ok(dict)
}

/// Element types of the format, and ours. It has none for two kinds of complex numbers.
const TYPES: [(Dtype, DType); 19] = [
    (Dtype::F64, DType::F64),
    (Dtype::F32, DType::F32),
    (Dtype::F16, DType::F16),
    (Dtype::BF16, DType::BF16),
    (Dtype::I64, DType::I64),
    (Dtype::I32, DType::I32),
    (Dtype::I16, DType::I16),
    (Dtype::I8, DType::I8),
    (Dtype::U8, DType::U8),
    (Dtype::BOOL, DType::Bool),
    (Dtype::U64, DType::U64),
    (Dtype::U32, DType::U32),
    (Dtype::U16, DType::U16),
    (Dtype::C64, DType::C64),
    (Dtype::F8_E4M3, DType::F8(Float8::E4M3)),
    (Dtype::F8_E5M2, DType::F8(Float8::E5M2)),
    (Dtype::F8_E4M3FNUZ, DType::F8(Float8::E4M3Fnuz)),
    (Dtype::F8_E5M2FNUZ, DType::F8(Float8::E5M2Fnuz)),
    (Dtype::F8_E8M0, DType::F8(Float8::E8M0)),
];

#[derive(Serialize)]
#[serde(untagged)]
enum Header<'a> {
    Metadata(&'a BTreeMap<String, String>),
    Tensor {
        dtype: Dtype,
        shape: &'a [usize],
        data_offsets: [usize; 2],
    },
}

/// Writes `tensors` to `path`, which afterwards is either complete or what it was before.
///
/// Equal tensors and metadata give equal bytes, whatever the order they come in. `format: pt`, which Python's loaders ask
/// for, is added to the metadata unless it is there.
///
/// # Errors
/// [`WeightsError::Io`] when the folder cannot be written; [`WeightsError::Tensor`] for a key that comes twice or bytes
/// that do not fit the shape.
pub fn write_safetensors<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = TensorOut<'a>>,
    metadata: &BTreeMap<String, String>,
) -> Result<(), WeightsError> {
    let mut tensors: Vec<_> = tensors.into_iter().collect();
    // Wide elements first, so that each tensor starts at a multiple of its element's size.
    tensors.sort_by(|a, b| b.dtype.size().cmp(&a.dtype.size()).then(a.key.cmp(b.key)));
    let mut metadata = metadata.clone();
    metadata
        .entry("format".into())
        .or_insert_with(|| "pt".into());
    let mut header = BTreeMap::from([("__metadata__", Header::Metadata(&metadata))]);
    let mut end = 0;
    for tensor in &tensors {
        let bad = |reason: String| WeightsError::Tensor {
            file: path.to_path_buf(),
            key: tensor.key.to_string(),
            reason,
        };
        tensor.check(path)?;
        let start = end;
        end += tensor.bytes.len();
        let entry = Header::Tensor {
            dtype: TYPES
                .iter()
                .find(|(_, dtype)| *dtype == tensor.dtype)
                .map(|(name, _)| *name)
                .ok_or_else(|| bad(format!("{:?} cannot be written", tensor.dtype)))?,
            shape: tensor.shape,
            data_offsets: [start, end],
        };
        if header.insert(tensor.key, entry).is_some() {
            return Err(bad("the key comes twice".into()));
        }
    }
    let mut json =
        serde_json::to_vec(&header).map_err(|error| bad_header(path, error.to_string()))?;
    json.resize(json.len().next_multiple_of(8), b' ');
    let blocks = tensors.iter().map(|tensor| tensor.bytes.as_ref());
    let write = || {
        let mut file = AtomicFile::create(path)?;
        file.write_all(&(json.len() as u64).to_le_bytes())?;
        file.write_all(&json)?;
        for block in blocks {
            file.write_all(block)?;
        }
        file.finish()
    };
    write().map_err(|source| WeightsError::Io {
        file: path.to_path_buf(),
        source,
    })
}
