//! What a file has, and its limits.

/// Version of the operators that a file uses.
pub const OPSET: i64 = 17;
/// Bytes of weights that a file holds itself; protocol buffers end at 2 GiB.
pub const MOST_WITHIN: u64 = 2_000_000_000;

/// Which towers a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `image` → `image_features`.
    Image,
    /// `text` → `text_features`.
    Text,
    /// Both, with `logits_per_image`.
    Both,
}
