//! Image towers: pixels → one vector and the tokens behind it.
//!
//! * [`vit`] – OpenCLIP's native vision transformer

pub mod vit;

pub use vit::VisionTransformer;
