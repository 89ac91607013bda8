//! What lies on the disk or on the hub; nothing here knows a tensor of Burn or a network.
//!
//! * [`atomic`] – files that are whole or not there
//! * [`config`] – OpenCLIP's JSON schema and the preprocessing that belongs to a set of weights
//! * [`registry`] – built-in configurations by name, `local-dir:` folders and `hf-hub:` repositories
//! * [`folder`] – which files of a folder are a model's weights and description
//! * [`transformers`] – Hugging Face's descriptions of a CLIP or SigLIP
//! * [`pretrained`] – tags of published weights
//! * [`hub`] – files of the Hugging Face hub and of plain addresses
//! * `config_file` – JSON files, with the file in every error
//! * [`weights`] – readers of weights files, each under the keys that it has; the writer of `.safetensors`

pub mod atomic;
pub mod config;
pub(crate) mod config_file;
mod error;
pub mod folder;
pub mod hub;
pub mod pretrained;
pub mod registry;
pub mod transformers;
pub mod weights;

pub use error::ModelError;
