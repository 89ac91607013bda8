//! The imports that a pickle names.

use crate::files::weights::float8::Float8;
use crate::files::weights::tensor::DType;

/// What a name that a pickle imports stands for. None of them is ever called.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::files::weights) enum Global {
    /// `torch._utils._rebuild_tensor` and its later versions: storage, offset, shape, strides, …. The third has the element type
    /// behind them.
    RebuildTensor,
    /// `torch._tensor._rebuild_from_type_v2`: a function, a class, the function's arguments, attributes.
    RebuildFromType,
    /// A call that stands for its first argument: `torch._utils._rebuild_parameter`, TorchScript's typed lists,
    /// a set of a list.
    FirstArgument,
    /// A dict: `collections.OrderedDict` and its relatives.
    Dict,
    /// A typed storage class of `torch`; its elements may be of a kind that is not read.
    Storage(Option<DType>),
    /// An element type of `torch`.
    Element(DType),
    /// Any other class or function, whose values lie beside weights and are never looked at.
    Other,
}

/// Modules, and names in them, with which a pickle reaches the system. No value of a checkpoint comes from there, so that a file
/// that names one is an attack on whoever unpickles it.
const DANGEROUS: [(&str, &[&str]); 44] = [
    ("os", &[]),
    ("posix", &[]),
    ("nt", &[]),
    ("sys", &[]),
    ("subprocess", &[]),
    ("shutil", &[]),
    ("socket", &[]),
    ("runpy", &[]),
    ("importlib", &[]),
    ("imp", &[]),
    ("pkgutil", &[]),
    ("pty", &[]),
    ("ctypes", &[]),
    ("pickle", &[]),
    ("_pickle", &[]),
    ("cPickle", &[]),
    ("dill", &[]),
    ("cloudpickle", &[]),
    ("marshal", &[]),
    ("code", &[]),
    ("codeop", &[]),
    ("pdb", &[]),
    ("bdb", &[]),
    ("timeit", &[]),
    ("cProfile", &[]),
    ("profile", &[]),
    ("trace", &[]),
    ("webbrowser", &[]),
    ("commands", &[]),
    ("popen2", &[]),
    ("multiprocessing", &[]),
    ("asyncio", &[]),
    ("signal", &[]),
    ("pip", &[]),
    ("pydoc", &[]),
    ("doctest", &[]),
    ("distutils", &[]),
    ("urllib", &[]),
    ("requests", &[]),
    ("http", &[]),
    ("types", &["FunctionType", "LambdaType", "CodeType"]),
    ("torch", &["load", "hub.load", "package", "ops"]),
    ("builtins", &BUILTINS),
    ("__builtin__", &BUILTINS),
];

const BUILTINS: [&str; 16] = [
    "eval",
    "exec",
    "execfile",
    "compile",
    "__import__",
    "open",
    "file",
    "input",
    "raw_input",
    "breakpoint",
    "apply",
    "globals",
    "locals",
    "vars",
    "setattr",
    "delattr",
];

fn is_dangerous(module: &str, name: &str) -> bool {
    let path = format!("{module}.{name}");
    let (top, rest) = path.split_once('.').unwrap_or((&path, ""));
    let within = |known: &&str| {
        rest.strip_prefix(*known)
            .is_some_and(|behind| behind.is_empty() || behind.starts_with('.'))
    };
    let mut known = DANGEROUS.iter().filter(|(module, _)| *module == top);
    known.any(|(_, names)| names.is_empty() || names.iter().any(within))
}

impl Global {
    /// What `module.name` stands for; `None` for what reaches the system. `script` allows the functions of a TorchScript archive.
    pub fn find(module: &str, name: &str, script: bool) -> Option<Self> {
        if is_dangerous(module, name) {
            return None;
        }
        Some(match (module, name) {
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3") => {
                Self::RebuildTensor
            }
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                Self::FirstArgument
            }
            ("builtins" | "__builtin__", "set" | "frozenset") => Self::FirstArgument,
            ("torch._tensor", "_rebuild_from_type_v2") => Self::RebuildFromType,
            ("collections", "OrderedDict" | "defaultdict" | "Counter") => Self::Dict,
            ("torch" | "torch.storage", "UntypedStorage") => Self::Storage(Some(DType::U8)),
            ("torch" | "torch.storage", name) => match name.strip_suffix("Storage") {
                Some(kind) => Self::Storage(storage(kind)),
                None => element(name).map_or(Self::Other, Self::Element),
            },
            (
                "torch.jit._pickle",
                "build_intlist" | "build_doublelist" | "build_boollist" | "build_tensorlist"
                | "restore_type_tag",
            ) if script => Self::FirstArgument,
            _ => Self::Other,
        })
    }
}

/// The element type of a storage class.
fn storage(kind: &str) -> Option<DType> {
    Some(match kind {
        "Double" => DType::F64,
        "Float" => DType::F32,
        "Half" => DType::F16,
        "BFloat16" => DType::BF16,
        "Long" => DType::I64,
        "Int" => DType::I32,
        "Short" => DType::I16,
        "Char" => DType::I8,
        "Byte" => DType::U8,
        "Bool" => DType::Bool,
        // Quantized numbers lie in their storages as whole ones.
        "QInt8" => DType::I8,
        "QUInt8" => DType::U8,
        "QInt32" => DType::I32,
        "ComplexHalf" => DType::C32,
        "ComplexFloat" => DType::C64,
        "ComplexDouble" => DType::C128,
        _ => return None,
    })
}

/// The element type that PyTorch calls so.
fn element(name: &str) -> Option<DType> {
    Some(match name {
        "float64" => DType::F64,
        "float32" => DType::F32,
        "float16" => DType::F16,
        "bfloat16" => DType::BF16,
        "float8_e4m3fn" => DType::F8(Float8::E4M3),
        "float8_e5m2" => DType::F8(Float8::E5M2),
        "float8_e4m3fnuz" => DType::F8(Float8::E4M3Fnuz),
        "float8_e5m2fnuz" => DType::F8(Float8::E5M2Fnuz),
        "float8_e8m0fnu" => DType::F8(Float8::E8M0),
        "int64" => DType::I64,
        "int32" => DType::I32,
        "int16" => DType::I16,
        "int8" => DType::I8,
        "uint64" => DType::U64,
        "uint32" => DType::U32,
        "uint16" => DType::U16,
        "uint8" => DType::U8,
        "bool" => DType::Bool,
        "complex32" => DType::C32,
        "complex64" => DType::C64,
        "complex128" => DType::C128,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reaches_the_system_is_refused_and_other_classes_are_not() {
        for (module, name) in [
            ("os", "system"),
            ("os.path", "join"),
            ("posix", "system"),
            ("builtins", "exec"),
            ("__builtin__", "eval"),
            ("torch.hub", "load"),
            ("torch", "hub.load"),
            ("types", "FunctionType"),
        ] {
            assert_eq!(Global::find(module, name, true), None, "{module}.{name}");
        }
        for (module, name) in [
            ("argparse", "Namespace"),
            ("builtins", "complex"),
            ("builtins", "getattr"),
            ("datetime", "datetime"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("pathlib", "PosixPath"),
            ("types", "SimpleNamespace"),
            ("__main__", "Config"),
            ("torch", "device"),
            ("open_clip.model", "CLIP"),
        ] {
            let found = Global::find(module, name, false);
            assert_eq!(found, Some(Global::Other), "{module}.{name}");
        }
    }
}
