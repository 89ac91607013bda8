//! What `torch.save` and `torch.jit.save` write: a pickle that describes tensors, and their data beside it.
//!
//! * zip archives (`NAME/data.pkl`, `NAME/data/0`, …), training checkpoints and TorchScript modules among them
//! * the stream of pickles and storages that preceded them (`_use_new_zipfile_serialization=False`)

use std::collections::HashMap;
use std::sync::Arc;

use super::error::WeightsError;
use super::extract::Extract;
use super::pickle::{MAX_OPEN_PICKLE, MAX_PICKLE, Pickle, Reason, Refusal, Value};
use super::tensor::WeightsFile;
use super::zip::Members;

/// PyTorch's magic number, the first pickle of the older stream, as protocols 2 and later and as protocols before write it.
const LEGACY_MAGIC: [&[u8]; 2] = [
    b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.",
    b"L119547037146038801333356L\n.",
];

/// Whether a file that begins so is of the older stream.
pub(super) fn is_legacy(head: &[u8]) -> bool {
    // PROTO and FRAME come before the number.
    let found = |magic: &&[u8]| head.windows(magic.len()).take(12).any(|at| at == *magic);
    LEGACY_MAGIC.iter().any(found)
}

fn refused(file: &WeightsFile, refusal: Refusal) -> WeightsError {
    let (path, offset) = (file.path.clone(), refusal.offset);
    match refusal.reason {
        Reason::Forbidden(global) => WeightsError::ForbiddenGlobal {
            file: path,
            offset,
            global,
        },
        Reason::Malformed(reason) => WeightsError::Pickle {
            file: path,
            offset,
            reason,
        },
    }
}

/// Beginning of the members' names in an archive of PyTorch, whose pickle lies at its root.
pub(super) fn root(members: &Members) -> Option<&str> {
    let names = members.spans.keys();
    let pickles = names.filter_map(|name| name.strip_suffix("data.pkl"));
    let folders = pickles.filter(|folder| folder.is_empty() || folder.ends_with('/'));
    folders.min_by_key(|folder| (folder.len(), folder.to_string()))
}

/// What `read` makes of a zip archive of PyTorch.
pub(super) fn with_zip<T>(
    file: &Arc<WeightsFile>,
    members: &Members,
    folder: &str,
    read: impl FnOnce(&Extract<'_>) -> Result<T, WeightsError>,
) -> Result<T, WeightsError> {
    let byte_order = format!("{folder}byteorder");
    if members.spans.contains_key(&byte_order) && members.read(file, &byte_order, 16)? != b"little"
    {
        return Err(WeightsError::container(
            &file.path,
            &byte_order,
            "expected `little`",
        ));
    }
    let code = format!("{folder}code/");
    let torchscript = members.spans.keys().any(|name| name.starts_with(&code));
    let bytes = members.read(file, &format!("{folder}data.pkl"), MAX_PICKLE)?;
    let pickle = Pickle::parse(&bytes, torchscript).map_err(|refusal| refused(file, refusal))?;
    let locate = |key: &str| members.stored(file, &format!("{folder}data/{key}"));
    read(&Extract {
        file,
        pickle: &pickle,
        locate: &locate,
        script: torchscript,
    })
}

/// What `read` makes of a stream of the older form: magic, protocol, system, object, storage keys, storages.
pub(super) fn with_legacy<T>(
    file: &Arc<WeightsFile>,
    read: impl FnOnce(&Extract<'_>) -> Result<T, WeightsError>,
) -> Result<T, WeightsError> {
    let bytes = file.read_vec(0, file.len.min(MAX_OPEN_PICKLE) as usize)?;
    let mut position = 0;
    let mut next = || {
        let rest = bytes.get(position..).unwrap_or_default();
        let pickle = Pickle::parse(rest, false).map_err(|mut refusal| {
            refusal.offset += position;
            refused(file, refusal)
        })?;
        position += pickle.len;
        Ok(pickle)
    };
    let (_magic, protocol, _system) = (next()?, next()?, next()?);
    if !matches!(protocol.get(protocol.root), Value::Int(1001)) {
        return Err(WeightsError::container(
            &file.path,
            "header",
            "expected torch.save's protocol 1001",
        ));
    }
    let (pickle, keys) = (next()?, next()?);
    let Value::List(order) = keys.get(keys.root) else {
        return Err(WeightsError::container(
            &file.path,
            "storage keys",
            "expected a list",
        ));
    };
    let mut declared = HashMap::new();
    for value in &pickle.values {
        if let Value::Storage { key, dtype, numel } = value {
            declared.insert(*key, (*dtype, *numel));
        }
    }
    // Every storage is its number of elements and then its data.
    let mut spans = HashMap::new();
    let mut at = position as u64;
    for &key in order {
        let Some((key, &(dtype, numel))) = (match keys.get(key) {
            Value::Str(key) => declared.get_key_value(key),
            _ => None,
        }) else {
            return Err(WeightsError::container(
                &file.path,
                "storage keys",
                "a storage that no tensor has",
            ));
        };
        let part = format!("storage {key}");
        let Some(dtype) = dtype else {
            let reason = "its elements are of a kind whose size is not known; save the file again with torch.save";
            return Err(WeightsError::container(&file.path, &part, reason));
        };
        let len = u64::try_from(numel)
            .ok()
            .and_then(|numel| numel.checked_mul(dtype.size() as u64));
        let end = len.and_then(|len| at.checked_add(8)?.checked_add(len));
        let (Some(len), Some(end)) = (len, end.filter(|&end| end <= file.len)) else {
            let reason = format!(
                "{numel} elements of {dtype:?} from byte {at} on do not fit the file of {} bytes",
                file.len
            );
            return Err(WeightsError::container(&file.path, &part, reason));
        };
        let mut count = [0; 8];
        file.read_at(&mut count, at)?;
        if i64::from_le_bytes(count) != numel {
            return Err(WeightsError::container(
                &file.path,
                &part,
                "its length differs from the pickle's",
            ));
        }
        spans.insert(*key, (at + 8, len));
        at = end;
    }
    let locate = |key: &str| {
        let missing =
            || WeightsError::container(&file.path, &format!("storage {key}"), "has no data");
        spans.get(key).copied().ok_or_else(missing)
    };
    read(&Extract {
        file,
        pickle: &pickle,
        locate: &locate,
        script: false,
    })
}

/// What `read` makes of a pickle without PyTorch's framing, which has no tensor's data: an import that makes it dangerous is named.
pub(super) fn with_bare_pickle<T>(
    file: &Arc<WeightsFile>,
    read: impl FnOnce(&Extract<'_>) -> Result<T, WeightsError>,
) -> Result<T, WeightsError> {
    let bytes = file.read_vec(0, file.len.min(MAX_OPEN_PICKLE) as usize)?;
    let pickle = Pickle::parse(&bytes, false).map_err(|refusal| refused(file, refusal))?;
    let locate = |key: &str| Err(WeightsError::container(&file.path, key, "has no data"));
    read(&Extract {
        file,
        pickle: &pickle,
        locate: &locate,
        script: false,
    })
}
