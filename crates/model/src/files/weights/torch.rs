//! What `torch.save` and `torch.jit.save` write: a pickle that describes tensors, and their data beside it.
//!
//! * zip archives (`NAME/data.pkl`, `NAME/data/0`, …), training checkpoints and TorchScript modules among them
//! * the stream of pickles and storages that preceded them (`_use_new_zipfile_serialization=False`)

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::dict::StateDict;
use super::error::WeightsError;
use super::pickle::{Id, MAX_PICKLE, Pickle, Reason, Refusal, Value};
use super::tensor::{DType, RawTensor, WeightsFile};
use super::zip::{Members, Span};

/// First bytes of the older stream: a pickle of PyTorch's magic number.
pub(super) const LEGACY_MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// Axes of a tensor, at most; the widest of any supported model has four.
const MAX_RANK: usize = 8;
/// Bytes of a key, at most.
const MAX_KEY: usize = 1024;
/// Depth of a TorchScript module tree, at most.
const MAX_DEPTH: usize = 64;
/// Attributes of a TorchScript module tree, at most; shared modules count each time.
const MAX_ATTRIBUTES: usize = 1 << 20;

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

/// Reads a zip archive of PyTorch.
pub(super) fn read_zip(
    file: &Arc<WeightsFile>,
    members: &Members,
    folder: &str,
) -> Result<StateDict, WeightsError> {
    let mut dict = with_zip(file, members, folder, |content| content.state_dict())?;
    dict.torchscript = is_script(members, folder);
    Ok(dict)
}

fn is_script(members: &Members, folder: &str) -> bool {
    let code = format!("{folder}code/");
    members.spans.keys().any(|name| name.starts_with(&code))
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
    let bytes = members.read(file, &format!("{folder}data.pkl"), MAX_PICKLE)?;
    let pickle = Pickle::parse(&bytes, is_script(members, folder));
    let pickle = pickle.map_err(|refusal| refused(file, refusal))?;
    let locate = |key: &str| members.stored(file, &format!("{folder}data/{key}"));
    read(&Extract {
        file,
        pickle: &pickle,
        locate: &locate,
    })
}

/// Reads a stream that starts with [`LEGACY_MAGIC`].
pub(super) fn read_legacy(file: &Arc<WeightsFile>) -> Result<StateDict, WeightsError> {
    with_legacy(file, |content| content.state_dict())
}

/// What `read` makes of a stream that starts with [`LEGACY_MAGIC`]: magic, protocol, system, object, storage keys, storages.
pub(super) fn with_legacy<T>(
    file: &Arc<WeightsFile>,
    read: impl FnOnce(&Extract<'_>) -> Result<T, WeightsError>,
) -> Result<T, WeightsError> {
    let bytes = file.read_vec(0, file.len.min(MAX_PICKLE) as usize)?;
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
    })
}

/// Names the import that makes a bare pickle dangerous, or says that it holds no weights.
pub(super) fn read_bare_pickle(file: &Arc<WeightsFile>) -> Result<StateDict, WeightsError> {
    let bytes = file.read_vec(0, file.len.min(MAX_PICKLE) as usize)?;
    let pickle = Pickle::parse(&bytes, false).map_err(|refusal| refused(file, refusal))?;
    let locate = |key: &str| Err(WeightsError::container(&file.path, key, "has no data"));
    Extract {
        file,
        pickle: &pickle,
        locate: &locate,
    }
    .state_dict()
}

/// From a parsed pickle to tensors by name.
pub(super) struct Extract<'a> {
    pub file: &'a Arc<WeightsFile>,
    pub pickle: &'a Pickle<'a>,
    locate: &'a dyn Fn(&str) -> Result<Span, WeightsError>,
}

