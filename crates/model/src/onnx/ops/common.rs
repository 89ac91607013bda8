//! What several kinds of operations say.

use super::super::builder::Set;

/// Words on an operation that has no nodes here.
pub(super) fn unknown(operation: &impl std::fmt::Debug) -> String {
    let text = format!("{operation:?}");
    let name = text.split(['{', ' ']).next().unwrap_or_default();
    format!(
        "its operation {} is not written as ONNX",
        name.trim_end_matches('(')
    )
}

/// An axis as a setting.
pub(super) fn axis(axis: usize) -> [(&'static str, Set<'static>); 1] {
    [("axis", Set::Int(axis as i64))]
}
