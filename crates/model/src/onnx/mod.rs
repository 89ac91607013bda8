//! The network as an ONNX file.
//!
//! Nothing here knows a family. The forward pass of the model is recorded twice on Burn's capture device, with batches of different
//! sizes: what differs between the two is the batch, which the file leaves open. Each recorded operation becomes one or a few nodes.
//!
//! * [`export`] – a model into a file
//! * `trace` – the two recordings, and which extents are a batch's
//! * `ops` – operations of Burn as nodes, by kind
//! * `builder` – nodes, constants and their names
//! * `proto` – the messages of the format
//! * `write` – the file, and the file of weights beside it where there are too many

#[cfg(feature = "onnx")]
mod builder;
#[cfg(feature = "onnx")]
mod ops;
mod part;
#[cfg(feature = "onnx")]
pub mod proto;
#[cfg(feature = "onnx")]
mod trace;
#[cfg(feature = "onnx")]
mod write;

use std::path::{Path, PathBuf};

pub use part::{MOST_WITHIN, OPSET, Part};

use crate::files::ModelError;
use crate::load::factory::Loaded;

/// Writes a model to `path`; the files that it takes come back, the model's own first.
///
/// Inputs are `image`, normalised pixels `[batch, 3, height, width]` in f32, and `text`, token ids `[batch, context_length]` in i64,
/// with batches of any size. Outputs are `image_features` and `text_features`, `[batch, embed_dim]` in f32 and of unit length, and with
/// both towers `logits_per_image`, the scaled similarities `[images, captions]`. Weights have OpenCLIP's keys as names; matrices of
/// linear layers are `[in, out]`. Configuration and preprocessing stand in the metadata, as in a `.safetensors`.
///
/// Where the weights are more than `most` bytes ([`MOST_WITHIN`]), they go to a second file, `NAME.data`.
///
/// # Errors
/// [`ModelError::Onnx`] for an operation that has no nodes here, [`ModelError::Weights`] where the file cannot be written.
pub fn export(
    loaded: &Loaded,
    part: Part,
    path: &Path,
    most: u64,
) -> Result<Vec<PathBuf>, ModelError> {
    run(loaded, part, path, most)
}

#[cfg(feature = "onnx")]
fn run(loaded: &Loaded, part: Part, path: &Path, most: u64) -> Result<Vec<PathBuf>, ModelError> {
    let failed = |reason| ModelError::Onnx {
        name: loaded.name.clone(),
        reason,
    };
    let traced = trace::trace(loaded, part).map_err(failed)?;
    let graph = ops::graph(traced).map_err(failed)?;
    Ok(write::write(loaded, graph, path, most)?)
}

#[cfg(not(feature = "onnx"))]
fn run(loaded: &Loaded, _: Part, _: &Path, _: u64) -> Result<Vec<PathBuf>, ModelError> {
    Err(ModelError::Onnx {
        name: loaded.name.clone(),
        reason: "this program is built without the feature `onnx`, which writes such files".into(),
    })
}
