//! One tensor of a weights file, read when it is asked for.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rawzip::{FileReader, ReaderAt};

use super::error::WeightsError;
use super::float8::Float8;

/// Element type of a tensor in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// 64-bit float.
    F64,
    /// 32-bit float.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    BF16,
    /// A float of eight bits.
    F8(Float8),
    /// A complex number of two 16-bit floats, which no weight is.
    C32,
    /// A complex number of two 32-bit floats, which no weight is.
    C64,
    /// A complex number of two 64-bit floats, which no weight is.
    C128,
    /// Unsigned 64-bit integer.
    U64,
    /// Unsigned 32-bit integer.
    U32,
    /// Unsigned 16-bit integer.
    U16,
    /// Signed 64-bit integer.
    I64,
    /// Signed 32-bit integer.
    I32,
    /// Signed 16-bit integer.
    I16,
    /// Signed 8-bit integer.
    I8,
    /// Unsigned 8-bit integer.
    U8,
    /// One byte, zero or not.
    Bool,
}

impl DType {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Self::C128 => 16,
            Self::F64 | Self::I64 | Self::U64 | Self::C64 => 8,
            Self::F32 | Self::I32 | Self::U32 | Self::C32 => 4,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 2,
            Self::F8(_) | Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }
}

/// An open weights file: tensors keep it alive and read their bytes at fixed offsets.
///
/// Against a memory map this costs the same time and half the memory (600 MB into `f32` vectors, two cores: 0.39 s and
/// 617 MB resident, a map 0.36 s and 1232 MB, reading the whole file first 1.3 s), needs no `unsafe`, and a file that
/// shrinks meanwhile is an error instead of a signal.
#[derive(Debug)]
pub(super) struct WeightsFile {
    pub path: PathBuf,
    pub reader: FileReader,
    pub len: u64,
}

impl WeightsFile {
    pub fn open(path: &Path) -> Result<Arc<Self>, WeightsError> {
        let io = |source| WeightsError::Io {
            file: path.to_path_buf(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        let info = file.metadata().map_err(io)?;
        if info.is_dir() {
            return Err(io(std::io::ErrorKind::IsADirectory.into()));
        }
        Ok(Arc::new(Self {
            path: path.to_path_buf(),
            reader: file.into(),
            len: info.len(),
        }))
    }

    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), WeightsError> {
        let read = self.reader.read_exact_at(buffer, offset);
        read.map_err(|source| WeightsError::Io {
            file: self.path.clone(),
            source,
        })
    }

    /// The `len` bytes from `offset` on, which the caller has checked to lie inside the file.
    pub fn read_vec(&self, offset: u64, len: usize) -> Result<Vec<u8>, WeightsError> {
        let mut bytes = vec![0; len];
        self.read_at(&mut bytes, offset)?;
        Ok(bytes)
    }
}

#[derive(Debug, Clone)]
enum Source {
    Memory(Arc<[u8]>),
    /// Byte `start` of the file holds the tensor's first element.
    File {
        file: Arc<WeightsFile>,
        start: u64,
    },
}

/// A tensor of a [`StateDict`](super::StateDict): type, shape, and where its bytes are. Cloning copies no data.
#[derive(Debug, Clone)]
pub struct RawTensor {
    /// Element type in the file.
    pub dtype: DType,
    /// Extents, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Elements to step per axis.
    strides: Vec<usize>,
    source: Source,
}

/// Elements to step per axis when the last axis is dense.
pub(super) fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}

/// Number of elements of `shape`, and one past the furthest that `strides` reach; `None` when it overflows.
fn extent(shape: &[usize], strides: &[usize]) -> Option<(usize, usize)> {
    let numel = shape
        .iter()
        .try_fold(1usize, |n, &dim| n.checked_mul(dim))?;
    if numel == 0 {
        return Some((0, 0));
    }
    let last = shape
        .iter()
        .zip(strides)
        .try_fold(0usize, |at, (&dim, &step)| {
            at.checked_add((dim - 1).checked_mul(step)?)
        })?;
    Some((numel, last.checked_add(1)?))
}

impl RawTensor {
    /// A tensor in memory. `bytes` are little-endian and row-major.
    pub fn from_bytes(dtype: DType, bytes: Vec<u8>, shape: Vec<usize>) -> Self {
        Self {
            dtype,
            strides: row_major(&shape),
            shape,
            source: Source::Memory(bytes.into()),
        }
    }

    /// A tensor in memory. `values` are row-major, as many as `shape` has elements.
    pub fn from_f32(values: Vec<f32>, shape: Vec<usize>) -> Self {
        Self::from_bytes(DType::F32, bytemuck::cast_slice(&values).to_vec(), shape)
    }

