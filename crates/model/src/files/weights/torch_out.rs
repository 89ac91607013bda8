//! The writer of what `torch.save` writes: a zip archive with a pickle that describes tensors, and a member for each one's bytes.

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::Path;

use rawzip::extra_fields::ExtraFieldId;
use rawzip::{Header, ZipArchiveWriter};

use super::error::WeightsError;
use super::tensor::{DType, row_major};
use super::tensor_out::TensorOut;
use crate::files::atomic::AtomicFile;

/// Folder of all members; any name would do.
const ROOT: &str = "archive";
/// Where the bytes of tensors begin, so that they can be mapped: at multiples of this, as PyTorch has it.
const ALIGNMENT: u64 = 64;
/// Bytes of a member's header before its name.
const LOCAL_HEADER: u64 = 30;
/// The extra field in which PyTorch pads, and the bytes of its own header.
const PADDING: (u16, u64) = (0x4246, 4);

/// Writes `tensors`, a plain state dict, to `path`, which afterwards is either complete or what it was before.
///
/// `torch.load(path, weights_only=True)` gives a dict with the keys in this order. Equal tensors give equal bytes.
///
/// # Errors
/// [`WeightsError::Io`] when the folder cannot be written; [`WeightsError::Tensor`] for a key that comes twice, bytes that do
/// not fit the shape, or an element type without a storage in PyTorch.
pub fn write_torch<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = TensorOut<'a>>,
) -> Result<(), WeightsError> {
    let tensors: Vec<_> = tensors.into_iter().collect();
    let mut keys = HashSet::new();
    let mut pickle = Pickle::new();
    for (number, tensor) in tensors.iter().enumerate() {
        tensor.check(path)?;
        let bad = |reason: String| WeightsError::Tensor {
            file: path.to_path_buf(),
            key: tensor.key.to_string(),
            reason,
        };
        if !keys.insert(tensor.key) {
            return Err(bad("the key comes twice".into()));
        }
        let unknown = || bad(format!("{:?} cannot be written", tensor.dtype));
        let storage = storage(tensor.dtype).ok_or_else(unknown)?;
        pickle.tensor(number, tensor, storage);
    }
    let pickle = pickle.finish();
    let write = || {
        let mut archive = ZipArchiveWriter::new(AtomicFile::create(path)?);
        member(&mut archive, "data.pkl", &pickle)?;
        member(&mut archive, "byteorder", b"little")?;
        for (number, tensor) in tensors.iter().enumerate() {
            member(&mut archive, &format!("data/{number}"), &tensor.bytes)?;
        }
        member(&mut archive, "version", b"3\n")?;
        archive.finish().map_err(io::Error::other)?.finish()
    };
    write().map_err(|source| WeightsError::Io {
        file: path.to_path_buf(),
        source,
    })
}

/// Adds a member, whose bytes begin at a multiple of [`ALIGNMENT`].
fn member(archive: &mut ZipArchiveWriter<AtomicFile>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let name = format!("{ROOT}/{name}");
    let (id, own) = PADDING;
    let start = archive.stream_offset() + LOCAL_HEADER + name.len() as u64 + own;
    let padding = vec![b'Z'; (start.next_multiple_of(ALIGNMENT) - start) as usize];
    let (mut entry, config) = archive
        .new_file(&*name)
        .extra_field(ExtraFieldId::new(id), &padding, Header::LOCAL)
        .and_then(|file| file.start())
        .map_err(io::Error::other)?;
    let mut writer = config.wrap(&mut entry);
    writer.write_all(bytes)?;
    let (_, descriptor) = writer.finish().map_err(io::Error::other)?;
    entry.finish(descriptor).map_err(io::Error::other)?;
    Ok(())
}

/// PyTorch's class of a storage of such elements.
fn storage(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::F64 => "DoubleStorage",
        DType::F32 => "FloatStorage",
        DType::F16 => "HalfStorage",
        DType::BF16 => "BFloat16Storage",
        DType::I64 => "LongStorage",
        DType::I32 => "IntStorage",
        DType::I16 => "ShortStorage",
        DType::I8 => "CharStorage",
        DType::U8 => "ByteStorage",
        DType::Bool => "BoolStorage",
        _ => return None,
    })
}

/// A pickle of protocol 2 that makes a dict of tensors.
struct Pickle(Vec<u8>);

impl Pickle {
    fn new() -> Self {
        // PROTO 2, EMPTY_DICT, MARK
        Self(b"\x80\x02}(".to_vec())
    }

    /// SETITEMS, STOP
    fn finish(mut self) -> Vec<u8> {
        self.0.extend(b"u.");
        self.0
    }

