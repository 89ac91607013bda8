//! The imports a pickle may name.

use crate::files::weights::tensor::DType;

/// The only names a pickle may import.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::files::weights) enum Global {
    /// `torch._utils._rebuild_tensor` and `_rebuild_tensor_v2`: storage, offset, shape, strides, ….
    RebuildTensor,
    /// A call that stands for its first argument: `torch._utils._rebuild_parameter`, TorchScript's typed lists.
    FirstArgument,
    /// `collections.OrderedDict`.
    OrderedDict,
    /// A typed storage class of `torch`.
    Storage(DType),
    /// A class of a TorchScript archive's own code; its objects are bags of attributes.
    ScriptClass,
    /// Harmless values that lie beside weights in training checkpoints and are never looked at.
    Ignored,
}

impl Global {
    /// What `module.name` stands for; `script` allows the classes of a TorchScript archive.
    pub fn find(module: &str, name: &str, script: bool) -> Option<Self> {
        let storage = |dtype| Some(Self::Storage(dtype));
        match (module, name) {
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Some(Self::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => Some(Self::FirstArgument),
            ("collections", "OrderedDict") => Some(Self::OrderedDict),
            ("torch", "DoubleStorage") => storage(DType::F64),
            ("torch", "FloatStorage") => storage(DType::F32),
            ("torch", "HalfStorage") => storage(DType::F16),
            ("torch", "BFloat16Storage") => storage(DType::BF16),
            ("torch", "LongStorage") => storage(DType::I64),
            ("torch", "IntStorage") => storage(DType::I32),
            ("torch", "ShortStorage") => storage(DType::I16),
            ("torch", "CharStorage") => storage(DType::I8),
            ("torch", "ByteStorage") => storage(DType::U8),
            ("torch", "BoolStorage") => storage(DType::Bool),
            (
                "torch",
                "Size" | "device" | "float32" | "float16" | "bfloat16" | "float64" | "int64",
            )
            | ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar")
            | ("numpy", "dtype")
            | ("_codecs", "encode") => Some(Self::Ignored),
            (
                "torch.jit._pickle",
                "build_intlist" | "build_doublelist" | "build_boollist" | "build_tensorlist"
                | "restore_type_tag",
            ) if script => Some(Self::FirstArgument),
            _ if script && (module == "__torch__" || module.starts_with("__torch__.")) => {
                Some(Self::ScriptClass)
            }
            _ => None,
        }
    }
}
