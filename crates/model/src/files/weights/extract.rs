//! From a parsed pickle to tensors by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::dict::StateDict;
use super::error::WeightsError;
use super::pickle::{Id, Pickle, Value};
use super::tensor::{DType, RawTensor, WeightsFile};
use super::zip::Span;

/// Axes of a tensor, at most; the widest of any supported model has four.
const MAX_RANK: usize = 8;
/// Bytes of a key, at most.
const MAX_KEY: usize = 1024;
/// Depth of a module tree, at most.
const MAX_DEPTH: usize = 64;
/// Depth of dicts in dicts, at most.
const MAX_NESTING: usize = 4;
/// Attributes of a module tree, at most; shared modules count each time.
const MAX_ATTRIBUTES: usize = 1 << 20;

/// Where training checkpoints keep the weights.
const STATE_DICT: &str = "state_dict";

/// Constants that OpenAI's archives carry as if they were weights, at their root.
const OPENAI_CONSTANTS: [&str; 3] = ["input_resolution", "context_length", "vocab_size"];

/// A parsed pickle, and where the data of its storages lie.
pub(super) struct Extract<'a> {
    pub file: &'a Arc<WeightsFile>,
    pub pickle: &'a Pickle<'a>,
    pub locate: &'a dyn Fn(&str) -> Result<Span, WeightsError>,
    /// Whether the objects are modules of a TorchScript archive, whose attributes are parameters and modules.
    pub script: bool,
}

/// What is still to be looked into: a value, the beginning of its keys, and how deep it lies.
type Open = (Id, String, usize);

