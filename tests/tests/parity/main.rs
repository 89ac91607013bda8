//! Models against `open_clip` and what it stands on: values, gradients, files, initial weights, configurations.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod captions;
mod checkpoints;
mod clip_benchmark;
mod coca;
mod context;
mod convnext;
mod edges;
mod eva;
mod families;
mod hftext;
mod init;
mod int8;
mod loading;
mod locking;
mod mobileclip;
mod models;
#[cfg(feature = "onnx")]
mod onnx;
mod pretrained_image;
mod recompute;
mod reference_outputs;
mod registry;
mod regression;
mod resnet;
mod siglip;
mod timm_towers;
mod vitamin;
mod weights;
