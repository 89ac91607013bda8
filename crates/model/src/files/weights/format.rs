//! Which format a weights file has.

use std::path::Path;
use std::sync::Arc;

use super::dict::StateDict;
use super::error::WeightsError;
use super::extract::Extract;
use super::tensor::WeightsFile;
use super::zip::Members;
use super::{npz, safetensors, shards, torch};

/// Bytes at the start by which a format is recognised.
const HEAD: u64 = 512;

impl StateDict {
    /// Reads the index of a weights file, under the keys that it has.
    ///
    /// The format is recognised by content: `.safetensors`; what `torch.save` writes, as a zip archive or in the older form,
    /// a bare state dict, a training checkpoint with one under `state_dict`, or a whole module; OpenAI's TorchScript archives;
    /// big_vision's SigLIP checkpoints (`.npz`). A file `….index.json`, or one called `…-00001-of-00002.…`, stands for all shards
    /// of its set.
    ///
    /// # Errors
    /// One of [`WeightsError`]'s variants, naming the file and what is wrong in it. A pickle that imports what reaches the
    /// system is refused by that name.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        match shards::of(path)? {
            Some(shards) => shards.join(|shard| read(shard, STATE_DICT)),
            None => read(path, STATE_DICT),
        }
    }

    /// Reads one entry of a training checkpoint, such as `state_dict_ema`, or the tensors whose keys have a prefix, without it.
    ///
    /// # Errors
    /// Those of [`Self::open`], and [`WeightsError::NoEntry`].
    pub fn open_entry(path: &Path, entry: &str) -> Result<Self, WeightsError> {
        let whole = match shards::of(path)? {
            Some(shards) => shards.join(|shard| read(shard, EVERYTHING))?,
            None => read(path, EVERYTHING)?,
        };
        let entry = entry.trim_end_matches('.');
        let places = [format!("{entry}."), format!("state_dict.{entry}.")];
        let mut found = places.iter().map(|place| whole.under(place));
        match found.find(|dict| !dict.tensors.is_empty()) {
            Some(dict) => Ok(dict),
            None => {
                let tops = whole.tensors.keys().filter_map(|key| key.split_once('.'));
                let mut tops: Vec<_> = tops.map(|(top, _)| top.to_string()).collect();
                tops.dedup();
                tops.truncate(16);
                Err(WeightsError::NoEntry {
                    file: path.to_path_buf(),
                    entry: entry.to_string(),
                    entries: tops,
                })
            }
        }
    }
}