impl Extract<'_> {
    /// Every tensor under a name of its own, whatever it is part of.
    pub fn everything(&self) -> Result<StateDict, WeightsError> {
        Ok(StateDict {
            tensors: self.collect(self.pickle.root, true)?,
            ..StateDict::default()
        })
    }

    /// The tensors of the state dict: those under `state_dict` if there is one, else of the whole.
    ///
    /// A dict with tensors in it is a state dict, and what lies deeper in it is not (`epoch`, extra state). One without is a
    /// folder of others, whose names become the beginnings of the keys.
    pub fn state_dict(&self) -> Result<StateDict, WeightsError> {
        let root = self.pickle.root;
        let inner = match self.pickle.get(root) {
            Value::Dict(entries) => self.pickle.entry(entries, STATE_DICT),
            _ => None,
        };
        let chosen = inner.unwrap_or(root);
        let tensors = self.collect(chosen, !self.has_tensors(chosen))?;
        if tensors.is_empty() {
            return Err(WeightsError::NoStateDict {
                file: self.file.path.clone(),
                found: self.describe(chosen),
            });
        }
        Ok(StateDict {
            entries: self.folders(inner.is_some()),
            openai: self.is_openai(),
            tensors,
            ..StateDict::default()
        })
    }

    /// Names of the other dicts of a training checkpoint that hold tensors.
    fn folders(&self, has_state_dict: bool) -> Vec<String> {
        let Value::Dict(entries) = self.pickle.get(self.pickle.root) else {
            return Vec::new();
        };
        let folders = entries.iter().filter_map(|&(name, value)| {
            let &Value::Str(name) = self.pickle.get(name) else {
                return None;
            };
            let other = has_state_dict && name != STATE_DICT;
            (other && name.len() <= MAX_KEY && self.has_tensors(value)).then(|| name.to_string())
        });
        folders.collect()
    }

    /// Whether a value is a dict with tensors under strings.
    fn has_tensors(&self, id: Id) -> bool {
        let is_tensor = |&(key, value): &(Id, Id)| {
            matches!(self.pickle.get(key), Value::Str(_))
                && matches!(self.pickle.get(value), Value::Tensor { .. })
        };
        match self.pickle.get(id) {
            Value::Dict(entries) => entries.iter().any(is_tensor),
            _ => false,
        }
    }

    /// Whether this is one of the archives that OpenAI published, by their constants.
    fn is_openai(&self) -> bool {
        let Some(attributes) = self.attributes(self.pickle.root) else {
            return false;
        };
        OPENAI_CONSTANTS.iter().all(|name| {
            let value = self.pickle.entry(attributes, name);
            value.is_some_and(|value| matches!(self.pickle.get(value), Value::Tensor { .. }))
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

    /// Attributes of an object.
    fn attributes(&self, id: Id) -> Option<&[(Id, Id)]> {
        let &Value::Object(Some(state)) = self.pickle.get(id) else {
            return None;
        };
        match self.pickle.get(state) {
            Value::Dict(attributes) => Some(attributes),
            _ => None,
        }
    }

    /// Names and values of what a module's `state_dict()` has: parameters, buffers and modules. Empty for another object.
    fn members(&self, module: Id, is_root: bool) -> Vec<(Id, Id)> {
        let Some(attributes) = self.attributes(module) else {
            return Vec::new();
        };
        let attribute = |name: &str| {
            let id = self.pickle.entry(attributes, name);
            id.map_or(&Value::None, |id| self.pickle.get(id))
        };
        let name_of = |id: Id| match self.pickle.get(id) {
            Value::Str(name) => *name,
            _ => "",
        };
        if let Value::Dict(modules) = attribute("_modules") {
            let dict = |name: &str| match attribute(name) {
                Value::Dict(entries) => entries.as_slice(),
                _ => &[],
            };
            let passing: Vec<_> = match attribute("_non_persistent_buffers_set") {
                Value::List(names) => names.iter().map(|&name| name_of(name)).collect(),
                _ => Vec::new(),
            };
            let buffers = dict("_buffers").iter();
            let lasting = buffers.filter(|(name, _)| !passing.contains(&name_of(*name)));
            let parameters = dict("_parameters").iter();
            return parameters.chain(lasting).chain(modules).copied().collect();
        }
        let lasts = |name: &str| match OPENAI_CONSTANTS.contains(&name) {
            true => !is_root,
            false => name != "attn_mask",
        };
        let attributes = attributes.iter().filter(|(name, _)| lasts(name_of(*name)));
        match self.script {
            true => attributes.copied().collect(),
            false => Vec::new(),
        }
    }

    /// The tensors below a value, under the names that `state_dict()` gives them; those of dicts in a dict where it is `nested`.
    fn collect(&self, root: Id, nested: bool) -> Result<BTreeMap<String, RawTensor>, WeightsError> {
        let mut tensors = BTreeMap::new();
        let mut open: Vec<Open> = vec![(root, String::new(), 0)];
        let mut seen = 0;
        while let Some((at, prefix, depth)) = open.pop() {
            let (found, limit) = match self.pickle.get(at) {
                Value::Dict(entries) => (entries.clone(), MAX_NESTING),
                Value::Object(_) => (self.members(at, prefix.is_empty()), MAX_DEPTH),
                _ => continue,
            };
            seen += found.len();
            if seen > MAX_ATTRIBUTES || (depth > limit && limit == MAX_DEPTH) {
                let reason = "the module tree is too deep, too wide, or contains itself";
                return Err(WeightsError::container(&self.file.path, "data.pkl", reason));
            }
            for (name, value) in found {
                let &Value::Str(name) = self.pickle.get(name) else {
                    continue;
                };
                let key = format!("{prefix}{name}");
                match self.pickle.get(value) {
                    Value::Tensor { .. } => {
                        self.check_key(&key)?;
                        let tensor = self.tensor(&key, value)?;
                        tensors.insert(key, tensor);
                    }
                    Value::Dict(_) if nested && depth < MAX_NESTING && key.len() < MAX_KEY => {
                        open.push((value, key + ".", depth + 1));
                    }
                    Value::Object(_) if nested || limit == MAX_DEPTH => {
                        self.check_key(&key)?;
                        open.push((value, key + ".", depth + 1));
                    }
                    _ => {}
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
            dtype: own,
        } = self.pickle.get(id)
        else {
            return Err(self.bad(key, "not a tensor"));
        };
        let &Value::Storage {
            key: name,
            dtype: Some(dtype),
            numel,
        } = self.pickle.get(storage)
        else {
            return Err(self.bad(key, "has no storage"));
        };
        let offset = self.count(key, offset)?;
        let (shape, strides) = (self.axes(key, shape)?, self.axes(key, strides)?);
        let span = self.storage(key, name, dtype, numel)?;
        RawTensor::in_file(
            self.file,
            own.unwrap_or(dtype),
            shape,
            strides,
            offset,
            span,
        )
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
