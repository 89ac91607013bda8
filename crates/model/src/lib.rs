//! What a contrastive image–text network computes, and how its weights are read and written.
//!
//! Bottom up, each room knows those before it alone:
//!
//! * [`files`] – what lies on the disk or on the hub: configurations, tags, weights files
//! * [`layers`] – the pieces that towers are built from
//! * [`family`] – the questions that a family of towers answers
//! * [`vision`], [`text`] – the families, one folder each
//! * [`network`] – the model: [`Clip`], captions, parameters under OpenCLIP's keys
//! * [`load`] – name and weights → ready model
//! * [`onnx`] – the model as an ONNX file
//!
//! [`device`] knows what `--device` names stand for. What other crates use most lies at the root as well.

pub mod device;
pub mod family;
pub mod files;
pub mod layers;
pub mod load;
pub mod network;
pub mod onnx;
pub mod panics;
pub mod text;
pub mod vision;

#[doc(no_inline)]
pub use files::{ModelError, config, hub, pretrained, registry, weights};
#[doc(no_inline)]
pub use load::factory;
#[doc(no_inline)]
pub use network::{
    Clip, ClipOutput, clip, coca, depth, finite, generate, init, l2_normalize, lock, loss, params,
    pixels, profile,
};