/// What of a pickle is read.
type Part = fn(&Extract<'_>) -> Result<StateDict, WeightsError>;

const STATE_DICT: Part = |content| content.state_dict();
const EVERYTHING: Part = |content| content.everything();

fn read(path: &Path, part: Part) -> Result<StateDict, WeightsError> {
    let file = WeightsFile::open(path)?;
    match Format::of(&file)? {
        Format::Safetensors => safetensors::read(&file),
        Format::Zip => zip(&file, part),
        Format::Legacy => torch::with_legacy(&file, part),
        Format::Pickle => torch::with_bare_pickle(&file, part),
        Format::Numpy => Err(WeightsError::Numpy {
            file: path.to_path_buf(),
        }),
        Format::Unknown(reason) => Err(unrecognised(path, reason)),
    }
}

fn zip(file: &Arc<WeightsFile>, part: Part) -> Result<StateDict, WeightsError> {
    let members = Members::list(file)?;
    if let Some(root) = torch::root(&members) {
        return torch::with_zip(file, &members, root, part);
    }
    if npz::is_archive(&members) {
        return npz::read(file, &members);
    }
    let has = |name: &str| members.spans.keys().any(|member| member.contains(name));
    let known = ARCHIVES.iter().find(|(mark, _)| has(mark));
    let reason = known.map_or("a zip archive without data.pkl", |(_, reason)| reason);
    Err(unrecognised(&file.path, reason))
}

/// Zip archives of other programs, by a part of a member's name.
const ARCHIVES: [(&str, &str); 4] = [
    (
        "model.weights.h5",
        "a Keras model, whose weights no reader here knows",
    ),
    (
        "mlmodel",
        "a Core ML model, whose weights no reader here knows",
    ),
    (
        "data/0",
        "a PyTorch archive without data.pkl; is it a TorchScript package or damaged?",
    ),
    (
        ".safetensors",
        "a zip archive around the weights: unpack it first",
    ),
];

fn unrecognised(path: &Path, reason: &str) -> WeightsError {
    WeightsError::Unrecognised {
        file: path.to_path_buf(),
        reason: reason.into(),
    }
}

pub(super) enum Format {
    Safetensors,
    Zip,
    Legacy,
    /// A pickle without PyTorch's framing.
    Pickle,
    Numpy,
    /// What the file looks like instead.
    Unknown(&'static str),
}

/// First bytes of files that hold no weights which are read, and what they are.
const OTHERS: [(&[u8], &str); 16] = [
    (
        b"version https://git-lfs",
        "a Git LFS pointer, not the weights: run `git lfs pull`",
    ),
    (
        b"GGUF",
        "a GGUF file of llama.cpp's, whose weights no reader here knows",
    ),
    (
        b"\x89HDF\r\n\x1a\n",
        "an HDF5 file, as Keras writes, whose weights no reader here knows",
    ),
    (b"\x1f\x8b", "compressed with gzip: unpack it first"),
    (b"BZh", "compressed with bzip2: unpack it first"),
    (b"\xfd7zXZ\x00", "compressed with xz: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive: unpack it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"\x89PNG", "a picture, not weights"),
    (b"\xff\xd8\xff", "a picture, not weights"),
    (b"%PDF", "a PDF, not weights"),
    (
        b"TFL3",
        "a TensorFlow Lite model, whose weights no reader here knows",
    ),
    (
        b"\x81\xa6params",
        "a MessagePack file of Flax's, whose weights no reader here knows",
    ),
    (b"{", "JSON, not weights"),
    (b"<", "an HTML or XML page, not the weights"),
];

impl Format {
    /// The format of a file, by its first bytes.
    pub(super) fn of(file: &WeightsFile) -> Result<Self, WeightsError> {
        let head = file.read_vec(0, file.len.min(HEAD) as usize)?;
        Ok(Self::recognise(&head))
    }

    fn recognise(head: &[u8]) -> Self {
        let header_len = head
            .first_chunk()
            .map_or(u64::MAX, |len| u64::from_le_bytes(*len));
        let json = head.get(8) == Some(&b'{');
        // A short header's length can look like the start of a pickle, so it is asked for first.
        if json && header_len < 1 << 32 {
            return Self::Safetensors;
        } else if head.starts_with(b"PK\x03\x04") {
            return Self::Zip;
        } else if torch::is_legacy(head) {
            return Self::Legacy;
        } else if matches!(head, [0x80, 0..=5, ..]) {
            return Self::Pickle;
        } else if json {
            return Self::Safetensors;
        } else if head.starts_with(b"\x93NUMPY") {
            return Self::Numpy;
        } else if head.is_empty() {
            return Self::Unknown("an empty file");
        }
        let text = head.trim_ascii_start();
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let known = OTHERS
            .iter()
            .find(|(magic, _)| head.starts_with(magic) || text.starts_with(magic));
        if let Some((_, reason)) = known {
            return Self::Unknown(reason);
        }
        Self::Unknown(if head.get(257..262) == Some(b"ustar") {
            "a tar archive, as PyTorch wrote before 0.1.10: unpack it, or save it again with torch.save"
        } else if head.iter().all(|&byte| byte == 0) {
            "nothing but zeros: a download that was cut off?"
        } else if is_onnx(head) {
            "an ONNX model, whose weights no reader here knows"
        } else if matches!(head, [b'(' | b'}' | b'c', ..]) {
            return Self::Pickle;
        } else if is_msgpack(head) {
            "a MessagePack file, as Flax writes, whose weights no reader here knows"
        } else if head.starts_with(b"\0\0\0\0\x02\0\0\0\0")
            || head.windows(11).any(|part| part == b"tensorflow.")
        {
            "a TensorFlow checkpoint, whose weights no reader here knows"
        } else {
            "no weights format has these first bytes"
        })
    }
}

/// A protocol buffer whose first field is the version of ONNX's format, and whose second is a string.
fn is_onnx(head: &[u8]) -> bool {
    matches!(head, [0x08, 1..=20, 0x12 | 0x3a, ..])
}

/// A map of a few entries with a string of text as its first key.
fn is_msgpack(head: &[u8]) -> bool {
    let (&[first, second], rest) = match head.split_first_chunk() {
        Some(split) => split,
        None => return false,
    };
    let key = rest.get(..usize::from(second & 0x1f)).unwrap_or_default();
    (0x81..=0x8f).contains(&first)
        && (0xa1..=0xbf).contains(&second)
        && !key.is_empty()
        && key.iter().all(|byte| byte.is_ascii_graphic())
}
