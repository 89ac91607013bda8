//! Weights files in and out.
//!
//! * [`StateDict::open`] – any file that is read, recognised by its content, under the keys that it has;
//!   [`StateDict::read`] brings them into OpenCLIP's form
//! * [`TrainingCheckpoint`] – what a training checkpoint of OpenCLIP says beside its weights
//! * [`write_safetensors`], [`write_torch`] – the formats that are written
//! * [`resize`] – positional embeddings for another grid or context
//!
//! A tensor's bytes are read when they are asked for ([`RawTensor::to_f32`]); opening a file reads its index only. Nothing in a
//! file is executed, and its size bounds the memory that reading takes.

mod checkpoint;
mod dict;
mod error;
mod extract;
mod float8;
mod format;
mod npz;
mod pickle;
pub mod resize;
mod safetensors;
pub(crate) mod shards;
mod tensor;
mod tensor_out;
mod torch;
mod torch_out;
mod zip;

pub use checkpoint::{Entry, OptimizerGroup, OptimizerState, Slot, TrainingCheckpoint};
pub use dict::StateDict;
pub use error::{Difference, OtherFamily, Part, WeightsError};
pub use float8::Float8;
pub use safetensors::{CONFIG_METADATA, write_safetensors};
pub use tensor::{DType, RawTensor};
pub use tensor_out::TensorOut;
pub use torch_out::write_torch;
