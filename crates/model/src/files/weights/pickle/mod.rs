//! Pickles as data.
//!
//! `burn-store`'s `pytorch-reader` and `candle-core` read pickles too, but the first reads no TorchScript module, and the second
//! clones nested values (so a small file can grow without bound) and panics on short argument lists; hence this reader of our
//! own. Nothing in a pickle is ever called: a stack machine fills an arena of plain values, in which an object of an unknown
//! class is just that. An import that reaches the system is an error all the same, since the file is an attack. Every table is
//! bounded. Values refer to each other by index, so shared and cyclic structures cost nothing and cannot recurse.

mod calls;
mod cursor;
mod global;
mod literal;
mod machine;
mod parse;
mod value;

pub(super) use parse::Pickle;
pub(super) use value::{Id, MAX_OPEN_PICKLE, MAX_PICKLE, Reason, Refusal, Value};