impl Extract<'_> {
    fn state_dict(&self) -> Result<StateDict, WeightsError> {
        let mut root = self.pickle.root;
        if let Value::Dict(entries) = self.pickle.get(root)
            && let Some(inner) = self.pickle.entry(entries, "state_dict")
        {
            root = inner;
        }
        let tensors = match self.pickle.get(root) {
            Value::Dict(entries) => self.flat(entries)?,
            Value::Object(_) => self.module(root)?,
            _ => BTreeMap::new(),
        };
        if tensors.is_empty() {
            return Err(WeightsError::NoStateDict {
                file: self.file.path.clone(),
                found: self.describe(root),
            });
        }
        Ok(StateDict {
            tensors,
            ..StateDict::default()
        })
    }

    fn describe(&self, root: Id) -> String {
        let Value::Dict(entries) = self.pickle.get(root) else {
            return "something else than a dict".into();
        };
        let keys = entries
            .iter()
            .filter_map(|&(key, _)| match self.pickle.get(key) {
                Value::Str(key) => Some(key.chars().take(40).collect::<String>()),
                _ => None,
            });
        let keys: Vec<_> = keys.take(8).collect();
        format!(
            "a dict with {} entries and no tensor: {keys:?}",
            entries.len()
        )
    }

    /// The tensors of a state dict; its other values (`epoch`, extra state) are not weights.
    fn flat(&self, entries: &[(Id, Id)]) -> Result<BTreeMap<String, RawTensor>, WeightsError> {
        let mut tensors = BTreeMap::new();
        for &(key, value) in entries {
            if let (&Value::Str(key), Value::Tensor { .. }) =
                (self.pickle.get(key), self.pickle.get(value))
            {
                self.check_key(key)?;
                tensors.insert(key.to_string(), self.tensor(key, value)?);
            }
        }
        Ok(tensors)
    }

    /// The tensors of a TorchScript module tree, under the names its `state_dict()` gives them.
    ///
    /// Constants that OpenAI's archives carry as if they were weights are left out: `input_resolution`,
    /// `context_length`, `vocab_size` and the causal masks.
    fn module(&self, root: Id) -> Result<BTreeMap<String, RawTensor>, WeightsError> {
        let mut tensors = BTreeMap::new();
        let mut open = vec![(root, String::new(), 0)];
        let mut seen = 0;
        while let Some((module, prefix, depth)) = open.pop() {
            let Value::Object(Some(state)) = self.pickle.get(module) else {
                continue;
            };
            let Value::Dict(attributes) = self.pickle.get(*state) else {
                continue;
            };
            seen += attributes.len();
            if depth > MAX_DEPTH || seen > MAX_ATTRIBUTES {
                let reason = "the module tree is too deep, too wide, or contains itself";
                return Err(WeightsError::container(&self.file.path, "data.pkl", reason));
            }
            for &(name, value) in attributes {
                let Value::Str(name) = self.pickle.get(name) else {
                    continue;
                };
                let constant = match *name {
                    "input_resolution" | "context_length" | "vocab_size" => prefix.is_empty(),
                    name => name == "attn_mask",
                };
                let is_tensor = matches!(self.pickle.get(value), Value::Tensor { .. });
                if constant || !(is_tensor || matches!(self.pickle.get(value), Value::Object(_))) {
                    continue;
                }
                let key = format!("{prefix}{name}");
                self.check_key(&key)?;
                if is_tensor {
                    let tensor = self.tensor(&key, value)?;
                    tensors.insert(key, tensor);
                } else {
                    open.push((value, key + ".", depth + 1));
                }
            }
        }
        Ok(tensors)
    }

    fn bad(&self, key: &str, reason: impl Into<String>) -> WeightsError {
        WeightsError::Tensor {
            file: self.file.path.clone(),
            key: key.chars().take(MAX_KEY).collect(),
            reason: reason.into(),
        }
    }

    fn check_key(&self, key: &str) -> Result<(), WeightsError> {
        if key.len() > MAX_KEY {
            return Err(self.bad(
                key,
                format!("a key of {} bytes; expected at most {MAX_KEY}", key.len()),
            ));
        }
        Ok(())
    }

    pub fn tensor(&self, key: &str, id: Id) -> Result<RawTensor, WeightsError> {
        let &Value::Tensor {
            storage,
            offset,
            shape,
            strides,
        } = self.pickle.get(id)
        else {
            return Err(self.bad(key, "not a tensor"));
        };
        let &Value::Storage {
            key: name,
            dtype,
            numel,
        } = self.pickle.get(storage)
        else {
            return Err(self.bad(key, "has no storage"));
        };
        let offset = self.count(key, offset)?;
        let (shape, strides) = (self.axes(key, shape)?, self.axes(key, strides)?);
        let span = self.storage(key, name, dtype, numel)?;
        RawTensor::in_file(self.file, dtype, shape, strides, offset, span)
            .map_err(|reason| self.bad(key, reason))
    }

    fn storage(
        &self,
        key: &str,
        name: &str,
        dtype: DType,
        numel: i64,
    ) -> Result<Span, WeightsError> {
        let (start, held) = (self.locate)(name)?;
        let len = u64::try_from(numel)
            .ok()
            .and_then(|numel| numel.checked_mul(dtype.size() as u64));
        match len {
            Some(len) if len <= held => Ok((start, len)),
            _ => Err(self.bad(
                key,
                format!("{numel} elements of {dtype:?} declared, {held} bytes in storage {name}"),
            )),
        }
    }

    fn count(&self, key: &str, id: Id) -> Result<usize, WeightsError> {
        match self.pickle.get(id) {
            Value::Int(value) => usize::try_from(*value)
                .map_err(|_| self.bad(key, format!("{value} as an offset, length or stride"))),
            _ => Err(self.bad(key, "an offset, length or stride that is no integer")),
        }
    }

    fn axes(&self, key: &str, id: Id) -> Result<Vec<usize>, WeightsError> {
        match self.pickle.get(id) {
            Value::Tuple(axes) | Value::List(axes) if axes.len() <= MAX_RANK => {
                axes.iter().map(|&axis| self.count(key, axis)).collect()
            }
            _ => Err(self.bad(
                key,
                format!("a shape or strides that are not at most {MAX_RANK} integers"),
            )),
        }
    }
}
