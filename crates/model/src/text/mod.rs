//! Text towers: token ids → one vector.
//!
//! * [`transformer`] – OpenCLIP's native text transformer

pub mod transformer;

pub use transformer::TextTransformer;