    /// `key: _rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())`, where the storage is the `number`-th member.
    fn tensor(&mut self, number: usize, tensor: &TensorOut<'_>, storage: &str) {
        self.text(tensor.key);
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.0.extend(b"((");
        self.text("storage");
        self.global("torch", storage);
        self.text(&number.to_string());
        self.text("cpu");
        self.integer(tensor.bytes.len() / tensor.dtype.size());
        // TUPLE, BINPERSID
        self.0.extend(b"tQ");
        self.integer(0);
        self.integers(tensor.shape);
        self.integers(&row_major(tensor.shape));
        // NEWFALSE
        self.0.push(0x89);
        self.global("collections", "OrderedDict");
        // EMPTY_TUPLE, REDUCE; TUPLE, REDUCE
        self.0.extend(b")RtR");
    }

    fn global(&mut self, module: &str, name: &str) {
        self.0.extend(format!("c{module}\n{name}\n").bytes());
    }

    fn text(&mut self, text: &str) {
        self.0.push(b'X');
        self.0.extend((text.len() as u32).to_le_bytes());
        self.0.extend(text.bytes());
    }

    fn integers(&mut self, numbers: &[usize]) {
        self.0.push(b'(');
        for number in numbers {
            self.integer(*number);
        }
        self.0.push(b't');
    }

    /// BININT, or LONG1 with a sign byte for what has no 31 bits.
    fn integer(&mut self, number: usize) {
        match i32::try_from(number) {
            Ok(number) => {
                self.0.push(b'J');
                self.0.extend(number.to_le_bytes());
            }
            Err(_) => {
                self.0.extend([0x8a, 9]);
                self.0.extend((number as u64).to_le_bytes());
                self.0.push(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::files::weights::StateDict;

    fn out<'a>(key: &'a str, dtype: DType, shape: &'a [usize], bytes: &'a [u8]) -> TensorOut<'a> {
        TensorOut {
            key,
            dtype,
            shape,
            bytes: bytes.into(),
        }
    }

    #[test]
    fn every_type_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.pt");
        let bytes: Vec<u8> = (0..48).collect();
        let types = [
            DType::F64,
            DType::F32,
            DType::F16,
            DType::BF16,
            DType::I64,
            DType::I32,
            DType::I16,
            DType::I8,
            DType::U8,
        ];
        let names: Vec<_> = types.iter().map(|dtype| format!("{dtype:?}")).collect();
        let tensors = names.iter().zip(types).map(|(name, dtype)| {
            let shape: &[usize] = match dtype.size() {
                8 => &[3, 2],
                4 => &[3, 2, 2],
                2 => &[24],
                _ => &[3, 16],
            };
            out(name, dtype, shape, &bytes)
        });
        let scalar = out("scalar", DType::Bool, &[], &bytes[1..2]);
        write_torch(&path, tensors.chain([scalar])).unwrap();
        let dict = StateDict::open(&path).unwrap();
        assert_eq!(dict.tensors.len(), 10);
        for (name, dtype) in names.iter().zip(types) {
            let tensor = &dict.tensors[name];
            assert_eq!(tensor.dtype, dtype);
            assert_eq!(tensor.to_bytes().unwrap(), bytes, "{name}");
        }
        assert_eq!(dict.tensors["scalar"].shape, Vec::<usize>::new());
        assert_eq!(dict.tensors["scalar"].to_bytes().unwrap(), [1]);
    }

    #[test]
    fn data_begins_at_multiples_of_sixty_four() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.pt");
        let marked: Vec<Vec<u8>> = (0..12).map(|i| vec![200 + i; 7 + usize::from(i)]).collect();
        let keys: Vec<String> = (0..12).map(|i| format!("k{i}")).collect();
        let shapes: Vec<[usize; 1]> = marked.iter().map(|bytes| [bytes.len()]).collect();
        let tensors = keys.iter().zip(&shapes).zip(&marked);
        let tensors = tensors.map(|((key, shape), bytes)| out(key, DType::U8, shape, bytes));
        write_torch(&path, tensors).unwrap();
        let file = std::fs::read(&path).unwrap();
        for bytes in &marked {
            let found = file.windows(bytes.len()).position(|window| window == bytes);
            assert_eq!(found.unwrap() % 64, 0);
        }
    }

    #[test]
    fn what_is_no_state_dict_is_refused_by_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.pt");
        let one = || out("a", DType::U8, &[1], &[7]);
        for (tensors, reason) in [
            (vec![one(), one()], "twice"),
            (vec![out("a", DType::F32, &[1], &[7])], "does not fit"),
            (vec![out("a", DType::U16, &[1], &[7, 7])], "U16"),
        ] {
            let error = write_torch(&path, tensors).unwrap_err().to_string();
            assert!(error.contains("`a`") && error.contains(reason), "{error}");
        }
        assert!(!path.exists());
    }

    #[test]
    fn long_counts_take_nine_bytes() {
        let mut pickle = Pickle(Vec::new());
        pickle.integer(1 << 31);
        assert_eq!(pickle.0, [0x8a, 9, 0, 0, 0, 128, 0, 0, 0, 0, 0]);
    }
}
