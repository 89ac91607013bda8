//! What a pickle is read into.

use super::global::Global;
use crate::files::weights::tensor::DType;

/// Largest pickle that is read, in bytes. The tensors' data is not part of it, but NumPy's arrays are; a ViT-bigG training
/// checkpoint has about 2 MB.
pub(in crate::files::weights) const MAX_PICKLE: u64 = 512 << 20;
/// The same for the older form, of which so many bytes are read at once since nothing says where the pickle ends.
pub(in crate::files::weights) const MAX_OPEN_PICKLE: u64 = 64 << 20;
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
    /// An import that reaches the system, as `module.name`.
    Forbidden(String),
    /// Anything else.
    Malformed(String),
}

/// A value of a pickle. What no reader asks for (bytes, very long integers, text that is no Unicode) is [`Value::Opaque`].
#[derive(Debug)]
pub(in crate::files::weights) enum Value<'a> {
    Opaque,
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(&'a str),
    Tuple(Vec<Id>),
    /// A list or a set.
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    /// Data outside the pickle: its key, element type and number of elements.
    Storage {
        key: &'a str,
        dtype: Option<DType>,
        numel: i64,
    },
    /// A view of a storage: offset, shape and strides in elements, and the type of the elements where it is not the storage's.
    Tensor {
        storage: Id,
        offset: Id,
        shape: Id,
        strides: Id,
        dtype: Option<DType>,
    },
    /// An object of a class that is not known, and its attributes once they are set.
    Object(Option<Id>),
}
