//! Which format a weights file has.

use std::path::Path;

use super::dict::StateDict;
use super::error::WeightsError;
use super::tensor::WeightsFile;
use super::zip::Members;
use super::{npz, safetensors, torch};

impl StateDict {
    /// Reads the index of a weights file, under the keys that it has.
    ///
    /// The format is recognised by content: `.safetensors`; what `torch.save` writes, as a zip archive or in the older form,
    /// a bare state dict or a training checkpoint with one under `state_dict`; OpenAI's TorchScript archives; big_vision's
    /// SigLIP checkpoints (`.npz`).
    ///
    /// # Errors
    /// One of [`WeightsError`]'s variants, naming the file and what is wrong in it. A pickle that imports anything but the
    /// few names that rebuild tensors is refused by that name.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let file = WeightsFile::open(path)?;
        let head = file.read_vec(0, file.len.min(32) as usize)?;
        match Format::recognise(&head) {
            Format::Safetensors => safetensors::read(&file),
            Format::Zip => {
                let members = Members::list(&file)?;
                match torch::root(&members) {
                    Some(root) => torch::read_zip(&file, &members, root),
                    None if npz::is_archive(&members) => npz::read(&file, &members),
                    None => Err(WeightsError::Unrecognised {
                        file: path.to_path_buf(),
                        reason: "a zip archive without data.pkl".into(),
                    }),
                }
            }
            Format::Legacy => torch::read_legacy(&file),
            Format::Pickle => torch::read_bare_pickle(&file),
            Format::Numpy => Err(WeightsError::Numpy {
                file: path.to_path_buf(),
            }),
            Format::Unknown(reason) => Err(WeightsError::Unrecognised {
                file: path.to_path_buf(),
                reason: reason.into(),
            }),
        }
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
