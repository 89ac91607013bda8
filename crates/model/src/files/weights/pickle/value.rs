//! What a pickle is read into.

use super::global::Global;
use crate::files::weights::tensor::DType;

/// Largest pickle that is read, in bytes. The tensors' data is not part of it; a ViT-bigG training checkpoint has about 2 MB.
pub(in crate::files::weights) const MAX_PICKLE: u64 = 64 << 20;
/// Most values, stack slots and memo entries of one pickle.
pub(super) const MAX_ITEMS: usize = 1 << 21;

/// Index of a value in [`Pickle::values`](super::Pickle::values).
pub(in crate::files::weights) type Id = u32;

/// Why a pickle was refused, and where.
#[derive(Debug)]
pub(in crate::files::weights) struct Refusal {
    /// Byte of the instruction.
    pub offset: usize,
    pub reason: Reason,
}

#[derive(Debug)]
pub(in crate::files::weights) enum Reason {
    /// An import that no state dict needs, as `module.name`.
    Forbidden(String),
    /// Anything else.
    Malformed(String),
}

/// A value of a pickle. What no reader of weights asks for (bytes, `None`, …) is [`Value::Opaque`].
#[derive(Debug)]
pub(in crate::files::weights) enum Value<'a> {
    Opaque,
    Bool(bool),
    Int(i64),
    Float(f64),
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
