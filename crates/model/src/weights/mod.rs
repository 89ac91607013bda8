//! Weights files in and out, under OpenCLIP's keys.
//!
//! * [`StateDict::read`] – any file that is read, recognised by its content
//! * [`write_safetensors`] – the one format that is written
//! * [`keys`] – key names of other libraries, wrappers and towers turned into the model's
//! * [`resize`] – positional embeddings for another grid or context
//! * [`bind`] – a state dict into a model
//! * `encoder` – weights of a Hugging Face encoder alone
//! * `family` – whose towers the keys of a state dict are
//! * [`openai`] – the configuration that belongs to an OpenAI state dict
//!
//! A tensor's bytes are read when they are asked for ([`RawTensor::to_f32`]); opening a file reads its index only. Nothing in a
//! file is executed, and its size bounds the memory that reading takes.

pub mod bind;
pub(crate) mod encoder;
mod error;
mod family;
pub mod keys;
mod mobileclip;
mod npz;
pub mod openai;
mod pickle;
pub mod resize;
mod safetensors;
mod siglip;
mod tensor;
mod torch;

use std::collections::BTreeMap;
use std::path::Path;

pub use error::{Difference, WeightsError};
pub use family::{OtherFamily, Part};
pub use safetensors::{TensorOut, write_safetensors};
pub use tensor::{DType, RawTensor};

use tensor::WeightsFile;

/// Tensors by key, and what the file says about itself.
#[derive(Debug, Clone, Default)]
pub struct StateDict {
    /// The tensors, sorted by key.
    pub tensors: BTreeMap<String, RawTensor>,
    /// `__metadata__` of a `.safetensors` file; empty for other formats.
    pub metadata: BTreeMap<String, String>,
    torchscript: bool,
}

impl StateDict {
    /// Reads the index of a weights file and brings its keys into OpenCLIP's form ([`keys::normalise`]).
    ///
    /// The format is recognised by content: `.safetensors`; what `torch.save` writes, as a zip archive or in the older form,
    /// a bare state dict or a training checkpoint with one under `state_dict`; OpenAI's TorchScript archives; big_vision's
    /// SigLIP checkpoints (`.npz`).
    ///
    /// # Errors
    /// One of [`WeightsError`]'s variants, naming the file and what is wrong in it. A pickle that imports anything but the
    /// few names that rebuild tensors is refused by that name.
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        let file = WeightsFile::open(path)?;
        let head = file.read_vec(0, file.len.min(32) as usize)?;
        let dict = match Format::recognise(&head) {
            Format::Safetensors => safetensors::read(&file),
            Format::Zip => torch::read_zip(&file),
            Format::Legacy => torch::read_legacy(&file),
            Format::Pickle => torch::read_bare_pickle(&file),
            Format::Numpy => Err(WeightsError::Numpy {
                file: path.to_path_buf(),
            }),
            Format::Unknown(reason) => Err(WeightsError::Unrecognised {
                file: path.to_path_buf(),
                reason: reason.into(),
            }),
        }?;
        keys::normalise(dict)
    }

    /// Whether the file is a TorchScript archive, as OpenAI published its models (trained with QuickGELU).
    pub fn is_torchscript(&self) -> bool {
        self.torchscript
    }
}

enum Format {
    Safetensors,
    Zip,
    Legacy,
    /// A pickle without PyTorch's framing.
    Pickle,
    Numpy,
    /// What the file looks like instead.
    Unknown(&'static str),
}

impl Format {
    fn recognise(head: &[u8]) -> Self {
        let header_len = head
            .first_chunk()
            .map_or(u64::MAX, |len| u64::from_le_bytes(*len));
        let json = head.get(8) == Some(&b'{');
        // A short header's length can look like the start of a pickle, so it is asked for first.
        if json && header_len < 1 << 32 {
            Self::Safetensors
        } else if head.starts_with(b"PK\x03\x04") {
            Self::Zip
        } else if head.starts_with(torch::LEGACY_MAGIC) {
            Self::Legacy
        } else if matches!(head, [0x80, 0..=5, ..]) {
            Self::Pickle
        } else if json {
            Self::Safetensors
        } else if head.starts_with(b"\x93NUMPY") {
            Self::Numpy
        } else if head.starts_with(b"version https://git-lfs") {
            Self::Unknown("a Git LFS pointer, not the weights: run `git lfs pull`")
        } else if head.starts_with(b"<") {
            Self::Unknown("an HTML or XML page, not the weights")
        } else if head.is_empty() {
            Self::Unknown("an empty file")
        } else {
            Self::Unknown("no weights format has these first bytes")
        }
    }
}