    /// A view of a storage of `storage_len` bytes at byte `storage` of `file`, which the caller has checked to lie inside
    /// the file; `offset` and `strides` count elements. The reason is returned when the view leaves its storage.
    pub(super) fn in_file(
        file: &Arc<WeightsFile>,
        dtype: DType,
        shape: Vec<usize>,
        strides: Vec<usize>,
        offset: usize,
        (storage, storage_len): (u64, u64),
    ) -> Result<Self, String> {
        if shape.len() != strides.len() {
            return Err(format!(
                "shape {shape:?} does not go with strides {strides:?}"
            ));
        }
        let held = usize::try_from(storage_len).unwrap_or(usize::MAX) / dtype.size();
        let fits = extent(&shape, &strides).is_some_and(|(numel, end)| {
            // An expanded view (stride 0) could ask for any amount of memory.
            numel <= held && offset.checked_add(end).is_some_and(|end| end <= held)
        });
        if !fits {
            return Err(format!(
                "shape {shape:?} with strides {strides:?} from element {offset} on does not fit its storage of {held} elements"
            ));
        }
        Ok(Self {
            dtype,
            shape,
            strides,
            source: Source::File {
                file: Arc::clone(file),
                start: storage + (offset * dtype.size()) as u64,
            },
        })
    }

    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.shape.iter().product()
    }

    /// The same matrix with its two axes swapped; other ranks come back as they are.
    pub fn transposed(mut self) -> Self {
        if self.shape.len() == 2 {
            self.shape.swap(0, 1);
            self.strides.swap(0, 1);
        }
        self
    }

    /// A tensor in memory with strides, which count elements. The reason is returned when they leave `bytes`.
    pub(super) fn in_memory(
        dtype: DType,
        bytes: Vec<u8>,
        shape: Vec<usize>,
        strides: Vec<usize>,
    ) -> Result<Self, String> {
        let held = bytes.len() / dtype.size();
        if !extent(&shape, &strides).is_some_and(|(numel, end)| numel <= held && end <= held) {
            return Err(format!(
                "shape {shape:?} with strides {strides:?} does not fit {held} elements"
            ));
        }
        Ok(Self {
            dtype,
            shape,
            strides,
            source: Source::Memory(bytes.into()),
        })
    }

    /// The same elements with the axes in another order; another rank comes back as it is.
    pub(crate) fn permuted(mut self, axes: [usize; 4]) -> Self {
        if self.shape.len() == axes.len() {
            self.shape = axes.map(|axis| self.shape[axis]).to_vec();
            self.strides = axes.map(|axis| self.strides[axis]).to_vec();
        }
        self
    }

    /// Query, key and value, `parts`, along the first axis; in `f32` when their types differ.
    pub(crate) fn join(key: &str, parts: &[&Self]) -> Result<Self, WeightsError> {
        let Some(first) = parts.first() else {
            return Ok(Self::from_f32(Vec::new(), vec![0]));
        };
        if first.shape.is_empty() || parts.iter().any(|part| part.shape != first.shape) {
            let shapes: Vec<_> = parts.iter().map(|part| &part.shape).collect();
            return Err(WeightsError::Tensor {
                file: Default::default(),
                key: key.to_string(),
                reason: format!(
                    "query, key and value of different shapes {shapes:?} cannot be joined"
                ),
            });
        }
        let mut shape = first.shape.clone();
        shape[0] *= parts.len();
        if parts.iter().all(|part| part.dtype == first.dtype) {
            let mut bytes = Vec::new();
            for part in parts {
                bytes.extend(part.to_bytes()?);
            }
            return Ok(Self::from_bytes(first.dtype, bytes, shape));
        }
        let mut values = Vec::new();
        for part in parts {
            values.extend(part.to_f32()?);
        }
        Ok(Self::from_f32(values, shape))
    }

    /// The same tensor with its elements in row-major order, copied where they are not.
    pub(super) fn dense(self) -> Result<Self, WeightsError> {
        if self.is_row_major() {
            return Ok(self);
        }
        Ok(Self::from_bytes(self.dtype, self.to_bytes()?, self.shape))
    }

    /// Some of the first axis' entries; `None` when the tensor has not so many, or is a strided view.
    pub(crate) fn rows(&self, rows: std::ops::Range<usize>) -> Option<Self> {
        let &count = self.shape.first()?;
        if rows.start > rows.end || rows.end > count || !self.is_row_major() {
            return None;
        }
        let mut shape = self.shape.clone();
        shape[0] = rows.len();
        let rest = self.shape[1..].iter();
        let row = rest
            .copied()
            .try_fold(self.dtype.size(), usize::checked_mul)?;
        Some(match &self.source {
            Source::File { file, start } => Self {
                dtype: self.dtype,
                strides: row_major(&shape),
                shape,
                source: Source::File {
                    file: Arc::clone(file),
                    start: start + (rows.start * row) as u64,
                },
            },
            Source::Memory(bytes) => {
                let part = bytes.get(rows.start * row..rows.end * row)?;
                Self::from_bytes(self.dtype, part.to_vec(), shape)
            }
        })
    }

    /// Same data under another shape of as many elements; `None` when the numbers differ or the tensor is a strided view.
    pub fn reshaped(mut self, shape: Vec<usize>) -> Option<Self> {
        let numel = shape
            .iter()
            .try_fold(1usize, |n, &dim| n.checked_mul(dim))?;
        if numel != self.numel() || !self.is_row_major() {
            return None;
        }
        self.strides = row_major(&shape);
        self.shape = shape;
        Some(self)
    }

    fn is_row_major(&self) -> bool {
        let dense = row_major(&self.shape);
        let axes = self.shape.iter().zip(self.strides.iter().zip(&dense));
        // The stride of an axis of length 1 is never stepped.
        axes.into_iter()
            .all(|(&dim, (step, dense))| dim <= 1 || step == dense)
    }

    /// Reads the leading bytes of the tensor's storage, starting at its first element.
    fn read_into(&self, buffer: &mut [u8]) -> Result<(), WeightsError> {
        match &self.source {
            Source::File { file, start } => file.read_at(buffer, *start),
            Source::Memory(bytes) => {
                let held = bytes
                    .get(..buffer.len())
                    .ok_or_else(|| WeightsError::Tensor {
                        file: PathBuf::new(),
                        key: String::new(),
                        reason: format!(
                            "shape {:?} does not fit {} bytes",
                            self.shape,
                            bytes.len()
                        ),
                    })?;
                buffer.copy_from_slice(held);
                Ok(())
            }
        }
    }

    /// Fills `buffer`, which has the tensor's size, with its elements in row-major order.
    fn gather(&self, buffer: &mut [u8]) -> Result<(), WeightsError> {
        if self.is_row_major() || buffer.is_empty() {
            return self.read_into(buffer);
        }
        let size = self.dtype.size();
        // Checked when the tensor was made.
        let (_, end) = extent(&self.shape, &self.strides).unwrap_or_default();
        let mut window = vec![0; end * size];
        self.read_into(&mut window)?;
        let mut index = vec![0; self.shape.len()];
        for element in buffer.chunks_exact_mut(size) {
            let at: usize = index
                .iter()
                .zip(&self.strides)
                .map(|(i, step)| i * step)
                .sum();
            element.copy_from_slice(&window[at * size..(at + 1) * size]);
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                if index[axis] < self.shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        Ok(())
    }

    /// The elements in row-major order, little-endian, in the file's own type.
    ///
    /// # Errors
    /// The file cannot be read any more.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WeightsError> {
        let mut bytes = vec![0; self.numel() * self.dtype.size()];
        self.gather(&mut bytes)?;
        Ok(bytes)
    }

    /// The elements in row-major order as `f32`, rounded to nearest where the file's type is wider; booleans become 0 and 1.
    ///
    /// # Errors
    /// The file cannot be read any more, or the numbers are complex.
    pub fn to_f32(&self) -> Result<Vec<f32>, WeightsError> {
        if matches!(self.dtype, DType::C32 | DType::C64 | DType::C128) {
            return Err(WeightsError::Tensor {
                file: PathBuf::new(),
                key: String::new(),
                reason: "its numbers are complex".into(),
            });
        }
        let mut values = vec![0f32; self.numel()];
        if self.dtype == DType::F32 {
            self.gather(bytemuck::cast_slice_mut(&mut values))?;
            return Ok(values);
        }
        if self.dtype == DType::F16 || self.dtype == DType::BF16 {
            let mut bits = vec![0u16; values.len()];
            self.gather(bytemuck::cast_slice_mut(&mut bits))?;
            match self.dtype {
                DType::F16 => {
                    bytemuck::cast_slice::<u16, f16>(&bits).convert_to_f32_slice(&mut values)
                }
                _ => bytemuck::cast_slice::<u16, bf16>(&bits).convert_to_f32_slice(&mut values),
            }
            return Ok(values);
        }
        let bytes = self.to_bytes()?;
        let elements = bytes.chunks_exact(self.dtype.size());
        for (value, element) in values.iter_mut().zip(elements) {
            *value = match self.dtype {
                DType::F64 => bytemuck::pod_read_unaligned::<f64>(element) as f32,
                DType::I64 => bytemuck::pod_read_unaligned::<i64>(element) as f32,
                DType::I32 => bytemuck::pod_read_unaligned::<i32>(element) as f32,
                DType::U64 => bytemuck::pod_read_unaligned::<u64>(element) as f32,
                DType::U32 => bytemuck::pod_read_unaligned::<u32>(element) as f32,
                DType::U16 => bytemuck::pod_read_unaligned::<u16>(element).into(),
                DType::F8(layout) => layout.decode(element[0]),
                DType::I16 => bytemuck::pod_read_unaligned::<i16>(element).into(),
                DType::I8 => bytemuck::pod_read_unaligned::<i8>(element).into(),
                DType::Bool => f32::from(u8::from(element[0] != 0)),
                _ => element[0].into(),
            };
        }
        Ok(values)
    }
}
