//! Captions to token ids.
#![allow(missing_docs)]
pub trait Tokenizer: Send + Sync { fn context_length(&self) -> usize; fn tokenize(&self, text: &str) -> Vec<i32>; }
