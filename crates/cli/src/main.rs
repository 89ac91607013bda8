//! The `openclip` binary.
fn main() {}
