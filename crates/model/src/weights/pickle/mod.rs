//! Pickles as data.
//!
//! `burn-store`'s `pytorch-reader` and `candle-core` read pickles too, but the first keeps calls to unknown globals as silent
//! opaque values and reads no TorchScript module, and the second clones nested values (so a small file can grow without
//! bound) and panics on short argument lists; hence this reader of our own. Nothing in a pickle is ever called: a stack
//! machine fills an arena of plain values, an instruction that names anything but [`Global`]'s few is an error, and every
//! table is bounded. Values refer to each other by index, so shared and cyclic structures cost nothing and cannot recurse.

mod global;
mod machine;

use super::tensor::DType;
pub(in crate::weights) use global::Global;
use machine::Machine;

/// Largest pickle that is read, in bytes. The tensors' data is not part of it; a ViT-bigG training checkpoint has about 2 MB.
pub(super) const MAX_PICKLE: u64 = 64 << 20;
/// Most values, stack slots and memo entries of one pickle.
const MAX_ITEMS: usize = 1 << 21;

/// Index of a value in [`Pickle::values`].
pub(super) type Id = u32;

/// Why a pickle was refused, and where.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Byte of the instruction.
    pub offset: usize,
    pub reason: Reason,
}

#[derive(Debug)]
pub(super) enum Reason {
    /// An import that no state dict needs, as `module.name`.
    Forbidden(String),
    /// Anything else.
    Malformed(String),
}

/// A value of a pickle. What no reader of weights asks for (floats, bytes, `None`, …) is [`Value::Opaque`].
#[derive(Debug)]
pub(super) enum Value<'a> {
    Opaque,
    Int(i64),
    Str(&'a str),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    /// Data outside the pickle: its key, element type and number of elements.
    Storage {
        key: &'a str,
        dtype: DType,
        numel: i64,
    },
    /// A view of a storage: offset, shape and strides in elements.
    Tensor {
        storage: Id,
        offset: Id,
        shape: Id,
        strides: Id,
    },
    /// A TorchScript object, and its attributes once they are set.
    Object(Option<Id>),
}

/// A parsed pickle.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    pub values: Vec<Value<'a>>,
    pub root: Id,
    /// Bytes that the pickle took.
    pub len: usize,
}

impl<'a> Pickle<'a> {
    /// Parses the pickle at the start of `bytes`; `script` allows the classes of a TorchScript archive.
    pub fn parse(bytes: &'a [u8], script: bool) -> Result<Self, Refusal> {
        let mut machine = Machine::new(bytes, script);
        loop {
            let offset = machine.position;
            let step = machine
                .step()
                .map_err(|reason| Refusal { offset, reason })?;
            if let Some(root) = step {
                return Ok(Self {
                    values: machine.values,
                    root,
                    len: machine.position,
                });
            }
        }
    }

    pub fn get(&self, id: Id) -> &Value<'a> {
        self.values.get(id as usize).unwrap_or(&Value::Opaque)
    }

    /// The entry of a dict under a string key; the last one counts, as in Python.
    pub fn entry(&self, dict: &[(Id, Id)], name: &str) -> Option<Id> {
        let found = dict
            .iter()
            .rev()
            .find(|(key, _)| matches!(self.get(*key), Value::Str(k) if *k == name));
        found.map(|&(_, value)| value)
    }
}
