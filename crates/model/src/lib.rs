//! What a contrastive image–text network computes, and how its weights are read and written.
//!
//! * [`files`] – what lies on the disk or on the hub
//! * [`config`] – the OpenCLIP JSON schema and the preprocessing that belongs to a set of weights
//! * [`registry`] – built-in configurations by name, and `local-dir:` folders
//! * [`layers`], [`vision`], [`text`], [`clip`] – the network itself
//! * [`custom`] – functions whose derivative is written by hand
//! * [`coca`], [`generate`] – captions: the decoder's logits, beam search and sampling
//! * [`hub`] – files of the Hugging Face hub and of plain addresses
//! * [`init`] – weights of a model trained from scratch
//! * [`params`] – parameters under OpenCLIP's key names
//! * [`pretrained`] – tags of published weights
//! * [`profile`] – parameters and operations of a model
//! * [`pixels`] – decoded pictures and token ids onto the device
//! * [`weights`] – checkpoint files
//! * [`factory`] – name and weights → ready model
//! * [`depth`], [`lock`] – the layers of a tower in order, and freezing
//! * [`device`] – `--device` names

pub mod clip;
pub mod coca;
pub mod config;
pub mod custom;
pub mod depth;
pub mod device;
mod error;
pub mod factory;
pub mod files;
pub mod generate;
pub mod hub;
pub mod init;
pub mod layers;
pub mod lock;
pub mod loss;
pub mod params;
pub mod pixels;
pub mod pretrained;
pub mod profile;
pub mod registry;
pub mod text;
pub mod vision;
pub mod weights;

pub use clip::{Clip, ClipOutput, l2_normalize};
pub use error::ModelError;
